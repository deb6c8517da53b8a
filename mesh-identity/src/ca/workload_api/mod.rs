//! Clients of SPIFFE agents, who push identities instead of signing requests.

mod delegated;
mod endpoint;
mod error;
mod held;
mod received;
mod selectors;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

pub use delegated::{DelegatedIdentity, DelegatedIdentityDriver, Subscription};
pub use endpoint::{AgentEndpoint, AgentEndpointError};
pub use error::AgentError;
pub use selectors::WorkloadSelectors;

use self::{
    held::Held,
    received::{Entry, Received, read_lists},
};
use crate::{
    IdentityError, IdentitySource, IdentityStatus, Revocation, SpiffeId, SvidFuture, TrustBundles, X509Svid,
    describe::describe,
    grpc::{Backoff, Channel},
    proto::spiffe::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};

/// The identities that an agent gives to this process, over the SPIFFE Workload API: certificates, the bundles
/// of their trust domains and of those federated with them, pushed by the agent when they change.
///
/// An agent knows its callers by the kernel, so these are this process's own identities: for a proxy of one
/// workload, or a program without a proxy. A node's proxy uses [`DelegatedIdentity`].
///
/// When the agent is gone, everything stays as it was until certificates expire, and the agent is looked for
/// with increasing pauses of up to 15 s. Whoever waits for the first identity learns within 15 s that none comes.
/// What it sends is judged as peers would judge it: a certificate that none of them would take, or a bundle that cannot be
/// read, leaves the one before in its place, and is told in the log, by [`statuses`](IdentitySource::statuses) and by
/// [`last_error`](Self::last_error). Revocation lists that come with certificates are for who [asks for them](WorkloadApiDriver::revocation).
///
/// ```no_run
/// # use rustls::crypto::CryptoProvider;
/// # async fn example(provider: std::sync::Arc<CryptoProvider>) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use mesh_identity::{CertSelector, ClientConfigBuilder, ExpectedPeer, WorkloadApi};
///
/// let (identities, driver) = WorkloadApi::new("unix:///run/spire/agent.sock".parse()?, Arc::clone(&provider));
/// tokio::spawn(driver.run());
///
/// let me = identities.default_id().await?;
/// let config = ClientConfigBuilder::new(provider)
///     .identity(identities, CertSelector::fixed(me))
///     .expect_peer(ExpectedPeer::exact(["spiffe://example.org/ns/shop/sa/stock".parse()?]))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WorkloadApi(Arc<Shared>);

struct Shared {
    held: Held,
    state: watch::Sender<State>,
}

/// What the agent last said.
#[derive(Debug, Default)]
struct State {
    /// In its order; empty before its first answer.
    entries: Vec<Entry>,
    error: Option<AgentError>,
    /// Nobody listens to it any more.
    ended: bool,
}

impl WorkloadApi {
    /// Makes the source, and what keeps it up to date while it is driven. `provider` is what the certificates'
    /// keys are used with.
    pub fn new(endpoint: AgentEndpoint, provider: Arc<CryptoProvider>) -> (Self, WorkloadApiDriver) {
        let channel = Channel::new(endpoint.dialer(), DIAL_TIMEOUT, None);
        let shared = Arc::new(Shared { held: Held::default(), state: watch::Sender::default() });
        let driver = WorkloadApiDriver { channel, provider, shared: Arc::clone(&shared), lists: None };
        (Self(shared), driver)
    }

