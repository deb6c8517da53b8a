use http::StatusCode;

/// How a server declines a CONNECT request.
///
/// The statuses are those that Istio's node proxy sends, since its operators and peers tell the cases apart by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The request is malformed or names a destination that is not served here: status 400.
    BadRequest,
    /// Policy does not allow it: status 401.
    Denied,
    /// The destination cannot be reached now: status 503. Another instance may do better.
    Unavailable,
    /// Nothing was done about it, so the client may safely repeat it elsewhere: RST_STREAM with REFUSED_STREAM
    /// (RFC 9113 §8.7), no status.
    Unprocessed,
}

impl Refusal {
    /// The status sent to the client, if any.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Self::BadRequest => Some(StatusCode::BAD_REQUEST),
            Self::Denied => Some(StatusCode::UNAUTHORIZED),
            Self::Unavailable => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::Unprocessed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_references() {
        let statuses = [Refusal::BadRequest, Refusal::Denied, Refusal::Unavailable, Refusal::Unprocessed]
            .map(|refusal| refusal.status().map(|status| status.as_u16()));
        assert_eq!(statuses, [Some(400), Some(401), Some(503), None]);
    }
}
