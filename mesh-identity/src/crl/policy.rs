//! What is done when the lists do not settle whether a certificate is revoked.

/// What becomes of a peer whose standing is uncertain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncertain {
    /// It is taken, and counted.
    Allow,
    /// It is refused.
    Refuse,
}

/// How certificates are treated that the revocation lists say nothing certain about. There is no default:
/// whoever switches revocation on says which way it fails.
///
/// A certificate that a list names is refused under every policy, however old that list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationPolicy {
    unknown: Uncertain,
    stale: Uncertain,
}

impl RevocationPolicy {
    /// Takes a peer unless a list names a certificate of its chain: what Istio's ztunnel does. A lost or outdated
    /// list costs the protection, not the traffic.
    pub const FAIL_OPEN: Self = Self { unknown: Uncertain::Allow, stale: Uncertain::Allow };

    /// Takes a peer only if a current list of each issuer in its chain, the root included, is there and does not
    /// name the certificate. Before the first list is loaded nobody is taken.
    pub const FAIL_CLOSED: Self = Self { unknown: Uncertain::Refuse, stale: Uncertain::Refuse };

    /// Sets what happens when no list of a certificate's issuer is there.
    #[must_use]
    pub const fn unknown(self, unknown: Uncertain) -> Self {
        Self { unknown, ..self }
    }

    /// Sets what happens when the newest list of a certificate's issuer should have been replaced by now (its
    /// `nextUpdate` has passed).
    #[must_use]
    pub const fn stale(self, stale: Uncertain) -> Self {
        Self { stale, ..self }
    }

    pub(crate) const fn refuses_unknown(self) -> bool {
        matches!(self.unknown, Uncertain::Refuse)
    }

    pub(crate) const fn refuses_stale(self) -> bool {
        matches!(self.stale, Uncertain::Refuse)
    }
}
