//! The identities of a node's workloads, from SPIRE's delegated identity API.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustls::{crypto::CryptoProvider, pki_types::CertificateDer};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{
    AgentEndpoint, AgentError, DIAL_TIMEOUT, FIRST_WAIT, LAST_WAIT, MAX_MESSAGE, Messages, WorkloadSelectors,
    held::Held,
    in_date, origin,
    received::{Entry, FlawError, of_id, read_bundles, secret, trust_domain},
    unavailable,
};
use crate::{
    IdentityError, IdentitySource, IdentityStatus, SpiffeId, SvidFuture, TrustBundle, TrustBundles,
    TrustDomain, X509Svid,
    describe::describe,
    grpc::{Backoff, Channel},
    proto::spire::api::agent::delegatedidentity::v1::{
        SubscribeToX509BundlesRequest, SubscribeToX509sviDsRequest, SubscribeToX509sviDsResponse,
        X509svidWithKey, delegated_identity_client::DelegatedIdentityClient,
    },
    verify::check_own,
};

/// The identities of the workloads that a node's proxy acts for, from a SPIRE agent that lets it.
///
/// The agent listens on its admin socket, and the proxy's own SPIFFE ID has to be among its
/// `authorized_delegates`. Each [`Subscription`] is to the identities of the workloads with some selectors;
/// subscriptions with equal selectors share one stream, which ends with the last of them. The agent pushes
/// certificates when they change. When it is gone, everything stays as it was until certificates expire. What it sends is
/// judged as peers would judge it, once there is a bundle to judge by; what cannot be used leaves what was there before.
///
/// Bundles are those of the identities' own trust domains and of the ones they federate with, in one set: a
/// proxy restricts the peers of each workload by [`ExpectedPeer`](crate::ExpectedPeer).
#[derive(Clone)]
pub struct DelegatedIdentity(Arc<Shared>);

struct Shared {
    held: Held,
    provider: Arc<CryptoProvider>,
    subscribed: Mutex<Subscribed>,
    /// Counts what changed, for the driver and for those who wait.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Subscribed {
    workloads: BTreeMap<WorkloadSelectors, Workload>,
    /// Of the workload subscribed to last.
    number: u64,
    bundles: BTreeMap<TrustDomain, TrustBundle>,
    /// Why there are no bundles; nothing works without them.
    error: Option<AgentError>,
    ended: bool,
}

/// What is known for some selectors.
#[derive(Default)]
struct Workload {
    /// Tells it from one with the same selectors that nobody wanted any more.
    number: u64,
    subscriptions: usize,
    answer: Answer,
    federates_with: BTreeSet<TrustDomain>,
}

#[derive(Default)]
enum Answer {
    #[default]
    Pending,
    Error(AgentError),
    Given(Vec<Given>),
}

impl Answer {
    /// The certificates of the answer.
    fn svids(&self) -> impl Iterator<Item = &Arc<X509Svid>> {
        let given = match self {
            Self::Given(given) => given.as_slice(),
            _ => &[],
        };
        given.iter().filter_map(|given| given.entry.svid.as_ref())
    }

    fn svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.svids().find(|svid| svid.id() == id).cloned()
    }
}

/// An identity of an answer.
struct Given {
    entry: Entry,
    /// What to go back to, until the certificate has been judged by a bundle.
    unjudged: Option<Option<Arc<X509Svid>>>,
}

impl Given {
    /// Judges the certificate, if there is a bundle to judge it by.
    fn judge(&mut self, bundles: &Arc<TrustBundles>, provider: &CryptoProvider) {
        let Some(svid) = &self.entry.svid else { return };
        if bundles.get(svid.id().trust_domain()).is_none() {
            return;
        }
        let Some(before) = self.unjudged.take() else { return };
        if let Err(error) = check_own(svid, bundles, provider, SystemTime::now()) {
            let flaw = FlawError::refused(svid.id(), error);
            tracing::warn!(target: "ca", error = %describe(&flaw), "the agent sent an svid that cannot be used");
            (self.entry.svid, self.entry.flaw) = (before, Some(describe(&flaw).into()));
        }
    }
}

