//! What a certificate authority answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz_istio_answer(bytes));

#[cfg(fuzzing)]
use mesh_identity::fuzzing::istio_answer as fuzz_istio_answer;

/// Without a fuzzer the crate does not show its parsers.
#[cfg(not(fuzzing))]
fn fuzz_istio_answer(_: &[u8]) {}
