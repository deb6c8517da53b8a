//! The client of Istio's certificate API against a server that does as the test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod grpc_server;

use std::{
    error::Error,
    fs,
    os::unix::fs::symlink,
    sync::{Arc, Mutex},
    time::Duration,
};

use grpc_server::{Folder, Server};
use mesh_identity::{
    CertificateAuthority, ChannelError, DialError, IssueError, IssueFault, IssuedSvid, IstioCa,
    IstioCaBuilder, IstioCaError, ResponseError, RootSource, RootSourceError, SpiffeId, TokenError,
    TokenSource,
    proto::istio::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
    testing::provider,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";
const HOUR: Duration = Duration::from_secs(3600);

/// An authority that signs what it is asked to, or does something else.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn sign(&self, csr: &str, id: &str) -> String {
        let request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.signed_by(&request.public_key, &self.issuer).unwrap().pem()
    }

    /// How its server proves that it is `name`.
    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

type Answer = dyn Fn(&Authority, &IstioCertificateRequest) -> Result<Vec<String>, Status> + Send + Sync;

#[derive(Clone)]
struct Service {
    authority: Arc<Authority>,
    answer: Arc<Answer>,
    hangs: bool,
    received: Arc<Mutex<Vec<(MetadataMap, IstioCertificateRequest)>>>,
}

impl Service {
    fn honest() -> Self {
        Self::answering(|authority, request| {
            Ok(vec![authority.sign(&request.csr, CART), authority.root.clone()])
        })
    }

    fn answering(
        answer: impl Fn(&Authority, &IstioCertificateRequest) -> Result<Vec<String>, Status>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let authority = Arc::new(Authority::new());
        Self { authority, answer: Arc::new(answer), hangs: false, received: Arc::default() }
    }

    /// The only call there was.
    fn only(&self) -> (MetadataMap, IstioCertificateRequest) {
        let received = self.received();
        assert_eq!(received.len(), 1);
        received.into_iter().next().unwrap()
    }

    fn received(&self) -> Vec<(MetadataMap, IstioCertificateRequest)> {
        self.received.lock().unwrap().clone()
    }

    async fn serve(&self) -> Server {
        self.serve_as("127.0.0.1").await
    }

    async fn serve_as(&self, name: &str) -> Server {
        Server::tls(IstioCertificateServiceServer::new(self.clone()), self.authority.server(name)).await
    }

    /// A client that trusts it.
    fn client(&self, server: &Server) -> IstioCaBuilder {
        let address = server.address.unwrap().to_string().parse().unwrap();
        IstioCa::builder(address, provider()).roots(RootSource::pem(self.authority.root.clone()))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let answer = (self.answer)(&self.authority, &request);
        self.received.lock().unwrap().push((metadata, request));
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(IstioCertificateResponse { cert_chain: answer? }))
    }
}

fn cart() -> SpiffeId {
    CART.parse().unwrap()
}

async fn issue(ca: &IstioCa) -> Result<IssuedSvid, IssueError> {
    ca.issue(&cart(), HOUR).await
}

async fn failure(ca: &IstioCa) -> IssueError {
    issue(ca).await.expect_err("it should not be issued")
}

fn cause(error: &IssueError) -> &IstioCaError {
    error.source().unwrap().downcast_ref().unwrap()
}

fn header<'a>(metadata: &'a MetadataMap, name: &str) -> Vec<&'a str> {
    metadata.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

