//! The start of a SOCKS5 connection, in any pieces: what a message says does not depend on what came with it, and it
//! is understood or refused before it gets longer than any can be.
#![no_main]

// Private to the proxy; compiled here as it is, so that nothing has to be exported for it.
#[path = "../../mesh-proxy/src/socks5/protocol.rs"]
mod protocol;

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use protocol::{ConnectRequest, Greeting, LONGEST_MESSAGE, Reply};

/// Parses ever more of `input`.
fn in_pieces<T: Debug + PartialEq, E: Debug + PartialEq>(
    input: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
) -> Option<Result<(T, usize), E>> {
    let mut answer = None;
    for length in 0..=input.len().min(LONGEST_MESSAGE + 1) {
        let parsed = parse(&input[..length]).transpose();
        assert!(answer.is_none() || answer == parsed, "{answer:?}, then {parsed:?}");
        assert!(parsed.is_some() || length < LONGEST_MESSAGE);
        if let Some(Ok((_, taken))) = parsed {
            assert!(taken <= length);
        }
        answer = parsed;
    }
    answer
}

fuzz_target!(|input: &[u8]| {
    let taken = match in_pieces(input, Greeting::parse) {
        Some(Ok((greeting, taken))) => {
            assert_eq!(greeting.answer()[0], 5);
            taken
        }
        _ => 0,
    };
    match in_pieces(&input[taken..], ConnectRequest::parse) {
        Some(Ok((request, _))) => {
            let name = request.destination.to_string();
            assert!(request.destination.port() == 0 || name.parse().as_ref() == Ok(&request.destination));
        }
        Some(Err(error)) => {
            assert_ne!(error.reply().encode(), Reply::Succeeded.encode());
            assert!(!error.to_string().is_empty());
        }
        None => {}
    }
});
