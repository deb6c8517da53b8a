//! The start of a SOCKS5 connection, in any pieces.
#![no_main]

// Private to the proxy; compiled here as they are, so that nothing has to be exported for it.
#[path = "../../mesh-proxy/src/socks5/properties.rs"]
mod properties;
#[path = "../../mesh-proxy/src/socks5/protocol.rs"]
mod protocol;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| properties::check(input));
