//! What a SPIFFE agent sends.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz_agent_message(bytes));

#[cfg(fuzzing)]
use mesh_identity::fuzzing::agent_message as fuzz_agent_message;

/// Without a fuzzer the crate does not show its parsers.
#[cfg(not(fuzzing))]
fn fuzz_agent_message(_: &[u8]) {}
