//! The clients of SPIFFE agents against an agent made from the field tables: there is no real one to test with.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod grpc_server;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt, stream};
use grpc_server::{Folder, Server};
use mesh_identity::{
    AgentEndpoint, AgentError, DelegatedIdentity, ExpectedPeer, IdentityError, IdentitySource, IdentityState,
    PeerVerifier, Revocation, RevocationPolicy, Role, SpiffeId, WorkloadApi, WorkloadSelectors,
    proto::{
        spiffe::{
            X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
            spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
        },
        spire::api::{
            agent::delegatedidentity::v1::{
                SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse, SubscribeToX509sviDsRequest,
                SubscribeToX509sviDsResponse, X509svidWithKey,
                delegated_identity_server::{
                    DelegatedIdentity as DelegatedIdentityApi, DelegatedIdentityServer,
                },
            },
            types,
        },
    },
    testing::{Authority, provider},
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
const STOCK: &str = "spiffe://example.org/ns/shop/sa/stock";

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// A leaf with its key, in DER.
struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Issued {
    fn new(authority: &Authority, id: &str) -> Self {
        let pem = authority.leaf(id).issue().pem();
        let chain = CertificateDer::pem_slice_iter(pem.chain().as_bytes()).map(Result::unwrap).collect();
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.key().as_bytes()).unwrap();
        Self { chain, key: key.secret_pkcs8_der().to_vec() }
    }
}

fn svid(authority: &Authority, id: &str, hint: &str) -> X509svid {
    let issued = Issued::new(authority, id);
    X509svid {
        spiffe_id: id.to_owned(),
        x509_svid: issued.chain.iter().flat_map(|der| der.to_vec()).collect(),
        x509_svid_key: issued.key,
        bundle: authority.root().to_vec(),
        hint: hint.to_owned(),
    }
}

/// The states that a stream goes through: the current one at once, and each later one.
fn follow<T: Clone + Send + Sync + 'static>(states: &watch::Sender<Result<T, Status>>) -> Streamed<T> {
    let mut states = states.subscribe();
    states.mark_changed();
    Box::pin(stream::unfold(states, |mut states| async move {
        states.changed().await.ok()?;
        let state = states.borrow_and_update().clone();
        Some((state, states))
    }))
}

/// Waits until a condition holds that a stream brings about.
async fn until(source: &dyn IdentitySource, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{source:?}"));
}

/// An agent that tells its caller who it is.
#[derive(Clone)]
struct Agent {
    states: Arc<watch::Sender<Result<X509svidResponse, Status>>>,
    calls: Arc<Mutex<Vec<bool>>>,
}

impl Agent {
    fn new(svids: Vec<X509svid>) -> Self {
        let states = Arc::new(watch::Sender::new(Ok(answer(svids, HashMap::new()))));
        Self { states, calls: Arc::default() }
    }

    fn refusing(code: Code) -> Self {
        let states = Arc::new(watch::Sender::new(Err(Status::new(code, "no"))));
        Self { states, calls: Arc::default() }
    }

    fn serve(&self, folder: &Folder) -> Server {
        Server::unix(SpiffeWorkloadApiServer::new(self.clone()), &folder.path("agent.sock"))
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

fn answer(svids: Vec<X509svid>, federated_bundles: HashMap<String, Vec<u8>>) -> X509svidResponse {
    X509svidResponse { svids, crl: Vec::new(), federated_bundles }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Agent {
    type FetchX509SVIDStream = Streamed<X509svidResponse>;
    type FetchX509BundlesStream = Streamed<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let header = request.metadata().get("workload.spiffe.io").is_some_and(|value| value == "true");
        self.calls.lock().unwrap().push(header);
        if let Err(status) = &*self.states.borrow() {
            return Err(status.clone());
        }
        Ok(Response::new(follow(&self.states)))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(Response::new(stream::empty().boxed()))
    }
}

fn endpoint(folder: &Folder) -> AgentEndpoint {
    AgentEndpoint::unix(folder.path("agent.sock"))
}

// identity#77
#[tokio::test]
async fn identities_are_pushed_and_replaced_together() {
    let (authority, other) = (Authority::new("example.org"), Authority::new("other.example.org"));
    let agent = Agent::new(vec![svid(&authority, CART, "internal"), svid(&authority, STOCK, "external")]);
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());

    assert_eq!(source.default_id().await.unwrap(), id(CART));
    assert_eq!(source.id_with_hint("external").await.unwrap(), id(STOCK));
    assert!(matches!(source.id_with_hint("other").await, Err(AgentError::NoIdentity)));
    let first = source.svid(&id(CART)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &source.try_svid(&id(CART)).unwrap()));
    assert!(matches!(
        source.svid(&id("spiffe://example.org/other")).await,
        Err(IdentityError::Unknown { .. })
    ));
    assert_eq!(*agent.calls.lock().unwrap(), [true]);

