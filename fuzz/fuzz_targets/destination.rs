//! An authority: what parses is normal already, and has an address or a name.
#![no_main]

use hbone::Destination;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(destination) = text.parse::<Destination>() {
        assert_eq!(destination.to_string().parse(), Ok(destination.clone()));
        assert_ne!(destination.socket_addr().is_some(), destination.name().is_some());
        assert_ne!(destination.port(), 0);
    }
});
