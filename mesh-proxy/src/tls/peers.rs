//! The peers of open connections, looked at again when roots or revocation lists change.
//!
//! A connection outlives the certificates it was made with: it ends when a certificate of either side is revoked or the
//! root that vouched for it is withdrawn, or at a configured age, not when a certificate is renewed or expires, nor when
//! its own identity leaves this process: whoever is shut down finishes what is open.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::task::AtomicWaker;
use mesh_identity::{
    ExpectedPeer, PeerVerifier, Revocation, Role, SpiffeId, TlsConfigs, TrustBundles, TrustDomain,
    VerifyError, X509Svid,
};
use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};
use tokio::time::Instant;

use super::Lost;

/// The peers of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    configs: TlsConfigs,
    provider: CryptoProvider,
    max_age: Option<Duration>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Peer>>,
    next: u64,
    /// What all were judged by, unless one was added since that was not.
    all_judged: Option<Judged>,
}

/// A connection that was made just now.
pub(super) struct Connected<'a> {
    /// Who the peer proved to be, with the chain it proved it with.
    pub(super) peer: SpiffeId,
    pub(super) chain: &'a [CertificateDer<'a>],
    /// What the peer is in it.
    pub(super) role: Role,
    /// What we proved to be.
    pub(super) own: Arc<X509Svid>,
    /// What the handshake judged by.
    pub(super) judged: Judged,
}

/// What a connection was judged by last.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) bundles: Arc<TrustBundles>,
    /// Of the revocation lists; read before the handshake, so that it is never newer than they were.
    pub(super) lists: u64,
}

impl Judged {
    fn is_same(&self, other: &Self) -> bool {
        self.lists == other.lists && Arc::ptr_eq(&self.bundles, &other.bundles)
    }
}

#[derive(Debug)]
struct Peer {
    chain: Vec<CertificateDer<'static>>,
    role: Role,
    id: SpiffeId,
    own: Arc<X509Svid>,
    verified: SystemTime,
    since: Instant,
    judged: Mutex<Judged>,
    lost: OnceLock<Lost>,
    waker: AtomicWaker,
}

impl Peers {
    /// Those of connections made with `configs`.
    pub(crate) fn new(configs: TlsConfigs, provider: CryptoProvider, max_age: Option<Duration>) -> Self {
        Self(Arc::new(Registry { configs, provider, max_age, table: Mutex::default() }))
    }

    /// The revocation lists as they are now, for [`Judged`].
    pub(super) fn lists(&self) -> u64 {
        self.0.lists()
    }

