//! What holds for any bytes that a SOCKS5 client may send: checked by the fuzz target of that name, which compiles this
//! file as it is, and here with the inputs stored for it.

use std::fmt::Debug;

use super::protocol::{ConnectRequest, Greeting, LONGEST_MESSAGE, Reply};

/// The start of a connection, in any pieces: what a message says does not depend on what came with it, and it is
/// understood or refused before it gets longer than any can be.
pub(crate) fn check(input: &[u8]) {
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
}

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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn hold_for_every_stored_input() {
        // A published crate comes without them.
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/socks5");
        let Ok(inputs) = fs::read_dir(corpus) else { return };
        for input in inputs {
            super::check(&fs::read(input.unwrap().path()).unwrap());
        }
    }
}