// identity#26, identity#27, identity#28, identity#29, identity#30, identity#86
#[tokio::test]
async fn a_node_sends_whom_it_asks_for_and_who_it_is() {
    let service = Service::honest();
    let server = service.serve().await;
    let ca = service
        .client(&server)
        .impersonate(true)
        .cluster_id("cluster1")
        .token(TokenSource::fixed("abc"))
        .header("X_Route", "blue")
        .build()
        .unwrap();
    let issued = issue(&ca).await.unwrap();
    assert_eq!(issued.svid.id(), &cart());
    assert_eq!(issued.bundle.certificates().len(), 1);

    let (metadata, request) = service.only();
    assert_eq!(header(&metadata, "authorization"), ["Bearer abc"]);
    assert_eq!(header(&metadata, "clusterid"), ["cluster1"]);
    assert_eq!(header(&metadata, "x_route"), ["blue"]);
    assert_eq!(request.validity_duration, 3600);
    let fields = request.metadata.unwrap().fields;
    assert_eq!(fields.len(), 1);
    let kind = fields["ImpersonatedIdentity"].kind.clone();
    assert_eq!(kind, Some(prost_types::value::Kind::StringValue(CART.to_owned())));
}

// identity#27, identity#87
#[tokio::test]
async fn a_workload_asks_for_itself_without_metadata() {
    let service = Service::honest();
    let server = service.serve().await;
    let ca = service.client(&server).build().unwrap();
    issue(&ca).await.unwrap();
    let (metadata, request) = service.only();
    assert!(request.metadata.is_none());
    assert_eq!(header(&metadata, "authorization"), [""; 0]);
    assert_eq!(header(&metadata, "clusterid"), ["Kubernetes"]);
}

// identity#25
#[tokio::test]
async fn calls_share_a_connection_but_no_key() {
    let service = Service::honest();
    let server = service.serve().await;
    let ca = service.client(&server).build().unwrap();
    let calls = [(); 8].map(|()| {
        let ca = ca.clone();
        tokio::spawn(async move { issue(&ca).await.unwrap() })
    });
    for call in calls {
        call.await.unwrap();
    }
    let mut requests: Vec<_> = service.received().into_iter().map(|(_, request)| request.csr).collect();
    requests.sort_unstable();
    requests.dedup();
    assert_eq!((requests.len(), server.accepted()), (8, 1));
}

// identity#29
#[tokio::test]
async fn the_token_is_read_for_each_call_and_an_empty_one_is_not_sent() {
    let service = Service::honest();
    let server = service.serve().await;
    let folder = Folder::new();
    let path = folder.path("token");
    let ca = service.client(&server).token(TokenSource::file(&path)).build().unwrap();

    let error = failure(&ca).await;
    assert_eq!(error.fault(), IssueFault::Local);
    assert!(matches!(cause(&error), IstioCaError::Token(TokenError::Read { .. })));
    folder.write("token", "one\n");
    issue(&ca).await.unwrap();
    folder.write("token", " two\r\n");
    issue(&ca).await.unwrap();
    for empty in ["", "\n"] {
        folder.write("token", empty);
        assert!(matches!(cause(&failure(&ca).await), IstioCaError::Token(TokenError::Empty)));
    }
    let sent: Vec<_> = service.received().iter().map(|(m, _)| header(m, "authorization").concat()).collect();
    assert_eq!(sent, ["Bearer one", "Bearer two"]);
}

// identity#31
#[tokio::test]
async fn a_second_name_counts_only_where_the_first_fails() {
    let service = Service::honest();
    let server = service.serve_as("ca.example.org").await;
    let is_tls = |error: &IssueError| {
        matches!(cause(error), IstioCaError::Channel(ChannelError::Dial(DialError::Tls { .. })))
    };
    let error = failure(&service.client(&server).build().unwrap()).await;
    assert!(is_tls(&error), "{error:?}");
    assert_eq!(error.fault(), IssueFault::Unreachable);
    let alternate = |name: &str| service.client(&server).alternate_host_name(name).build().unwrap();
    assert!(is_tls(&failure(&alternate("other.example.org")).await));
    issue(&alternate("ca.example.org")).await.unwrap();

    let first = service.serve_as("127.0.0.1").await;
    let ca = service.client(&first).alternate_host_name("other.example.org").build().unwrap();
    issue(&ca).await.unwrap();

    // The second name widens nothing but the name.
    let stranger = RootSource::pem(Authority::new().root);
    let ca = service.client(&server).alternate_host_name("ca.example.org").roots(stranger).build().unwrap();
    assert!(is_tls(&failure(&ca).await));
}

