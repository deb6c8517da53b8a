//! The current revocation lists, shared by everything that verifies.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};

use super::{RevocationListError, RevocationLists, RevocationPolicy};
use crate::{ExpectedPeer, PeerVerifier, Role, TrustBundles, VerifyError, X509Svid};

/// Revocation lists that are replaced while verifiers use them, with the policy for what they leave open, and counters
/// of what came of it.
///
/// Clones share everything. A verifier reads the lists of the moment in each handshake, without a lock; configurations
/// need not be built anew after a reload.
///
/// ```
/// use mesh_identity::{Revocation, RevocationPolicy};
///
/// let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
/// assert!(revocation.load(b"-----BEGIN X509 CRL-----\nnonsense").is_err());
/// assert_eq!(revocation.status().failed_loads, 1); // and what was there before still counts
/// ```
#[derive(Clone)]
pub struct Revocation(Arc<Shared>);

struct Shared {
    policy: RevocationPolicy,
    lists: ArcSwap<RevocationLists>,
    generation: AtomicU64,
    failed_loads: AtomicU64,
    last_error: Mutex<Option<Arc<str>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    refused_clients: AtomicU64,
    refused_servers: AtomicU64,
    stale_allowed: AtomicU64,
    unknown_allowed: AtomicU64,
}

impl Revocation {
    /// No list yet, under `policy`.
    pub fn new(policy: RevocationPolicy) -> Self {
        Self(Arc::new(Shared {
            policy,
            lists: ArcSwap::default(),
            generation: AtomicU64::new(0),
            failed_loads: AtomicU64::new(0),
            last_error: Mutex::default(),
            counters: Counters::default(),
        }))
    }

    /// Replaces the lists. Handshakes from now on see the new ones; connections that stand are for their owner to verify
    /// again ([`concerns`](Self::concerns), [`PeerVerifier::verify`](crate::PeerVerifier::verify)), who learns of
    /// the change by [`generation`](Self::generation).
    pub fn replace(&self, lists: RevocationLists) {
        self.0.lists.store(Arc::new(lists));
        self.record_error(None);
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// Reads lists as [`RevocationLists::parse`] does and replaces the present ones. On an error those stay, and the
    /// failure is counted.
    ///
    /// # Errors
    ///
    /// As [`RevocationLists::parse`].
    pub fn load(&self, bytes: &[u8]) -> Result<(), RevocationListError> {
        match RevocationLists::parse(bytes) {
            Ok(lists) => {
                self.replace(lists);
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Counts a reload that failed before there was anything to read, as of a file that is gone. The lists stay.
    pub fn failed(&self, error: &dyn std::error::Error) {
        self.0.failed_loads.fetch_add(1, Ordering::Relaxed);
        self.record_error(Some(error.to_string().into()));
    }

    /// The present lists.
    pub fn lists(&self) -> Arc<RevocationLists> {
        self.0.lists.load_full()
    }

    /// A number that changes with every replacement, after it.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// What is done about uncertainty.
    pub fn policy(&self) -> RevocationPolicy {
        self.0.policy
    }

    /// What is loaded, for people and metrics.
    pub fn status(&self) -> RevocationStatus {
        let lists = self.0.lists.load();
        RevocationStatus {
            lists: lists.len(),
            revoked_certificates: lists.revoked_certificates(),
            unattributed: lists.unattributed(),
            next_update: lists.next_update(),
            loads: self.generation(),
            failed_loads: self.0.failed_loads.load(Ordering::Relaxed),
            last_error: self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What came of it so far.
    pub fn counts(&self) -> RevocationCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        RevocationCounts {
            refused_clients: read(&counters.refused_clients),
            refused_servers: read(&counters.refused_servers),
            stale_allowed: read(&counters.stale_allowed),
            unknown_allowed: read(&counters.unknown_allowed),
        }
    }

    /// Whether the present lists, under the policy, may refuse a peer with this chain: if not, a connection that stands
    /// need not be verified again after a reload. Costs a look at each certificate, far less than a verification.
    pub fn concerns(&self, chain: &[CertificateDer<'_>]) -> bool {
        self.0.policy.refuses_unknown() || self.0.lists.load().concern(chain)
    }

    /// Counts the end of a connection that stood, as its peer, in this role, turned out to be revoked: for its owner to
    /// call, who verified again. Refusals in handshakes are counted without that.
    pub fn count_ended(&self, peer: Role) {
        self.count_refused(peer);
    }

    /// Whether a list names a certificate of an identity of our own, which peers that have the list will refuse: the error
    /// they will have. `None` too if no path to a root is found, which peers will refuse for that. Nothing is counted.
    pub fn revokes(
        &self,
        svid: &X509Svid,
        bundles: &Arc<TrustBundles>,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Option<VerifyError> {
        let expected = ExpectedPeer::exact([svid.id().clone()]);
        let verifier = PeerVerifier::new(provider, Arc::clone(bundles), expected).revocation(self.clone());
        let (leaf, intermediates) = svid.chain().split_first()?;
        [Role::Client, Role::Server].into_iter().find_map(|role| {
            let error = verifier.verify(leaf, intermediates, role, now).err()?;
            matches!(error, VerifyError::Revoked { .. }).then_some(error)
        })
    }

    pub(crate) fn with_lists<T>(&self, read: impl FnOnce(&RevocationLists) -> T) -> T {
        read(&self.0.lists.load())
    }

    pub(crate) fn count_refused(&self, peer: Role) {
        let counter = match peer {
            Role::Client => &self.0.counters.refused_clients,
            Role::Server => &self.0.counters.refused_servers,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_stale(&self) {
        self.0.counters.stale_allowed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_unknown(&self) {
        self.0.counters.unknown_allowed.fetch_add(1, Ordering::Relaxed);
    }

    fn record_error(&self, error: Option<Arc<str>>) {
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation")
            .field("policy", &self.0.policy)
            .field("lists", &*self.0.lists.load())
            .finish_non_exhaustive()
    }
}

/// What revocation lists are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationStatus {
    /// How many lists.
    pub lists: usize,
    /// How many certificates they name.
    pub revoked_certificates: usize,
    /// How many lists no key has been seen to have signed: no certificate of their issuer was verified since they were
    /// loaded, or somebody else made them.
    pub unattributed: usize,
    /// When the first of them should be replaced.
    pub next_update: Option<SystemTime>,
    /// How often lists were replaced.
    pub loads: u64,
    /// How often that failed, and the lists before stayed.
    pub failed_loads: u64,
    /// Why it failed, if that was the last that happened.
    pub last_error: Option<Arc<str>>,
}

/// What came of revocation lists in verifications.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationCounts {
    /// Clients refused, or ended later, for a revoked certificate or an uncertain one under a policy that refuses those. Istio's
    /// `istio_crl_policy_rejections_total{reporter="destination"}`.
    pub refused_clients: u64,
    /// Servers refused likewise: `reporter="source"`.
    pub refused_servers: u64,
    /// Peers taken although the newest list of an issuer should have been replaced.
    pub stale_allowed: u64,
    /// Peers taken although no list covers a certificate of theirs.
    pub unknown_allowed: u64,
}
