//! Why an open connection ends that nobody closed.

use std::{error::Error, fmt, io};

/// Why an open connection ends though both its ends would go on.
///
/// It reaches whoever uses the connection as the error of a read, through HTTP/2, which keeps of such an error its kind
/// and its text. So the text is all there is, and [`find`](Self::find) goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is as old as connections may be.
    Age,
    /// A certificate of ours is revoked.
    OwnRevoked,
    /// The root that vouched for our certificate is withdrawn.
    OwnWithdrawn,
    /// A certificate of the peer is revoked.
    Revoked,
    /// The root that vouched for the peer is withdrawn.
    Withdrawn,
}

impl Lost {
    const ALL: [Self; 5] = [Self::Age, Self::OwnRevoked, Self::OwnWithdrawn, Self::Revoked, Self::Withdrawn];

    /// Finds it among the sources of an error.
    pub(crate) fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && io.kind() == KIND
                && let Some(inner) = io.get_ref()
            {
                let text = inner.to_string();
                return Self::ALL.into_iter().find(|lost| lost.text() == text);
            }
            next = error.source();
        }
        None
    }

    /// Where the reference has a text for it, the same.
    fn text(self) -> &'static str {
        match self {
            Self::Age => "as old as connections may be",
            Self::OwnRevoked => "own certificate revoked by CRL",
            Self::OwnWithdrawn => "root of own certificate withdrawn",
            Self::Revoked => "peer certificate revoked by CRL",
            Self::Withdrawn => "root of peer certificate withdrawn",
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for Lost {}

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        Self::new(KIND, lost)
    }
}

/// What no read of a socket fails with.
const KIND: io::ErrorKind = io::ErrorKind::ConnectionAborted;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("http/2")]
    struct Outer(#[source] io::Error);

    #[test]
    fn is_found_by_kind_and_text_and_by_neither_alone() {
        for lost in Lost::ALL {
            let error = Outer(lost.into());
            assert_eq!(Lost::find(&error), Some(lost));
            // As HTTP/2 passes it on.
            let error = Outer(io::Error::new(KIND, lost.to_string()));
            assert_eq!(Lost::find(&error), Some(lost));
            assert_eq!(Lost::find(&io::Error::other(lost)), None);
        }
        assert_eq!(Lost::find(&io::Error::from(KIND)), None);
        assert_eq!(Lost::find(&io::Error::new(KIND, "something else")), None);
    }
}