// identity#32, control-plane#80
#[tokio::test]
async fn a_root_file_may_come_later_and_its_absence_is_told() {
    let service = Service::honest();
    let server = service.serve().await;
    let folder = Folder::new();
    let ca = service.client(&server).roots(RootSource::file(folder.path("root"))).build().unwrap();
    let roots = |error: &IssueError| match cause(error) {
        IstioCaError::Channel(ChannelError::Dial(DialError::Roots(error))) => error.clone(),
        other => panic!("{other:?}"),
    };
    let error = failure(&ca).await;
    assert_eq!(error.fault(), IssueFault::Local);
    assert!(matches!(roots(&error), RootSourceError::Read { .. }));
    folder.write("root", "nothing");
    assert!(matches!(roots(&failure(&ca).await), RootSourceError::Empty));
    folder.write("root", &service.authority.root);
    issue(&ca).await.unwrap();

    // Whatever they are, the machine's own roots do not include this one.
    let ca = service.client(&server).roots(RootSource::system()).build().unwrap();
    failure(&ca).await;
    let ca = service.client(&server).roots(RootSource::pem("./root-cert.pem")).build().unwrap();
    assert!(matches!(roots(&failure(&ca).await), RootSourceError::Empty));
}

// identity#33
#[tokio::test]
async fn swapped_roots_count_from_the_next_call_and_broken_ones_never() {
    let service = Service::honest();
    let server = service.serve().await;
    let folder = Folder::new();
    let [good, other, link] = ["good", "other", "link"].map(|name| folder.path(name));
    fs::create_dir(&good).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(good.join("root-cert.pem"), &service.authority.root).unwrap();
    fs::write(other.join("root-cert.pem"), Authority::new().root).unwrap();
    // As Kubernetes does it: the folder is a link, replaced by a rename.
    let swap = |to| {
        symlink(to, folder.path("next")).unwrap();
        fs::rename(folder.path("next"), &link).unwrap();
    };
    swap(&good);
    let ca = service.client(&server).roots(RootSource::file(link.join("root-cert.pem"))).build().unwrap();
    issue(&ca).await.unwrap();
    issue(&ca).await.unwrap();
    assert_eq!(server.accepted(), 1);

    swap(&other);
    let error = failure(&ca).await;
    assert!(matches!(cause(&error), IstioCaError::Channel(ChannelError::Dial(DialError::Tls { .. }))));
    swap(&good);
    issue(&ca).await.unwrap();
    let accepted = server.accepted();

    for broken in ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
        fs::write(good.join("root-cert.pem"), broken).unwrap();
        issue(&ca).await.unwrap();
    }
    fs::remove_file(good.join("root-cert.pem")).unwrap();
    issue(&ca).await.unwrap();
    assert_eq!(server.accepted(), accepted);
}

// identity#36
#[tokio::test]
async fn an_authority_that_hangs_is_given_up_and_dialled_anew() {
    let service = Service { hangs: true, ..Service::honest() };
    let server = service.serve().await;
    let ca = service.client(&server).call_timeout(Duration::from_millis(200)).build().unwrap();
    for connections in 1..=2 {
        let error = failure(&ca).await;
        assert_eq!(error.fault(), IssueFault::Deadline);
        assert!(matches!(cause(&error), IstioCaError::Deadline { .. }));
        assert_eq!(server.accepted(), connections);
    }
}

// identity#36
#[tokio::test]
async fn a_server_without_tls_is_given_up() {
    // The kernel takes the connection, and nobody ever answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let ca = IstioCa::builder(address, provider())
        .roots(RootSource::pem(Authority::new().root))
        .connect_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let error = failure(&ca).await;
    assert_eq!(error.fault(), IssueFault::Deadline);
    assert!(matches!(cause(&error), IstioCaError::Channel(ChannelError::Dial(DialError::Deadline { .. }))));
}

