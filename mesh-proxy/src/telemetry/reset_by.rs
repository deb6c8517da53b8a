use std::fmt;

/// Which end of a connection reset it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetBy {
    /// The client's, or whoever is between us and it.
    Downstream,
    /// The server's, or whoever is between us and it.
    Upstream,
}

impl ResetBy {
    /// The word used in the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

impl fmt::Display for ResetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