    // identity#78
    let federated = HashMap::from([("spiffe://other.example.org".to_owned(), other.root().to_vec())]);
    let generation = source.generation();
    let _ = agent.states.send_replace(Ok(answer(vec![svid(&authority, CART, "")], federated)));
    until(&source, || source.generation() != generation).await;
    assert_ne!(source.try_svid(&id(CART)).unwrap().serial(), first.serial());
    assert!(source.try_svid(&id(STOCK)).is_none());
    let bundles = source.bundles();
    let root = |name: &str| bundles.get(&name.parse().unwrap()).unwrap().certificates().to_vec();
    assert_eq!(
        (root("example.org"), root("other.example.org")),
        (vec![authority.root()], vec![other.root()])
    );

    // Nothing of it can be used: everything stays.
    let second = source.try_svid(&id(CART)).unwrap();
    let mut broken = svid(&authority, CART, "");
    broken.x509_svid.truncate(10);
    let _ = agent.states.send_replace(Ok(answer(vec![broken.clone()], HashMap::new())));
    until(&source, || source.last_error().is_some()).await;
    assert!(matches!(source.last_error(), Some(AgentError::Unusable { .. })));
    assert!(Arc::ptr_eq(&second, &source.try_svid(&id(CART)).unwrap()));
    assert_eq!(source.default_id().await.unwrap(), id(CART));
    let [status] = source.statuses().unwrap().try_into().unwrap();
    assert!(status.state == IdentityState::Available && status.last_error.is_some());
    driving.abort();
}

// SPIFFE Workload API §5.3
#[tokio::test]
async fn the_second_identity_is_not_the_default_of_a_first_that_cannot_be_used() {
    let authority = Authority::new("example.org");
    let mut broken = svid(&authority, CART, "internal");
    broken.x509_svid.truncate(10);
    let agent = Agent::new(vec![broken, svid(&authority, STOCK, "external")]);
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    assert!(matches!(source.default_id().await, Err(AgentError::Unusable { .. })));
    assert!(matches!(source.id_with_hint("internal").await, Err(AgentError::Unusable { .. })));
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unavailable { .. })));
    assert_eq!(source.id_with_hint("external").await.unwrap(), id(STOCK));
    assert_eq!(source.svid(&id(STOCK)).await.unwrap().id(), &id(STOCK));
    let statuses = source.statuses().unwrap();
    let states: Vec<_> = statuses.iter().map(|status| status.state == IdentityState::Available).collect();
    assert_eq!(states, [false, true]);
    driving.abort();
}

// identity#77
#[tokio::test]
async fn a_lost_agent_costs_nothing_and_is_found_again() {
    let authority = Authority::new("example.org");
    let agent = Agent::new(vec![svid(&authority, CART, "")]);
    let folder = Folder::new();
    let server = agent.serve(&folder);
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    let first = source.svid(&id(CART)).await.unwrap();

    drop(server);
    until(&source, || source.last_error().is_some()).await;
    assert!(Arc::ptr_eq(&first, &source.svid(&id(CART)).await.unwrap()));

    let _ = agent.states.send_replace(Ok(answer(vec![svid(&authority, CART, "")], HashMap::new())));
    let _server = agent.serve(&folder);
    until(&source, || source.last_error().is_none()).await;
    assert_ne!(source.svid(&id(CART)).await.unwrap().serial(), first.serial());
    driving.abort();
}