    /// The identity that the agent lists first, waiting for its first answer.
    ///
    /// # Errors
    ///
    /// What the agent last said, if it has never given an identity, and [`AgentError::Unusable`] if its first cannot be
    /// used: another one is not the default.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn default_id(&self) -> Result<SpiffeId, AgentError> {
        self.answer(|entries| entries.first().ok_or(AgentError::NoIdentity)?.usable()).await
    }

    /// The identity that the agent marks with `hint`, waiting for its first answer; the first of several.
    ///
    /// # Errors
    ///
    /// What the agent last said if it has never given an identity, [`AgentError::NoIdentity`] if it marks none so, or
    /// [`AgentError::Unusable`] if that cannot be used.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn id_with_hint(&self, hint: &str) -> Result<SpiffeId, AgentError> {
        self.answer(|entries| {
            entries.iter().find(|entry| entry.hint == hint).ok_or(AgentError::NoIdentity)?.usable()
        })
        .await
    }

    /// What the agent last said instead of an identity, or what is wrong with one; `None` while all is well.
    pub fn last_error(&self) -> Option<AgentError> {
        self.0.state.borrow().error.clone()
    }

    async fn answer<T>(&self, choose: impl Fn(&[Entry]) -> Result<T, AgentError>) -> Result<T, AgentError> {
        let mut state = self.0.state.subscribe();
        loop {
            {
                let state = state.borrow_and_update();
                if !state.entries.is_empty() {
                    return choose(&state.entries);
                }
                if let Some(error) = &state.error {
                    return Err(error.clone());
                }
                if state.ended {
                    return Err(AgentError::Ended);
                }
            }
            // Never: the sender lives as long as this.
            if state.changed().await.is_err() {
                return Err(AgentError::Ended);
            }
        }
    }
}

impl IdentitySource for WorkloadApi {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        Box::pin(async move {
            let of_id = |entry: &&Entry| entry.id.as_ref() == Some(id);
            let given =
                self.answer(|entries| entries.iter().find(of_id).map(Entry::usable).transpose()).await;
            match (self.0.held.svid(id), given) {
                (Some(svid), _) => in_date(svid),
                (None, Ok(_)) => Err(IdentityError::Unknown { id: id.clone() }),
                (None, Err(error)) => Err(unavailable(id, &error)),
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
        let state = self.0.state.borrow();
        let mut all: Vec<_> = state.entries.iter().filter_map(|entry| entry.status(now)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all.dedup_by(|later, first| later.id == first.id);
        Some(all)
    }

    fn generation(&self) -> u64 {
        self.0.held.generation()
    }
}

impl fmt::Debug for WorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApi").field("state", &*self.0.state.borrow()).finish_non_exhaustive()
    }
}

/// Listens to the agent and looks for it when it is gone. Dropping it leaves the source as it is.
#[must_use = "nothing is received while it is not driven"]
pub struct WorkloadApiDriver {
    channel: Channel,
    provider: Arc<CryptoProvider>,
    shared: Arc<Shared>,
    lists: Option<Lists>,
}

/// Revocation lists, and of what they were made last.
struct Lists {
    revocation: Revocation,
    sent: Option<Vec<Vec<u8>>>,
}

impl WorkloadApiDriver {
    /// Keeps `revocation` as the agent says: each of its messages has all lists, perhaps none. A list that cannot be
    /// read leaves all of them as they were, and shows in the [status](Revocation::status).
    pub fn revocation(mut self, revocation: Revocation) -> Self {
        self.lists = Some(Lists { revocation, sent: None });
        self
    }

    /// Runs until the agent says something after which asking again is of no use
    /// ([`AgentError::is_final`]), and returns that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the stream.
    pub async fn run(mut self) -> AgentError {
        let mut backoff = Backoff::new(FIRST_WAIT, LAST_WAIT);
        loop {
            let error = self.follow(&mut backoff).await;
            tracing::warn!(target: "ca", error = %describe(&error), "no identities from the agent");
            self.shared.state.send_modify(|state| state.error = Some(error.clone()));
            if error.is_final() {
                return error;
            }
            tokio::time::sleep(backoff.failed()).await;
        }
    }

    /// Takes what the agent sends; why that ended.
    async fn follow(&mut self, backoff: &mut Backoff) -> AgentError {
        let mut request = Request::new(X509svidRequest {});
        // Without it an agent has to refuse: a browser that is led to its address cannot set it.
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let client = SpiffeWorkloadApiClient::with_origin(self.channel.clone(), origin());
        let mut client = client.max_decoding_message_size(MAX_MESSAGE);
        let mut stream = match Messages::of(client.fetch_x509svid(request)).await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        loop {
            match stream.next().await {
                Ok(mut message) => {
                    backoff.succeeded();
                    self.take_lists(std::mem::take(&mut message.crl));
                    let held = &self.shared.held;
                    self.take(Received::read(message, held, &self.provider, SystemTime::now()));
                }
                Err(error) => return error,
            }
        }
    }

