//! What parses is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_identity::SpiffeId;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
});