// identity#77
#[tokio::test]
async fn the_status_says_whether_to_ask_again() {
    for code in [Code::InvalidArgument, Code::Unimplemented] {
        let (agent, folder) = (Agent::refusing(code), Folder::new());
        let _server = agent.serve(&folder);
        let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
        assert!(driver.run().await.is_final());
        assert_eq!(agent.calls(), 1);
        let error = source.svid(&id(CART)).await.unwrap_err();
        assert!(matches!(error, IdentityError::Unavailable { .. }), "{error:?}");
    }
    for code in [Code::PermissionDenied, Code::Unavailable, Code::Internal] {
        let (agent, folder) = (Agent::refusing(code), Folder::new());
        let _server = agent.serve(&folder);
        let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
        let driving = tokio::spawn(driver.run());
        until(&source, || agent.calls() > 1).await;
        assert!(source.last_error().is_some_and(|error| !error.is_final()));
        let authority = Authority::new("example.org");
        let _ = agent.states.send_replace(Ok(answer(vec![svid(&authority, CART, "")], HashMap::new())));
        until(&source, || source.try_svid(&id(CART)).is_some()).await;
        driving.abort();
    }
}

// identity#70, identity#74
#[tokio::test]
async fn revocation_lists_come_with_identities_and_a_broken_one_changes_nothing() {
    let authority = Authority::new("example.org");
    let (cart, stock) = (svid(&authority, CART, ""), Issued::new(&authority, STOCK));
    let with_lists = |crl| Ok(X509svidResponse { crl, ..answer(vec![cart.clone()], HashMap::new()) });
    let agent = Agent::new(vec![cart.clone()]);
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.revocation(revocation.clone()).run());
    source.default_id().await.unwrap();
    assert_eq!((revocation.status().lists, revocation.generation()), (0, 1));

    let list = authority.revocation_list().revoke(&stock.chain[0]).der().to_vec();
    let _ = agent.states.send_replace(with_lists(vec![list.clone()]));
    until(&source, || revocation.status().lists == 1).await;
    let verifier = PeerVerifier::new(&provider(), source.bundles(), ExpectedPeer::exact([id(STOCK)]))
        .revocation(revocation.clone());
    let verify = || verifier.verify(&stock.chain[0], &[], Role::Client, SystemTime::now());
    assert!(verify().unwrap_err().is_revocation());

    // The same lists once more are no change, and one that cannot be read leaves them all as they were.
    let (generation, loads) = (source.generation(), revocation.status().loads);
    let again = answer(vec![svid(&authority, CART, "")], HashMap::new());
    let _ = agent.states.send_replace(Ok(X509svidResponse { crl: vec![list.clone()], ..again }));
    until(&source, || source.generation() != generation).await;
    assert_eq!(revocation.status().loads, loads);
    let _ = agent.states.send_replace(with_lists(vec![list, vec![0x30]]));
    until(&source, || revocation.status().failed_loads == 1).await;
    assert!(verify().unwrap_err().is_revocation());

    let _ = agent.states.send_replace(with_lists(Vec::new()));
    until(&source, || revocation.status().lists == 0).await;
    assert_eq!(verify(), Ok(id(STOCK)));
    driving.abort();
}

// identity §10.3
#[tokio::test]
async fn an_agent_may_listen_on_tcp() {
    let authority = Authority::new("example.org");
    let agent = Agent::new(vec![svid(&authority, CART, "")]);
    let server = Server::tcp(SpiffeWorkloadApiServer::new(agent.clone())).await;
    let endpoint: AgentEndpoint = format!("tcp://{}", server.address.unwrap()).parse().unwrap();
    let (source, driver) = WorkloadApi::new(endpoint, provider());
    let driving = tokio::spawn(driver.run());
    assert_eq!(source.default_id().await.unwrap(), id(CART));
    assert_eq!(*agent.calls.lock().unwrap(), [true]);
    driving.abort();
}

