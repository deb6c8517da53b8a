//! Failures on purpose.

use std::{str::FromStr, time::Duration};

use crate::duration;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// There is no answer.
    Hang,
    /// The answer has no roots.
    LeafOnly,
    /// The caller is not believed.
    Refuse,
    /// The answer takes its time.
    Slow(Duration),
    /// The authority is not ready.
    Unavailable,
    /// The certificate is somebody else's.
    WrongIdentity,
    /// The certificate is for another key.
    WrongKey,
}

impl FromStr for Failure {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "hang" => Self::Hang,
            "leaf-only" => Self::LeafOnly,
            "refuse" => Self::Refuse,
            "unavailable" => Self::Unavailable,
            "wrong-identity" => Self::WrongIdentity,
            "wrong-key" => Self::WrongKey,
            _ => Self::Slow(text.strip_prefix("slow=").and_then(duration::parse).ok_or(())?),
        })
    }
}
