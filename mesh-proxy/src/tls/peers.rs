//! The peers of open connections, looked at again when roots or revocation lists change.
//!
//! A connection outlives the certificates it was made with: it ends when a certificate of its peer is revoked or the
//! root that vouched for it is withdrawn, or at a configured age, not when a certificate is renewed or expires.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::task::AtomicWaker;
use mesh_identity::{ExpectedPeer, PeerIdentity, PeerVerifier, Revocation, Role, TrustBundles, VerifyError};
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};
use thiserror::Error;
use tokio::time::Instant;

/// The peers of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    provider: CryptoProvider,
    revocation: Option<Revocation>,
    max_age: Option<Duration>,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    open: HashMap<u64, Arc<Peer>>,
    next: u64,
    bundles: Arc<TrustBundles>,
    /// Of the revocation lists.
    generation: u64,
    /// Counts the changes of either, from one.
    change: u64,
    changed: Option<Instant>,
}

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    role: Role,
    expected: ExpectedPeer,
    verified: SystemTime,
    since: Instant,
    /// The change after which it was verified last.
    change: AtomicU64,
    lost: OnceLock<PeerLost>,
    waker: AtomicWaker,
}

impl Peers {
    pub(crate) fn new(
        provider: CryptoProvider,
        bundles: Arc<TrustBundles>,
        revocation: Option<Revocation>,
        max_age: Option<Duration>,
    ) -> Self {
        let generation = revocation.as_ref().map_or(0, Revocation::generation);
        let table = Table { open: HashMap::new(), next: 0, bundles, generation, change: 1, changed: None };
        Self(Arc::new(Registry { provider, revocation, max_age, table: Mutex::new(table) }))
    }

    /// Watches over a peer that has been verified just now, for as long as the result lives.
    pub(super) fn register(
        &self,
        identity: &PeerIdentity,
        chain: &[CertificateDer<'_>],
        role: Role,
    ) -> PeerGuard {
        let now = Instant::now();
        let mut table = self.0.lock();
        // A handshake that began before the last change may have been judged by the roots before it.
        let in_doubt = table.changed.is_some_and(|changed| now - changed < LONGEST_HANDSHAKE);
        let peer = Arc::new(Peer {
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            role,
            expected: ExpectedPeer::exact([identity.id().clone()]),
            verified: SystemTime::now(),
            since: now,
            change: AtomicU64::new(if in_doubt { 0 } else { table.change }),
            lost: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        let id = table.next;
        table.next = table.next.wrapping_add(1);
        table.open.insert(id, Arc::clone(&peer));
        drop(table);
        PeerGuard { registry: Arc::clone(&self.0), id, peer }
    }

    /// Ends connections whose peer is revoked or not vouched for by `bundles` any more, and those that are too old.
    ///
    /// Costs a look at each connection; one verification of a chain for each if bundles or lists changed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not looked at is next time.
    pub(crate) async fn recheck(&self, bundles: Arc<TrustBundles>) {
        let generation = self.0.revocation.as_ref().map_or(0, Revocation::generation);
        let (peers, change) = {
            let mut table = self.0.lock();
            if !Arc::ptr_eq(&table.bundles, &bundles) || table.generation != generation {
                table.generation = generation;
                table.bundles = Arc::clone(&bundles);
                table.change += 1;
                table.changed = Some(Instant::now());
            }
            (table.open.values().cloned().collect::<Vec<_>>(), table.change)
        };
        for batch in peers.chunks(BATCH) {
            for peer in batch {
                if let Some(limit) = self.0.max_age.filter(|limit| peer.since.elapsed() >= *limit) {
                    peer.lose(PeerLost::Age { limit });
                } else if peer.change.swap(change, Ordering::Relaxed) != change
                    && let Err(error) = peer.verify(&self.0, &bundles)
                {
                    peer.lose(PeerLost::Distrusted(Arc::new(error)));
                }
            }
            tokio::task::yield_now().await;
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while the table is half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Checks the chain as at the time of the handshake: that a certificate has ended since ends no connection.
    fn verify(&self, registry: &Registry, bundles: &Arc<TrustBundles>) -> Result<(), VerifyError> {
        let Some((leaf, intermediates)) = self.chain.split_first() else { return Ok(()) };
        let verifier = PeerVerifier::new(&registry.provider, Arc::clone(bundles), self.expected.clone());
        let verifier = match &registry.revocation {
            Some(revocation) => verifier.revocation(revocation.clone()),
            None => verifier,
        };
        verifier.verify(leaf, intermediates, self.role, self.verified).map(drop)
    }

    fn lose(&self, why: PeerLost) {
        // The first reason stays.
        let _ = self.lost.set(why);
        self.waker.wake();
    }
}

/// A connection's own view of its peer; dropping it ends the watch.
#[derive(Debug)]
pub(super) struct PeerGuard {
    registry: Arc<Registry>,
    id: u64,
    peer: Arc<Peer>,
}

impl PeerGuard {
    /// Why the connection has to end, if it has.
    pub(super) fn lost(&self) -> Option<io::Error> {
        let why = self.peer.lost.get()?;
        Some(io::Error::new(io::ErrorKind::ConnectionAborted, why.clone()))
    }

    /// As [`lost`](Self::lost), with a wake-up when that changes.
    pub(super) fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.peer.waker.register(cx.waker());
        self.lost().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        self.registry.lock().open.remove(&self.id);
    }
}

/// Why an open connection ends.
#[derive(Clone, Debug, Error)]
pub(crate) enum PeerLost {
    /// It is older than connections may be.
    #[error("connection is older than {limit:?}")]
    Age { limit: Duration },
    /// A certificate of the peer is revoked, or the root that vouched for it withdrawn.
    #[error("peer is no longer trusted")]
    Distrusted(#[source] Arc<VerifyError>),
}

/// How many peers are looked at before other work of the worker has a turn.
const BATCH: usize = 16;

/// Longer than a dial and a handshake may take.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(60);
