//! Operations on both ends of a connection in any order, over a network that delivers as it likes or breaks.
#![no_main]

// Also run by `cargo test`, with the inputs stored for this target.
#[path = "../../hbone/tests/corpus/operations/mod.rs"]
mod operations;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| operations::run(input));