#[tokio::test]
async fn an_authority_that_comes_back_is_found() {
    let service = Service::honest();
    let folder = Folder::new();
    let path = folder.path("ca.sock");
    let address = format!("unix://{}", path.display()).parse().unwrap();
    let ca = IstioCa::builder(address, provider()).build().unwrap();
    let error = failure(&ca).await;
    assert_eq!(error.fault(), IssueFault::Unreachable);
    assert!(matches!(cause(&error), IstioCaError::Channel(ChannelError::Dial(DialError::Connect { .. }))));
    for _ in 0..2 {
        let server = Server::unix(IstioCertificateServiceServer::new(service.clone()), &path);
        issue(&ca).await.unwrap();
        issue(&ca).await.unwrap();
        assert_eq!(server.accepted(), 1);
    }
}

// identity#34, identity#37
#[tokio::test]
async fn unusable_answers_are_told_apart() {
    type Case = (fn(&Authority, &IstioCertificateRequest) -> Vec<String>, fn(&IstioCaError) -> bool);
    let cases: [Case; 6] = [
        (|_, _| Vec::new(), |error| matches!(error, IstioCaError::Response(ResponseError::Empty))),
        (
            |authority, request| vec![authority.sign(&request.csr, CART)],
            |error| matches!(error, IstioCaError::Response(ResponseError::NoRoots)),
        ),
        (
            |authority, request| {
                vec![authority.sign(&request.csr, "spiffe://example.org/ns/a/sa/b"), authority.root.clone()]
            },
            |error| matches!(error, IstioCaError::Response(ResponseError::Identity { .. })),
        ),
        (
            |authority, request| vec![authority.sign(&request.csr, CART), Authority::new().root],
            |error| matches!(error, IstioCaError::Response(ResponseError::Verify(_))),
        ),
        (
            |authority, _| vec!["garbage".to_owned(), authority.root.clone()],
            |error| matches!(error, IstioCaError::Response(ResponseError::NoCertificate { element: 0 })),
        ),
        (
            |authority, _| vec![authority.root.repeat(2000)],
            |error| matches!(error, IstioCaError::Refused { code: "OUT_OF_RANGE", .. }),
        ),
    ];
    for (index, (answer, is_right)) in cases.into_iter().enumerate() {
        let service = Service::answering(move |authority, request| Ok(answer(authority, request)));
        let server = service.serve().await;
        let error = failure(&service.client(&server).build().unwrap()).await;
        assert!(is_right(cause(&error)), "{index}: {error:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_its_status() {
    let service = Service::answering(|_, _| {
        Err(Status::new(Code::Unauthenticated, "request authenticate failure\nwith a second line"))
    });
    let server = service.serve().await;
    let error = failure(&service.client(&server).build().unwrap()).await;
    assert_eq!(error.fault(), IssueFault::Refused);
    let IstioCaError::Refused { code, message } = cause(&error) else { panic!("{error:?}") };
    assert_eq!(
        (*code, message.as_str()),
        ("UNAUTHENTICATED", "request authenticate failurewith a second line")
    );
}

// identity#84
#[tokio::test]
async fn nothing_printed_contains_a_secret() {
    let service = Service::answering(|_, _| Err(Status::unavailable("not now")));
    let server = service.serve().await;
    let builder =
        service.client(&server).token(TokenSource::fixed("a-secret")).header("X_Key", "another-secret");
    let described = format!("{builder:?}");
    let ca = builder.build().unwrap();
    let error = failure(&ca).await;
    let printed = format!("{described} {ca:?} {error:?} {error} {:?}", cause(&error));
    assert!(!printed.contains("secret") && !printed.contains("REQUEST"), "{printed}");
}