impl DelegatedIdentity {
    /// Makes the source, and what keeps it up to date while it is driven. `endpoint` is the agent's admin
    /// socket; `provider` is what the certificates' keys are used with.
    pub fn new(endpoint: AgentEndpoint, provider: Arc<CryptoProvider>) -> (Self, DelegatedIdentityDriver) {
        let channel = Channel::new(endpoint.dialer(), DIAL_TIMEOUT, None);
        let shared = Arc::new(Shared {
            held: Held::default(),
            provider,
            subscribed: Mutex::default(),
            changes: watch::Sender::default(),
        });
        (Self(Arc::clone(&shared)), DelegatedIdentityDriver { channel, shared })
    }

    /// Subscribes to the identities of the workloads with these selectors, until the value is dropped.
    pub fn subscribe(&self, selectors: WorkloadSelectors) -> Subscription {
        self.0.lock().add(selectors.clone());
        self.0.changed();
        Subscription { shared: Arc::clone(&self.0), selectors }
    }
}

/// An interest in the identities of some workloads, which ends when it is dropped.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    shared: Arc<Shared>,
    selectors: WorkloadSelectors,
}

impl Subscription {
    /// The ids that the workload may use, the default first, waiting for the agent's first answer.
    ///
    /// # Errors
    ///
    /// What the agent last said, if it has given none, and [`AgentError::Unusable`] if the default cannot be used.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn ids(&self) -> Result<Vec<SpiffeId>, AgentError> {
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            {
                let subscribed = self.shared.lock();
                match subscribed.workloads.get(&self.selectors).map(|workload| &workload.answer) {
                    Some(answer @ Answer::Given(given)) => {
                        // Without the default, the next one would pass for it.
                        given.first().ok_or(AgentError::NoIdentity)?.entry.usable()?;
                        return Ok(answer.svids().map(|svid| svid.id().clone()).collect());
                    }
                    Some(Answer::Error(error)) => return Err(error.clone()),
                    Some(Answer::Pending) if !subscribed.ended => {}
                    _ => return Err(AgentError::Ended),
                }
            }
            // Never: the sender lives as long as this.
            if changes.changed().await.is_err() {
                return Err(AgentError::Ended);
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut subscribed = self.shared.lock();
        if let Some(workload) = subscribed.workloads.get_mut(&self.selectors) {
            workload.subscriptions -= 1;
            if workload.subscriptions == 0 {
                subscribed.workloads.remove(&self.selectors);
                subscribed.publish(&self.shared);
            }
        }
        drop(subscribed);
        self.shared.changed();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.selectors).finish()
    }
}

impl Shared {
    /// A panic while the lock was held leaves each part old or new.
    fn lock(&self) -> MutexGuard<'_, Subscribed> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// Changes what is known of a workload that is still subscribed to.
    fn update(&self, stream: &Stream, update: impl FnOnce(&mut Workload)) {
        let mut subscribed = self.lock();
        let workload = subscribed.workloads.get_mut(&stream.selectors);
        let Some(workload) = workload.filter(|workload| workload.number == stream.number) else { return };
        update(workload);
        subscribed.publish(self);
        drop(subscribed);
        self.changed();
    }
}

impl Subscribed {
    fn add(&mut self, selectors: WorkloadSelectors) {
        let workload = self.workloads.entry(selectors).or_insert_with(|| {
            self.number += 1;
            Workload { number: self.number, ..Workload::default() }
        });
        workload.subscriptions += 1;
    }

    fn publish(&mut self, shared: &Shared) {
        let svids = self.workloads.values().flat_map(|workload| workload.answer.svids());
        let own = svids.map(|svid| svid.id().trust_domain());
        let federated = self.workloads.values().flat_map(|workload| &workload.federates_with);
        let wanted: BTreeSet<_> = own.chain(federated).collect();
        let bundles = wanted.into_iter().filter_map(|domain| self.bundles.get(domain)).cloned();
        let bundles = Arc::new(TrustBundles::new(bundles));
        for workload in self.workloads.values_mut() {
            if let Answer::Given(given) = &mut workload.answer {
                given.iter_mut().for_each(|given| given.judge(&bundles, &shared.provider));
            }
        }
        let svids: Vec<_> =
            self.workloads.values().flat_map(|workload| workload.answer.svids()).cloned().collect();
        shared.held.replace(svids, bundles);
    }

