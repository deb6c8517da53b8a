//! A peer that sends any frames in any order, to a client and to a server.
#![no_main]

// Also run by `cargo test`, with the inputs stored for this target.
#[path = "../../hbone/tests/corpus/frame_schedule.rs"]
mod frame_schedule;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| frame_schedule::run(input));
