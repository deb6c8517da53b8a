use std::fmt;

/// Why a stream was reset or a connection closed: an HTTP/2 error code (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// Nothing went wrong.
    NoError,
    /// The other side violated the protocol.
    Protocol,
    /// The sender failed for reasons of its own.
    Internal,
    /// The other side sent more than it was allowed to.
    FlowControl,
    /// SETTINGS went unacknowledged.
    SettingsTimeout,
    /// A frame arrived for a stream already closed.
    StreamClosed,
    /// A frame of an invalid size arrived.
    FrameSize,
    /// The request was not processed at all; it may be repeated.
    Refused,
    /// The sender is no longer interested.
    Cancel,
    /// The header compression state is lost.
    Compression,
    /// The TCP connection at the end of the tunnel was reset or failed (RFC 9113 §8.5).
    ConnectError,
    /// The other side behaves in a way that might cause excessive load.
    EnhanceYourCalm,
    /// The transport below is not secure enough.
    InadequateSecurity,
    /// HTTP/1.1 is required.
    Http11Required,
    /// A code without a meaning of its own.
    Other(u32),
}

impl ResetReason {
    /// The code on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::NoError => 0x0,
            Self::Protocol => 0x1,
            Self::Internal => 0x2,
            Self::FlowControl => 0x3,
            Self::SettingsTimeout => 0x4,
            Self::StreamClosed => 0x5,
            Self::FrameSize => 0x6,
            Self::Refused => 0x7,
            Self::Cancel => 0x8,
            Self::Compression => 0x9,
            Self::ConnectError => 0xa,
            Self::EnhanceYourCalm => 0xb,
            Self::InadequateSecurity => 0xc,
            Self::Http11Required => 0xd,
            Self::Other(code) => code,
        }
    }
}

impl From<u32> for ResetReason {
    fn from(code: u32) -> Self {
        match code {
            0x0 => Self::NoError,
            0x1 => Self::Protocol,
            0x2 => Self::Internal,
            0x3 => Self::FlowControl,
            0x4 => Self::SettingsTimeout,
            0x5 => Self::StreamClosed,
            0x6 => Self::FrameSize,
            0x7 => Self::Refused,
            0x8 => Self::Cancel,
            0x9 => Self::Compression,
            0xa => Self::ConnectError,
            0xb => Self::EnhanceYourCalm,
            0xc => Self::InadequateSecurity,
            0xd => Self::Http11Required,
            code => Self::Other(code),
        }
    }
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::NoError => "NO_ERROR",
            Self::Protocol => "PROTOCOL_ERROR",
            Self::Internal => "INTERNAL_ERROR",
            Self::FlowControl => "FLOW_CONTROL_ERROR",
            Self::SettingsTimeout => "SETTINGS_TIMEOUT",
            Self::StreamClosed => "STREAM_CLOSED",
            Self::FrameSize => "FRAME_SIZE_ERROR",
            Self::Refused => "REFUSED_STREAM",
            Self::Cancel => "CANCEL",
            Self::Compression => "COMPRESSION_ERROR",
            Self::ConnectError => "CONNECT_ERROR",
            Self::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
            Self::InadequateSecurity => "INADEQUATE_SECURITY",
            Self::Http11Required => "HTTP_1_1_REQUIRED",
            Self::Other(code) => return write!(f, "error code {code:#x}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 0..0x20 {
            let reason = ResetReason::from(code);
            assert_eq!(reason.code(), code);
            assert_eq!(matches!(reason, ResetReason::Other(_)), code > 0xd);
        }
    }
}
