//! Header lines, one per line of the input: any is read, and what was read is written such that it is read back.
#![no_main]

use hbone::Forwarded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let forwarded = Forwarded::from_lines(text.lines());
    let written = forwarded.to_header_value();
    assert_eq!(Forwarded::from_lines([written.to_str().expect("visible ASCII")]), forwarded);
});
