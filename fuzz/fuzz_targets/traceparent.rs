//! What parses is written as version 00, and read back.
#![no_main]

use hbone::TraceParent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(parent) = text.parse::<TraceParent>() {
        let written = parent.to_string();
        assert_eq!(written.len(), 55);
        assert_eq!(written.parse(), Ok(parent));
    }
});