    /// Before the identities that came with them: whatever else is wrong with a message, what it revokes is revoked.
    fn take_lists(&mut self, sent: Vec<Vec<u8>>) {
        let Some(lists) = &mut self.lists else { return };
        if lists.sent.as_ref() == Some(&sent) {
            return;
        }
        match read_lists(&sent) {
            Ok(read) => lists.revocation.replace(read),
            Err(error) => {
                tracing::warn!(target: "ca", error = %describe(&error), "the agent sent revocation lists that cannot be used");
                lists.revocation.failed(&error);
            }
        }
        lists.sent = Some(sent);
    }

    fn take(&self, received: Received) {
        let Received { entries, bundles, flaws } = received;
        for flaw in &flaws {
            tracing::warn!(target: "ca", error = %describe(flaw), "the agent sent something that cannot be used");
        }
        if entries.is_empty() {
            // Not what the standard lets it say: what there is stays.
            self.shared.state.send_modify(|state| state.error = Some(AgentError::NoIdentity));
            return;
        }
        self.shared.held.replace(entries.iter().filter_map(|entry| entry.svid.clone()), bundles);
        let flaw = entries.iter().find_map(|entry| entry.flaw.clone());
        let error = flaw.map(|reason| AgentError::Unusable { reason });
        self.shared.state.send_modify(|state| (state.entries, state.error) = (entries, error));
    }
}

impl Drop for WorkloadApiDriver {
    fn drop(&mut self) {
        self.shared.state.send_modify(|state| state.ended = true);
    }
}

impl fmt::Debug for WorkloadApiDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadApiDriver").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// What an agent sends on one call: something at once, and more whenever that changes.
struct Messages<T> {
    first: Option<T>,
    stream: Streaming<T>,
}

impl<T> Messages<T> {
    /// Waits for the first.
    async fn of(
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Self, AgentError> {
        let first = async {
            let mut stream = call.await?.into_inner();
            let first = stream.message().await?.ok_or(AgentError::Ended)?;
            Ok(Self { first: Some(first), stream })
        };
        let deadline = tokio::time::timeout(FIRST_MESSAGE, first).await;
        deadline.unwrap_or(Err(AgentError::Deadline { after: FIRST_MESSAGE }))
    }

    async fn next(&mut self) -> Result<T, AgentError> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => self.stream.message().await?.ok_or(AgentError::Ended),
        }
    }
}

/// What is taken of a message, and what is wrong with the rest.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_agent(
    message: crate::proto::spiffe::X509svidResponse,
    provider: &CryptoProvider,
) -> (Vec<SpiffeId>, Vec<String>) {
    let unreadable = read_lists(&message.crl).err();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Received { entries, flaws, .. } = Received::read(message, &Held::default(), provider, now);
    (
        entries.iter().filter_map(|entry| entry.usable().ok()).collect(),
        flaws.iter().map(|flaw| describe(flaw)).chain(unreadable.map(|error| describe(&error))).collect(),
    )
}

fn in_date(svid: Arc<X509Svid>) -> Result<Arc<X509Svid>, IdentityError> {
    if SystemTime::now() > svid.not_after() {
        return Err(IdentityError::Expired { id: svid.id().clone(), not_after: svid.not_after() });
    }
    Ok(svid)
}

fn unavailable(id: &SpiffeId, error: &AgentError) -> IdentityError {
    IdentityError::Unavailable { id: id.clone(), reason: describe(error).into() }
}

/// What grpc names a server without a host.
fn origin() -> Uri {
    Uri::from_static("http://localhost")
}

/// An agent that has nothing to say says so.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// An agent is on this machine.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LAST_WAIT: Duration = Duration::from_secs(15);
/// The bundles of some hundred federated trust domains.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
