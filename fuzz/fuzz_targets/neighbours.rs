//! A peer that keeps to HTTP/2 and does what it likes to all tunnels but one, which works on as if it were alone.
#![no_main]

// Also run by `cargo test`, with the inputs stored for this target.
#[path = "../../hbone/tests/corpus/neighbours/mod.rs"]
mod neighbours;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| neighbours::run(input));
