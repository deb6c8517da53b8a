//! Header lines, one per line of the input: any is read, and what was read is written such that it is read back.
#![no_main]

use hbone::Baggage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let baggage = Baggage::from_lines(text.lines());
    let written = baggage.to_header_value();
    let written = written.to_str().expect("visible ASCII");
    // What is escaped grows, up to threefold, and the end of something very long is not looked at.
    if written.len() < 8192 {
        assert_eq!(Baggage::from_lines([written]), baggage);
    }
});