/// An agent that takes calls and says nothing.
#[derive(Clone)]
struct SilentAgent;

#[tonic::async_trait]
impl SpiffeWorkloadApi for SilentAgent {
    type FetchX509SVIDStream = Streamed<X509svidResponse>;
    type FetchX509BundlesStream = Streamed<X509BundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(Response::new(stream::pending().boxed()))
    }
}

// identity#77: nobody waits for ever.
#[tokio::test(start_paused = true)]
async fn an_agent_that_says_nothing_is_given_up() {
    let folder = Folder::new();
    let _server = Server::unix(SpiffeWorkloadApiServer::new(SilentAgent), &folder.path("agent.sock"));
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    let asked = tokio::time::Instant::now();
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unavailable { .. })));
    assert!(asked.elapsed() <= Duration::from_secs(16));
    // On tokio's paused clock the dial may run out of time as well.
    assert!(matches!(source.last_error(), Some(AgentError::Deadline { .. } | AgentError::Channel(_))));
    driving.abort();
}

#[tokio::test]
async fn without_its_driver_a_source_says_so() {
    let folder = Folder::new();
    let (source, driver) = WorkloadApi::new(endpoint(&folder), provider());
    drop(driver);
    assert!(matches!(source.default_id().await, Err(AgentError::Ended)));
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unavailable { .. })));
}

type Svids = watch::Sender<Result<SubscribeToX509sviDsResponse, Status>>;

/// A SPIRE agent that lets a node's proxy act for its workloads.
#[derive(Clone)]
struct SpireAgent {
    /// By the values of the selectors.
    workloads: Arc<Mutex<HashMap<Vec<String>, Arc<Svids>>>>,
    bundles: Arc<watch::Sender<Result<SubscribeToX509BundlesResponse, Status>>>,
}

impl SpireAgent {
    fn new(bundles: &[(&str, &Authority)]) -> Self {
        let bundles =
            bundles.iter().map(|(key, authority)| ((*key).to_owned(), authority.root().to_vec())).collect();
        let bundles = SubscribeToX509BundlesResponse { ca_certificates: bundles };
        Self { workloads: Arc::default(), bundles: Arc::new(watch::Sender::new(Ok(bundles))) }
    }

    fn register(&self, selectors: &[&str], svids: SubscribeToX509sviDsResponse) -> Arc<Svids> {
        let selectors = selectors.iter().map(|&value| value.to_owned()).collect();
        let sender = Arc::new(watch::Sender::new(Ok(svids)));
        self.workloads.lock().unwrap().insert(selectors, Arc::clone(&sender));
        sender
    }

    fn serve(&self, folder: &Folder) -> Server {
        Server::unix(DelegatedIdentityServer::new(self.clone()), &folder.path("agent.sock"))
    }
}

#[tonic::async_trait]
impl DelegatedIdentityApi for SpireAgent {
    type SubscribeToX509SVIDsStream = Streamed<SubscribeToX509sviDsResponse>;
    type SubscribeToX509BundlesStream = Streamed<SubscribeToX509BundlesResponse>;

