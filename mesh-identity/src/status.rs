//! How an identity is, for people.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::{SpiffeId, X509Svid};

/// How one identity of a source is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdentityStatus {
    /// Whose.
    pub id: SpiffeId,
    /// What it can be used for.
    pub state: IdentityState,
    /// The present certificate: its validity and serial number.
    pub svid: Option<Arc<X509Svid>>,
    /// When the certificate is to be renewed, or what failed is to be tried again; `None` during a call.
    pub next_attempt: Option<SystemTime>,
    /// When the authority last issued a certificate for it.
    pub last_success: Option<SystemTime>,
    /// Why the last attempt failed, if it did. A certificate may be there all the same.
    pub last_error: Option<Arc<str>>,
    /// How many attempts failed since the last that did not.
    pub failures: u32,
}

impl IdentityStatus {
    /// The status of an identity of which no more is known than its certificate, if there is one.
    pub fn new(id: SpiffeId, svid: Option<Arc<X509Svid>>) -> Self {
        let state = if svid.is_some() { IdentityState::Available } else { IdentityState::Initializing };
        Self { id, state, svid, next_attempt: None, last_success: None, last_error: None, failures: 0 }
    }

    /// The same at a moment, at which the certificate may be over.
    pub(crate) fn at(id: SpiffeId, svid: Option<Arc<X509Svid>>, now: SystemTime) -> Self {
        let is_over = svid.as_ref().is_some_and(|svid| svid.not_after() < now);
        let mut status = Self::new(id, svid);
        if is_over {
            status.state = IdentityState::Unavailable("certificate has expired".into());
        }
        status
    }
}

/// What an identity can be used for; displayed as Istio's configuration dump words it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdentityState {
    /// There is a certificate in date.
    Available,
    /// The first certificate has not come yet.
    Initializing,
    /// There is no certificate, and why.
    Unavailable(Arc<str>),
}

impl fmt::Display for IdentityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Available => f.write_str("Available"),
            Self::Initializing => f.write_str("Initializing"),
            Self::Unavailable(reason) => write!(f, "Unavailable: {reason}"),
        }
    }
}
