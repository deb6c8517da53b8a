use std::{fmt, path::PathBuf};

/// What carries connections from one host to the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Contender {
    /// Nothing: the applications talk to each other.
    Direct,
    /// A pair of Envoys that speak HBONE.
    Envoy {
        /// Where it is installed.
        program: PathBuf,
    },
    /// Two plain TCP relays, captured as the proxies are.
    Relay,
    /// Two node proxies.
    Ztunnel {
        /// Which program, if not ours.
        program: Option<PathBuf>,
        /// Whether it writes its access log.
        access_log: bool,
    },
}

impl Contender {
    /// Whether there are proxies at all.
    pub(super) fn has_hops(&self) -> bool {
        *self != Self::Direct
    }

    /// Whether what crosses the wire is TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        !matches!(self, Self::Direct | Self::Relay)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("no proxy"),
            Self::Envoy { .. } => f.write_str("envoy"),
            Self::Relay => f.write_str("TCP relay"),
            Self::Ztunnel { program, access_log } => {
                match program.as_ref().and_then(|path| path.file_name()) {
                    None => f.write_str("ours")?,
                    Some(name) => f.write_str(&name.to_string_lossy())?,
                }
                f.write_str(if *access_log { " + log" } else { "" })
            }
        }
    }
}