    async fn subscribe_to_x509svi_ds(
        &self,
        request: Request<SubscribeToX509sviDsRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDsStream>, Status> {
        let request = request.into_inner();
        assert!(request.selectors.iter().all(|selector| selector.r#type == "k8s") && request.pid == 0);
        let selectors: Vec<_> = request.selectors.into_iter().map(|selector| selector.value).collect();
        match self.workloads.lock().unwrap().get(&selectors) {
            Some(svids) => Ok(Response::new(follow(svids))),
            None => Err(Status::invalid_argument("selectors")),
        }
    }

    async fn subscribe_to_x509_bundles(
        &self,
        _: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        Ok(Response::new(follow(&self.bundles)))
    }
}

fn delegated(authority: &Authority, ids: &[&str], federates_with: &[&str]) -> SubscribeToX509sviDsResponse {
    let svids = ids.iter().map(|id| {
        let issued = Issued::new(authority, id);
        let (trust_domain, path) = id.strip_prefix("spiffe://").unwrap().split_once('/').unwrap();
        let id = types::Spiffeid { trust_domain: trust_domain.to_owned(), path: format!("/{path}") };
        X509svidWithKey {
            x509_svid: Some(types::X509svid {
                cert_chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
                id: Some(id),
                expires_at: 0,
                hint: String::new(),
            }),
            x509_svid_key: issued.key,
        }
    });
    SubscribeToX509sviDsResponse {
        x509_svids: svids.collect(),
        federates_with: federates_with.iter().map(|&name| name.to_owned()).collect(),
    }
}

// identity#79, identity#89
#[tokio::test]
async fn each_workload_has_a_stream_for_as_long_as_it_is_wanted() {
    let own = Authority::new("example.org");
    let [federated, stranger] = ["other.example.org", "third.example.org"].map(Authority::new);
    let agent = SpireAgent::new(&[
        ("spiffe://example.org", &own),
        ("other.example.org", &federated),
        ("third.example.org", &stranger),
    ]);
    let cart =
        agent.register(&["ns:shop", "sa:cart"], delegated(&own, &[CART], &["spiffe://other.example.org"]));
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let (source, driver) = DelegatedIdentity::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unknown { .. })));

    let subscribe = || source.subscribe(WorkloadSelectors::kubernetes("shop", "cart"));
    let (one, other) = (subscribe(), subscribe());
    assert_eq!(one.ids().await.unwrap(), [id(CART)]);
    let first = source.svid(&id(CART)).await.unwrap();
    assert_eq!(cart.receiver_count(), 1);
    until(&source, || source.bundles().iter().count() == 2).await;
    let bundles = source.bundles();
    assert_eq!(bundles.get(&"example.org".parse().unwrap()).unwrap().certificates(), [own.root()]);
    assert_eq!(
        bundles.get(&"other.example.org".parse().unwrap()).unwrap().certificates(),
        [federated.root()]
    );

    let generation = source.generation();
    let _ = cart.send_replace(Ok(delegated(&own, &[CART, STOCK], &[])));
    until(&source, || source.generation() != generation).await;
    assert_ne!(source.svid(&id(CART)).await.unwrap().serial(), first.serial());
    assert_eq!(one.ids().await.unwrap(), [id(CART), id(STOCK)]);
    assert_eq!(source.bundles().iter().count(), 1);

    drop(one);
    assert!(source.try_svid(&id(CART)).is_some());
    drop(other);
    assert!(source.try_svid(&id(CART)).is_none());
    until(&source, || cart.receiver_count() == 0).await;

    // Wanted again, it is asked for again.
    let again = subscribe();
    assert_eq!(again.ids().await.unwrap().len(), 2);
    assert!(!driving.is_finished());
    driving.abort();
}

// identity#79
#[tokio::test]
async fn a_workload_that_is_not_registered_is_unavailable() {
    let own = Authority::new("example.org");
    let agent = SpireAgent::new(&[("example.org", &own)]);
    let cart = agent.register(&["ns:shop", "sa:cart"], delegated(&own, &[], &[]));
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let (source, driver) = DelegatedIdentity::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());

    let subscription = source.subscribe(WorkloadSelectors::kubernetes("shop", "cart"));
    assert!(matches!(subscription.ids().await, Err(AgentError::NoIdentity)));
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unavailable { .. })));
    let _ = cart.send_replace(Ok(delegated(&own, &[CART], &[])));
    until(&source, || source.try_svid(&id(CART)).is_some()).await;

    // What the agent does not take is not asked again, and hinders nobody else.
    let wrong = source.subscribe(WorkloadSelectors::kubernetes("shop", "unknown"));
    assert!(wrong.ids().await.unwrap_err().is_final());
    assert!(source.svid(&id(CART)).await.is_ok());

    // Without a registration there is no identity any more.
    let _ = cart.send_replace(Ok(delegated(&own, &[], &[])));
    until(&source, || source.try_svid(&id(CART)).is_none()).await;
    driving.abort();
}

