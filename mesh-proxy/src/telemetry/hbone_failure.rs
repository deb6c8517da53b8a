use hbone::ConnectionError;

use crate::tls::Lost;

/// What ended an HBONE connection that did not end in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HboneFailure {
    /// The peer did something too often.
    Flood,
    /// The peer closed it, giving an error as the reason.
    GoAway,
    /// The byte stream below failed, or ended without a goodbye.
    Io,
    /// The peer did not answer a ping.
    Keepalive,
    /// The peer violated the protocol.
    Protocol,
    /// A certificate of either side was revoked, or its root withdrawn.
    Untrusted,
}

impl HboneFailure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Flood, Self::GoAway, Self::Io, Self::Keepalive, Self::Protocol, Self::Untrusted];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::GoAway => "goaway",
            Self::Io => "io",
            Self::Keepalive => "keepalive",
            Self::Protocol => "protocol",
            Self::Untrusted => "untrusted",
        }
    }

    /// What an error says; `None` for an end that is our own doing.
    pub(crate) fn of(error: &ConnectionError) -> Option<Self> {
        match (error, Lost::find(error)) {
            (_, Some(Lost::Age)) | (ConnectionError::Closed, _) => None,
            (_, Some(_)) => Some(Self::Untrusted),
            (ConnectionError::GoAway(_), None) => Some(Self::GoAway),
            (ConnectionError::Io(_), None) => Some(Self::Io),
            (ConnectionError::KeepaliveTimeout(_), None) => Some(Self::Keepalive),
            (ConnectionError::PeerFlood(_), None) => Some(Self::Flood),
            // Whatever else there will be.
            (_, None) => Some(Self::Protocol),
        }
    }

    /// Whether it is the peer's fault, rather than the network's or an ordinary end.
    #[cfg(feature = "telemetry")]
    pub(super) fn is_misbehaviour(self) -> bool {
        matches!(self, Self::Flood | Self::Protocol)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use hbone::{Flood, ResetReason};

    use super::*;

    #[test]
    fn every_end_that_is_not_our_doing_has_a_name() {
        let table = [
            (ConnectionError::Closed, None),
            (ConnectionError::GoAway(ResetReason::Protocol), Some(HboneFailure::GoAway)),
            (ConnectionError::Io(io::ErrorKind::ConnectionReset.into()), Some(HboneFailure::Io)),
            (ConnectionError::Io(Lost::Age.into()), None),
            (ConnectionError::Io(Lost::Revoked.into()), Some(HboneFailure::Untrusted)),
            (ConnectionError::KeepaliveTimeout(Duration::from_secs(20)), Some(HboneFailure::Keepalive)),
            (ConnectionError::PeerFlood(Flood::ControlFrames), Some(HboneFailure::Flood)),
            (ConnectionError::Protocol(ResetReason::FrameSize), Some(HboneFailure::Protocol)),
        ];
        for (error, failure) in table {
            assert_eq!(HboneFailure::of(&error), failure, "{error:?}");
        }
    }
}