    /// Watches over a peer that has been verified just now, for as long as the result lives.
    pub(super) fn register(&self, connected: Connected<'_>) -> PeerGuard {
        let Connected { peer, chain, role, own, judged } = connected;
        let peer = Arc::new(Peer {
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            role,
            id: peer,
            own,
            verified: SystemTime::now(),
            since: Instant::now(),
            judged: Mutex::new(judged),
            lost: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        let mut table = self.0.lock();
        if !table.all_judged.as_ref().is_some_and(|all| all.is_same(&peer.judged())) {
            table.all_judged = None;
        }
        let id = table.next;
        table.next = table.next.wrapping_add(1);
        table.open.insert(id, Arc::clone(&peer));
        drop(table);
        PeerGuard { registry: Arc::clone(&self.0), id, peer }
    }

    /// Ends connections one of whose sides is revoked or not vouched for any more, and those that are too old.
    ///
    /// Costs nothing if nothing changed and connections may become as old as they like, else a look at each connection. A
    /// chain is verified again only where a root of its trust domain was withdrawn or the lists changed and concern it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was not looked at is next time.
    pub(crate) async fn recheck(&self) {
        let now = Judged { lists: self.0.lists(), bundles: self.0.configs.identities().bundles() };
        let peers: Vec<_> = {
            let table = self.0.lock();
            if self.0.max_age.is_none() && table.all_judged.as_ref().is_some_and(|all| all.is_same(&now)) {
                return;
            }
            table.open.values().cloned().collect()
        };
        let mut withdrawals = Withdrawals { since: Vec::new(), now: &now.bundles };
        for batch in peers.chunks(BATCH) {
            for peer in batch {
                if self.0.max_age.is_some_and(|limit| peer.since.elapsed() >= limit) {
                    peer.lose(Lost::Age, None);
                } else if let Some((lost, error)) = self.0.judge(peer, &mut withdrawals, now.lists) {
                    if let (Lost::Revoked, Some(revocation)) = (lost, self.0.configs.revocation()) {
                        revocation.count_ended(peer.role);
                    }
                    peer.lose(lost, Some(&error));
                }
            }
            tokio::task::yield_now().await;
        }
        let mut table = self.0.lock();
        let all = table.open.values().all(|peer| peer.lost.get().is_some() || peer.judged().is_same(&now));
        table.all_judged = all.then_some(now);
    }

    /// Whether a certificate of ours is revoked.
    pub(super) fn revokes_own(&self, svid: &X509Svid) -> Option<VerifyError> {
        let Registry { configs, provider, .. } = &*self.0;
        configs.revocation()?.revokes(svid, &configs.identities().bundles(), provider, SystemTime::now())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().open.len()
    }
}

impl Registry {
    fn lists(&self) -> u64 {
        self.configs.revocation().map_or(0, Revocation::generation)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while the table is half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection has to end, after what changed since it was judged last.
    fn judge(
        &self,
        peer: &Peer,
        withdrawals: &mut Withdrawals<'_>,
        lists: u64,
    ) -> Option<(Lost, VerifyError)> {
        let judged = peer.judged().clone();
        let bundles = withdrawals.now;
        if judged.is_same(&Judged { bundles: Arc::clone(bundles), lists }) {
            return None;
        }
        let withdrawn = withdrawals.since(&judged.bundles);
        let concerns = |chain: &[CertificateDer<'_>]| {
            let revocation = self.configs.revocation().filter(|_| judged.lists != lists);
            revocation.is_some_and(|revocation| revocation.concerns(chain))
        };
        if (withdrawn.contains(peer.id.trust_domain()) || concerns(&peer.chain))
            && let Err(error) = self.verify_peer(peer)
        {
            return Some((if error.is_revocation() { Lost::Revoked } else { Lost::Withdrawn }, error));
        }
        let own = peer.own.chain();
        if concerns(own)
            && let Some(revocation) = self.configs.revocation()
            && let Some(error) = revocation.revokes(&peer.own, &judged.bundles, &self.provider, peer.verified)
        {
            return Some((Lost::OwnRevoked, error));
        }
        if withdrawn.contains(peer.own.id().trust_domain())
            && let Err(error) = self.verify_own(peer, bundles)
        {
            return Some((Lost::OwnWithdrawn, error));
        }
        *peer.judged() = Judged { bundles: Arc::clone(bundles), lists };
        None
    }

    /// Checks the peer's chain as at the time of the handshake: that a certificate has ended since ends no connection.
    fn verify_peer(&self, peer: &Peer) -> Result<(), VerifyError> {
        let Some((leaf, intermediates)) = peer.chain.split_first() else { return Ok(()) };
        let verifier = self.configs.verifier(ExpectedPeer::exact([peer.id.clone()]));
        verifier.verify(leaf, intermediates, peer.role, peer.verified).map(drop)
    }

    /// Whether our own certificate leads to a root as a peer would want it.
    fn verify_own(&self, peer: &Peer, bundles: &Arc<TrustBundles>) -> Result<(), VerifyError> {
        let Some((leaf, intermediates)) = peer.own.chain().split_first() else { return Ok(()) };
        let role = match peer.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        // An authority's clock may be a little ahead of ours.
        let at = peer.verified.max(peer.own.not_before());
        let expected = ExpectedPeer::exact([peer.own.id().clone()]);
        let verifier = PeerVerifier::new(&self.provider, Arc::clone(bundles), expected);
        verifier.verify(leaf, intermediates, role, at).map(drop)
    }
}

/// The trust domains that lost a root, by what they are compared with: one set of bundles, or few, for all connections.
struct Withdrawals<'a> {
    since: Vec<(Arc<TrustBundles>, BTreeSet<TrustDomain>)>,
    now: &'a Arc<TrustBundles>,
}

impl Withdrawals<'_> {
    fn since(&mut self, before: &Arc<TrustBundles>) -> &BTreeSet<TrustDomain> {
        let known = self.since.iter().position(|(bundles, _)| Arc::ptr_eq(bundles, before));
        let index = known.unwrap_or_else(|| {
            self.since.push((Arc::clone(before), withdrawn(before, self.now)));
            self.since.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was found or added just now")]
        &self.since[index].1
    }
}

/// The trust domains some of whose roots of before are no longer among those of now.
fn withdrawn(before: &TrustBundles, now: &TrustBundles) -> BTreeSet<TrustDomain> {
    let own = before.iter().map(|bundle| bundle.trust_domain());
    let names = own.chain(before.aliases().map(|(alias, _)| alias));
    let lost = |name: &&TrustDomain| {
        let roots = |bundles: &TrustBundles| bundles.get(name).map(|bundle| bundle.certificates().to_vec());
        let now = roots(now).unwrap_or_default();
        roots(before).unwrap_or_default().iter().any(|root| !now.contains(root))
    };
    names.filter(lost).cloned().collect()
}

impl Peer {
    fn judged(&self) -> MutexGuard<'_, Judged> {
        // It is replaced as a whole.
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, why: Lost, error: Option<&VerifyError>) {
        // The first reason stays.
        if self.lost.set(why).is_ok() {
            let (peer, own) = (&self.id, self.own.id());
            match error {
                Some(error) => tracing::warn!(%peer, %own, %error, "open connection ends: {why}"),
                None => tracing::debug!(%peer, %own, "open connection ends: {why}"),
            }
        }
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
        self.peer.lost.get().map(|why| (*why).into())
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

/// How many peers are looked at before other work of the worker has a turn.
const BATCH: usize = 16;
