//! How mesh connections are made secure, beyond who they are between.

use std::time::Duration;

use crate::{PeerVerifier, Revocation};

/// What a TLS configuration does beyond proving and checking identities. The default is what a mesh needs: TLS 1.3 only,
/// the hybrid post-quantum group preferred, no tolerance for clocks, no revocation lists.
///
/// ```
/// use std::time::Duration;
/// use mesh_identity::{KeyExchange, Revocation, RevocationPolicy, TlsSettings};
///
/// let settings = TlsSettings::default()
///     .key_exchange(KeyExchange::RequireHybrid)
///     .clock_skew(Duration::from_secs(30))
///     .revocation(Revocation::new(RevocationPolicy::FAIL_CLOSED));
/// # let _ = settings;
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub(super) tls12: bool,
    pub(super) key_exchange: KeyExchange,
    pub(super) fips: bool,
    clock_skew: Duration,
    revocation: Option<Revocation>,
}

impl TlsSettings {
    /// Speaks TLS 1.2 as well, with ECDHE, AES-GCM and the extended master secret (RFC 7627) only. For a peer that
    /// cannot do better, such as an Envoy under `COMPLIANCE_POLICY=fips-140-2`; what two
    /// peers agree on is TLS 1.3 wherever both have it.
    #[must_use]
    pub fn allow_tls12(self) -> Self {
        Self { tls12: true, ..self }
    }

    /// Sets which key exchange is taken.
    #[must_use]
    pub fn key_exchange(self, key_exchange: KeyExchange) -> Self {
        Self { key_exchange, ..self }
    }

    /// Refuses to build a configuration unless everything in it is FIPS-validated, as the provider says.
    #[must_use]
    pub fn require_fips(self) -> Self {
        Self { fips: true, ..self }
    }

    /// Takes certificates of peers that became valid, or expired, so much later or earlier than now.
    #[must_use]
    pub fn clock_skew(self, clock_skew: Duration) -> Self {
        Self { clock_skew, ..self }
    }

    /// Asks these revocation lists about every peer, as they are at the time of each handshake.
    #[must_use]
    pub fn revocation(self, revocation: Revocation) -> Self {
        Self { revocation: Some(revocation), ..self }
    }

    pub(super) fn lists(&self) -> Option<&Revocation> {
        self.revocation.as_ref()
    }

    pub(super) fn apply(&self, verifier: PeerVerifier) -> PeerVerifier {
        let verifier = verifier.clock_skew(self.clock_skew);
        match &self.revocation {
            Some(revocation) => verifier.revocation(revocation.clone()),
            None => verifier,
        }
    }
}

/// Which key exchange is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyExchange {
    /// X25519MLKEM768 before all others, and then what the provider has, in its order. Whom we connect to chooses; from
    /// those who connect to us, the first of their groups that we have is taken, as rustls does.
    #[default]
    PreferHybrid,
    /// X25519MLKEM768 or no connection: what is recorded today stays secret from tomorrow's quantum computers. Istio's
    /// `COMPLIANCE_POLICY=pqc`. Excludes TLS 1.2.
    RequireHybrid,
}
