//! Errors as people read them.

use std::{error::Error, fmt::Write};

/// An error with its causes on one line of bounded length: parts of it come from files, peers and authorities.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX).map(printable).collect()
}

/// Characters that are kept.
const MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn it_is_one_line_of_bounded_length_with_every_cause() {
        #[derive(Debug, thiserror::Error)]
        #[error("no certificate")]
        struct Outer(#[source] io::Error);

        let outer = |text: &str| Outer(io::Error::other(text.to_owned()));
        assert_eq!(describe(&outer("a\nINFO b")), "no certificate: a INFO b");
        assert_eq!(describe(&outer(&"x".repeat(10_000))).chars().count(), MAX);
    }
}