    /// Why there is no SVID, once nothing is pending: as an id says nothing of selectors, any may be meant.
    fn missing(&self, id: &SpiffeId) -> Option<IdentityError> {
        let mut reason = None;
        for workload in self.workloads.values() {
            match &workload.answer {
                Answer::Pending if !self.ended && self.error.is_none() => return None,
                Answer::Pending => reason = self.error.clone().or(Some(AgentError::Ended)),
                Answer::Error(error) => reason = Some(error.clone()),
                Answer::Given(given) if given.is_empty() => reason = Some(AgentError::NoIdentity),
                Answer::Given(given) => {
                    if let Some(given) = given.iter().find(|given| given.entry.id.as_ref() == Some(id)) {
                        reason = given.entry.usable().err();
                    }
                }
            }
        }
        Some(match reason {
            Some(reason) => unavailable(id, &reason),
            None => IdentityError::Unknown { id: id.clone() },
        })
    }
}

impl IdentitySource for DelegatedIdentity {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(async move {
            let mut changes = self.0.changes.subscribe();
            loop {
                changes.mark_unchanged();
                if let Some(svid) = self.0.held.svid(id) {
                    return in_date(svid);
                }
                if let Some(error) = self.0.lock().missing(id) {
                    return Err(error);
                }
                // Never: the sender lives as long as this.
                if changes.changed().await.is_err() {
                    return Err(IdentityError::Unknown { id: id.clone() });
                }
            }
        })
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.0.held.svid(id)
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        self.0.held.bundles()
    }

    fn statuses(&self) -> Option<Vec<IdentityStatus>> {
        let now = SystemTime::now();
        let subscribed = self.0.lock();
        let mut all: Vec<_> = Vec::new();
        for workload in subscribed.workloads.values() {
            if let Answer::Given(given) = &workload.answer {
                all.extend(given.iter().filter_map(|given| given.entry.status(now)));
            }
        }
        drop(subscribed);
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|later, first| later.id == first.id);
        Some(all)
    }

    fn generation(&self) -> u64 {
        self.0.held.generation()
    }
}

impl fmt::Debug for DelegatedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workloads = self.0.lock().workloads.len();
        f.debug_struct("DelegatedIdentity").field("workloads", &workloads).finish_non_exhaustive()
    }
}

/// Listens to the agent, a stream per subscription and one for bundles, and looks for it when it is gone.
/// Dropping it leaves the source as it is.
#[must_use = "nothing is received while it is not driven"]
pub struct DelegatedIdentityDriver {
    channel: Channel,
    shared: Arc<Shared>,
}