#[tokio::test]
async fn workloads_outlive_their_agent() {
    let own = Authority::new("example.org");
    let agent = SpireAgent::new(&[("example.org", &own)]);
    let cart = agent.register(&["ns:shop", "sa:cart"], delegated(&own, &[CART], &[]));
    let folder = Folder::new();
    let server = agent.serve(&folder);
    let (source, driver) = DelegatedIdentity::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    let _subscription = source.subscribe(WorkloadSelectors::kubernetes("shop", "cart"));
    let first = source.svid(&id(CART)).await.unwrap();
    drop(server);
    until(&source, || cart.receiver_count() == 0).await;
    let _ = cart.send_replace(Ok(delegated(&own, &[CART], &[])));
    assert!(Arc::ptr_eq(&first, &source.svid(&id(CART)).await.unwrap()));
    let _server = agent.serve(&folder);
    until(&source, || !Arc::ptr_eq(&first, &source.try_svid(&id(CART)).unwrap())).await;
    driving.abort();
}

#[tokio::test]
async fn what_no_peer_would_take_leaves_what_a_workload_had() {
    let (own, stranger) = (Authority::new("example.org"), Authority::new("example.org"));
    let agent = SpireAgent::new(&[("example.org", &own)]);
    let cart = agent.register(&["ns:shop", "sa:cart"], delegated(&stranger, &[CART], &[]));
    let folder = Folder::new();
    let _server = agent.serve(&folder);
    let (source, driver) = DelegatedIdentity::new(endpoint(&folder), provider());
    let driving = tokio::spawn(driver.run());
    let subscription = source.subscribe(WorkloadSelectors::kubernetes("shop", "cart"));
    let state = || source.statuses().unwrap().pop().map(|status| status.state);
    until(&source, || matches!(state(), Some(IdentityState::Unavailable(_)))).await;
    assert!(matches!(subscription.ids().await, Err(AgentError::Unusable { .. })));
    assert!(matches!(source.svid(&id(CART)).await, Err(IdentityError::Unavailable { .. })));

    let _ = cart.send_replace(Ok(delegated(&own, &[CART], &[])));
    until(&source, || source.try_svid(&id(CART)).is_some()).await;
    let flaw = || source.statuses().unwrap().pop().unwrap().last_error;
    assert_eq!((state(), flaw()), (Some(IdentityState::Available), None));

    let mut torn = delegated(&own, &[CART], &[]);
    torn.x509_svids[0].x509_svid.as_mut().unwrap().cert_chain.clear();
    for flawed in [delegated(&stranger, &[CART], &[]), torn] {
        let before = source.try_svid(&id(CART)).unwrap();
        let _ = cart.send_replace(Ok(flawed));
        until(&source, || flaw().is_some()).await;
        assert!(Arc::ptr_eq(&before, &source.try_svid(&id(CART)).unwrap()));
        assert_eq!(subscription.ids().await.unwrap(), [id(CART)]);
        let _ = cart.send_replace(Ok(delegated(&own, &[CART], &[])));
        until(&source, || flaw().is_none()).await;
        assert!(!Arc::ptr_eq(&before, &source.try_svid(&id(CART)).unwrap()));
    }

    // A bundle that cannot be read leaves the one before.
    let bundles = source.bundles();
    let torn = HashMap::from([("example.org".to_owned(), vec![0x30])]);
    let _ = agent.bundles.send_replace(Ok(SubscribeToX509BundlesResponse { ca_certificates: torn }));
    let generation = source.generation();
    let _ = cart.send_replace(Ok(delegated(&own, &[CART], &[])));
    until(&source, || source.generation() != generation).await;
    assert!(Arc::ptr_eq(&bundles, &source.bundles()));
    driving.abort();
}
