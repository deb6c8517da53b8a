//! Which of a source's identities a connection is made with.

use crate::SpiffeId;

/// Chooses the identity that is presented in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertSelector(Choice);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Fixed(SpiffeId),
}

impl CertSelector {
    /// Always this identity, with whichever certificate its source has for it at the time of the handshake.
    pub fn fixed(id: SpiffeId) -> Self {
        Self(Choice::Fixed(id))
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        let Choice::Fixed(id) = &self.0;
        id
    }
}
