use std::ffi::OsString;

use thiserror::Error;

pub(super) const HELP: &str = "\
usage: demo [--json] [--one-process] [--help]

Makes two pods on two nodes out of network namespaces, puts a node proxy in front of each, sends real
traffic between them and shows what became of it. Nothing outside of it is touched, and nothing stays.

  --json          print the report as JSON; progress still goes to standard error
  --one-process   use loopback addresses and SOCKS5 in one process, as where namespaces are impossible
  --help          print this text

The exit code is 0 if everything was as the mesh promises, 1 if not, 2 for a wrong argument.
NO_COLOR=1 turns colours off.
";

/// What the command line asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Help,
    Run(Options),
}

/// How to run.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Options {
    pub(super) json: bool,
    pub(super) one_process: bool,
}

impl Options {
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Wish, ArgumentError> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.to_str() {
                Some("--json") => options.json = true,
                Some("--one-process") => options.one_process = true,
                Some("--help" | "-h") => return Ok(Wish::Help),
                _ => return Err(ArgumentError { argument: argument.to_string_lossy().into_owned() }),
            }
        }
        Ok(Wish::Run(options))
    }
}

/// An argument that means nothing here.
#[derive(Debug, Eq, Error, PartialEq)]
#[error("unknown argument: {argument}")]
pub(super) struct ArgumentError {
    argument: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Wish, ArgumentError> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn known_arguments_are_taken_in_any_order() {
        assert_eq!(parse(&[]), Ok(Wish::Run(Options::default())));
        let both = Options { json: true, one_process: true };
        assert_eq!(parse(&["--one-process", "--json"]), Ok(Wish::Run(both)));
        assert_eq!(parse(&["--json", "-h"]), Ok(Wish::Help));
    }

    #[test]
    fn unknown_arguments_are_refused() {
        for unknown in ["--jsno", "json", "", "-j"] {
            assert_eq!(parse(&["--json", unknown]), Err(ArgumentError { argument: unknown.to_owned() }));
        }
    }
}