impl DelegatedIdentityDriver {
    /// Runs until the agent says something about bundles after which asking again is of no use
    /// ([`AgentError::is_final`]), and returns that. Streams are tasks of the caller's runtime, which end with
    /// this future.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends all streams.
    pub async fn run(self) -> AgentError {
        let mut changes = self.shared.changes.subscribe();
        let mut tasks = JoinSet::new();
        let mut streams = Streams::new();
        let bundles = self.bundles();
        tokio::pin!(bundles);
        loop {
            changes.mark_unchanged();
            self.reconcile(&mut streams, &mut tasks);
            tokio::select! {
                error = &mut bundles => return error,
                _ = changes.changed() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Starts the streams that are missing and ends those that nobody wants.
    fn reconcile(&self, streams: &mut Streams, tasks: &mut JoinSet<()>) {
        let subscribed = self.shared.lock();
        streams.retain(|selectors, (number, task)| {
            let kept = subscribed.workloads.get(selectors).is_some_and(|workload| workload.number == *number);
            if !kept {
                task.abort();
            }
            kept
        });
        for (selectors, Workload { number, .. }) in &subscribed.workloads {
            if !streams.contains_key(selectors) {
                let stream = Stream {
                    channel: self.channel.clone(),
                    shared: Arc::clone(&self.shared),
                    selectors: selectors.clone(),
                    number: *number,
                };
                streams.insert(selectors.clone(), (*number, tasks.spawn(stream.run())));
            }
        }
    }

    /// Takes all bundles that the agent sends, until that is of no use.
    async fn bundles(&self) -> AgentError {
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
        loop {
            let error = self.follow_bundles(&mut backoff).await;
            tracing::warn!(target: "ca", error = %describe(&error), "no bundles from the agent");
            self.shared.lock().error = Some(error.clone());
            self.shared.changed();
            if error.is_final() {
                return error;
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    async fn follow_bundles(&self, backoff: &mut Backoff) -> AgentError {
        let mut client = client(&self.channel);
        let call = client.subscribe_to_x509_bundles(SubscribeToX509BundlesRequest {});
        let mut stream = match Messages::of(call).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            match stream.next().await {
                Ok(message) => {
                    backoff.succeeded();
                    let mut subscribed = self.shared.lock();
                    let before = TrustBundles::new(subscribed.bundles.values().cloned());
                    let (bundles, flaws) = read_bundles(message.ca_certificates, &before);
                    for flaw in flaws {
                        tracing::warn!(target: "ca", error = %describe(&flaw), "the agent sent a bundle that cannot be used");
                    }
                    subscribed.error = None;
                    subscribed.bundles =
                        bundles.into_iter().map(|bundle| (bundle.trust_domain().clone(), bundle)).collect();
                    subscribed.publish(&self.shared);
                    drop(subscribed);
                    self.shared.changed();
                }
                Err(error) => return error,
            }
        }
    }
}

impl Drop for DelegatedIdentityDriver {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed();
    }
}

impl fmt::Debug for DelegatedIdentityDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelegatedIdentityDriver").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// The running streams, each with the number of its workload.
type Streams = HashMap<WorkloadSelectors, (u64, AbortHandle)>;

/// The stream of one workload.
struct Stream {
    channel: Channel,
    shared: Arc<Shared>,
    selectors: WorkloadSelectors,
    number: u64,
}

impl Stream {
    /// Runs until it is aborted, or until asking is of no use.
    async fn run(self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
        loop {
            let error = self.follow(&mut backoff).await;
            tracing::warn!(
                target: "ca", error = %describe(&error), selectors = ?self.selectors, "no identities from the agent"
            );
            let is_final = error.is_final();
            self.shared.update(&self, |workload| {
                // What it gave before stays until it expires.
                if workload.answer.svids().next().is_none() {
                    workload.answer = Answer::Error(error);
                }
            });
            if is_final {
                return;
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> AgentError {
        let request = SubscribeToX509sviDsRequest { selectors: self.selectors.to_proto(), pid: 0 };
        let mut client = client(&self.channel);
        let mut stream = match Messages::of(client.subscribe_to_x509svi_ds(request)).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            match stream.next().await {
                Ok(message) => {
                    backoff.succeeded();
                    self.take(message);
                }
                Err(error) => return error,
            }
        }
    }

    fn take(&self, message: SubscribeToX509sviDsResponse) {
        let federates_with = message.federates_with.iter().filter_map(|name| trust_domain(name)).collect();
        let read = message.x509_svids.into_iter().map(|sent| self.read(sent)).collect::<Vec<_>>();
        self.shared.update(self, |workload| {
            let given = read.into_iter().map(|mut entry| {
                let before = entry.id.as_ref().and_then(|id| workload.answer.svid(id));
                if entry.svid.is_none() {
                    entry.svid.clone_from(&before);
                    return Given { entry, unjudged: None };
                }
                Given { entry, unjudged: Some(before) }
            });
            workload.answer = Answer::Given(given.collect());
            workload.federates_with = federates_with;
        });
    }

    fn read(&self, sent: X509svidWithKey) -> Entry {
        let key = secret(sent.x509_svid_key);
        let svid = sent.x509_svid.unwrap_or_default();
        let text = svid.id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path)).unwrap_or_default();
        let id = text.parse::<SpiffeId>().ok();
        let (chain, hint) = (svid.cert_chain.into_iter().map(CertificateDer::from), svid.hint);
        let read = X509Svid::from_der(chain, key.clone_key(), &self.shared.provider);
        match read.map_err(Into::into).and_then(|svid| of_id(svid, id.as_ref())) {
            Ok(svid) => Entry { id, hint, svid: Some(Arc::new(svid)), flaw: None },
            Err(source) => {
                let flaw = FlawError::svid(&text, source);
                tracing::warn!(target: "ca", error = %describe(&flaw), "the agent sent an svid that cannot be used");
                Entry { id, hint, svid: None, flaw: Some(describe(&flaw).into()) }
            }
        }
    }
}

fn client(channel: &Channel) -> DelegatedIdentityClient<Channel> {
    DelegatedIdentityClient::with_origin(channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE)
}
