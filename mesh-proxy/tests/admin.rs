//! The HTTP servers beside the data path, as kubelet, Prometheus and operators' tools use them.

#![cfg(feature = "admin")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use mesh_identity::{
    IdentitySource, IdentityStore, SpiffeId, SvidFuture, TrustBundles, X509Svid, testing::Authority,
};
use mesh_policy::MissingPolicy;
use mesh_proxy::{
    admin::{
        AdminEndpoint, BuildInfo, ConfigDump, Endpoint, MetricsEndpoint, Readiness, ReadinessEndpoint, serve,
    },
    config::local::LocalConfig,
    state::StateStore,
    telemetry::{
        Telemetry,
        log::{LogHandle, LogLevels},
    },
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// A response, taken apart.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn content_type(&self) -> &str {
        self.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default()
    }
}

/// A server on a port of its own.
struct Server {
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(endpoint: impl Endpoint) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, ended) = oneshot::channel();
        let task = tokio::spawn(serve(listener, endpoint, async { _ = ended.await }));
        Self { address, shutdown, task }
    }

    async fn ask(&self, method: &str, target: &str, headers: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {target} HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Response { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, target: &str) -> Response {
        self.ask("GET", target, "").await
    }

    async fn post(&self, target: &str) -> Response {
        self.ask("POST", target, "content-length: 0\r\n").await
    }
}

// telemetry#38, telemetry#39
#[tokio::test]
async fn readiness_lists_what_is_pending_and_recovers() {
    let readiness = Readiness::new();
    let server = Server::start(ReadinessEndpoint::new(readiness.clone()));
    let tasks = [readiness.pending("state manager"), readiness.pending("proxy"), readiness.pending("proxy")];
    let response = server.get("/healthz/ready").await;
    assert_eq!((response.status, &*response.body), (500, "not ready, pending: proxy, state manager\n"));
    drop(tasks);
    let response = server.get("/healthz/ready").await;
    assert_eq!((response.status, &*response.body), (200, "ready\n"));
    let _again = readiness.pending("workload proxy manager");
    assert_eq!(server.get("/healthz/ready").await.status, 500);
    readiness.drain();
    let response = server.get("/healthz/ready").await;
    assert_eq!((response.status, &*response.body), (503, "draining\n"));
}

// telemetry#38
#[tokio::test]
async fn readiness_is_asked_by_get_at_one_path() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    assert_eq!(server.post("/healthz/ready").await.status, 405);
    assert_eq!(server.get("/healthz/live").await.status, 404);
}

// telemetry#1, telemetry#2
#[tokio::test]
async fn both_paths_show_the_same_metrics() {
    let server = Server::start(MetricsEndpoint::new(Arc::new(Telemetry::builder().build())));
    let families = |body: String| {
        assert!(body.ends_with("# EOF\n"));
        body.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect::<Vec<_>>()
    };
    let metrics = families(server.get("/metrics").await.body);
    assert!(metrics.contains(&"# TYPE istio_build gauge".to_owned()));
    assert_eq!(families(server.post("/stats/prometheus").await.body), metrics);
    let missing = server.get("/foo").await;
    assert_eq!((missing.status, &*missing.body), (404, ""));
}

// telemetry#3
#[tokio::test]
async fn openmetrics_is_named_to_those_who_ask_for_it() {
    let server = Server::start(MetricsEndpoint::new(Arc::new(Telemetry::builder().build())));
    let open = "application/openmetrics-text;charset=utf-8;version=1.0.0";
    for (accept, content_type) in [
        ("accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n", open),
        ("accept: text/plain\r\naccept: a/b, Application/OpenMetrics-Text\r\n", open),
        ("accept: */*\r\n", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
    ] {
        let response = server.ask("GET", "/metrics", accept).await;
        assert_eq!(response.content_type(), content_type, "{accept}");
    }
}

/// An administration endpoint of its own, and how often it was told to quit.
fn admin(levels: &str) -> (AdminEndpoint, LogHandle, Arc<AtomicUsize>) {
    let (_, handle) = LogHandle::new(levels.parse::<LogLevels>().unwrap());
    let quits = Arc::new(AtomicUsize::new(0));
    let dump = Arc::new(ConfigDump::builder(Arc::new(StateStore::new(None, MissingPolicy::Deny))).build());
    let count = Arc::clone(&quits);
    let endpoint = AdminEndpoint::new(dump, handle.clone(), move || _ = count.fetch_add(1, Ordering::SeqCst));
    (endpoint, handle, quits)
}

// telemetry#41
#[tokio::test]
async fn levels_change_by_post_only() {
    let (endpoint, handle, _) = admin("info");
    let server = Server::start(endpoint);
    let refused = server.get("/logging?level=off").await;
    assert_eq!(refused.status, 405);
    assert!(refused.body.starts_with("usage: POST /logging"));
    let response = server.post("/logging?level=access=debug").await;
    assert_eq!((response.status, &*response.body), (200, "current log level is access=debug,info\n"));
    assert_eq!(handle.levels().to_string(), "access=debug,info");
    for list in ["/logging", "/logging?level="] {
        assert_eq!(server.post(list).await.body, "current log level is access=debug,info\n");
    }
}

// telemetry#42, telemetry#69, telemetry#70
#[tokio::test]
async fn reset_goes_back_to_the_levels_at_startup() {
    let (endpoint, handle, _) = admin("warn,access=off");
    let server = Server::start(endpoint);
    for (query, levels) in [
        ("level=access:debug,trace", "access=debug,trace"),
        ("level=&reset", "access=off,warn"),
        ("level=access%3Dinfo", "access=info,warn"),
        ("level=info&reset", "access=off,info"),
        ("reset=yes", "access=off,warn"),
    ] {
        assert_eq!(server.post(&format!("/logging?{query}")).await.status, 200);
        assert_eq!(handle.levels().to_string(), levels, "{query}");
    }
}

// telemetry#43
#[tokio::test]
async fn invalid_levels_change_nothing() {
    let (endpoint, handle, _) = admin("info");
    let server = Server::start(endpoint);
    for query in ["level=loud", "level=debug,access=loud", "level=loud&reset"] {
        let response = server.post(&format!("/logging?{query}")).await;
        assert_eq!(response.status, 400);
        assert!(response.body.starts_with("Invalid level provided: "), "{}", response.body);
        assert_eq!(handle.levels(), LogLevels::default());
    }
}

// telemetry#44
#[tokio::test]
async fn quit_is_asked_by_post_only() {
    let (endpoint, _, quits) = admin("info");
    let server = Server::start(endpoint);
    let refused = server.get("/quitquitquit").await;
    assert_eq!((refused.status, &*refused.body), (405, ""));
    assert_eq!(quits.load(Ordering::SeqCst), 0);
    let response = server.post("/quitquitquit").await;
    assert_eq!((response.status, &*response.body), (200, "shutdown now\n"));
    assert_eq!(quits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn index_is_a_page_and_other_paths_are_absent() {
    let (endpoint, _, _) = admin("info");
    let server = Server::start(endpoint);
    assert_eq!(server.get("/").await.content_type(), "text/html; charset=utf-8");
    assert_eq!(server.get("/server_info").await.status, 404);
}

// A dump takes as much memory as the state has entries; who reads it slowly keeps that.
#[test]
fn dumps_in_memory_are_bounded_until_their_readers_are_gone() {
    let (endpoint, ..) = admin("info");
    let (request, ()) = http::Request::get("/config_dump").body(()).unwrap().into_parts();
    let other = endpoint.clone();
    let first = endpoint.answer(&request);
    let second = other.answer(&request);
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(other.answer(&request).status(), StatusCode::SERVICE_UNAVAILABLE);
    // What is not the dump is answered all the same.
    let (index, ()) = http::Request::get("/").body(()).unwrap().into_parts();
    assert_eq!(endpoint.answer(&index).status(), StatusCode::OK);
    drop(first);
    assert_eq!(endpoint.answer(&request).status(), StatusCode::OK);
}

const LOCAL: &str = r#"
workloads:
- uid: cluster1//v1/Pod/shop/web
  name: web
  namespace: shop
  serviceAccount: web
  trustDomain: example.org
  workloadIps: ["192.0.2.1"]
  protocol: HBONE
  services: {}
- uid: cluster1//v1/Pod/shop/cart
  name: cart
  namespace: shop
  serviceAccount: cart
  trustDomain: example.org
  workloadIps: ["192.0.2.2"]
  protocol: HBONE
  services:
    "shop/cart.shop.svc.cluster.local":
      80: 8080
    "shop/later.shop.svc.cluster.local":
      80: 8080
policies:
- name: deny-9999
  namespace: shop
  scope: Namespace
  action: Deny
  dryRun: false
  rules:
  - - - destinationPorts: [9999]
services:
- name: cart
  namespace: shop
  hostname: cart.shop.svc.cluster.local
  vips: ["/203.0.113.10"]
  ports:
    80: 8080
"#;

fn id() -> SpiffeId {
    "spiffe://example.org/ns/shop/sa/web".parse().unwrap()
}

async fn dump(identities: Arc<dyn IdentitySource>) -> Value {
    let state = Arc::new(StateStore::new(None, MissingPolicy::Deny));
    let local: LocalConfig = LOCAL.parse().unwrap();
    let document = Arc::clone(local.document());
    state.apply(local.into_changes());
    let dump = ConfigDump::builder(state)
        .config(&serde_json::json!({ "network": "" }))
        .version(BuildInfo { version: "0.1.0".to_owned(), ..BuildInfo::default() })
        .certificates(identities, |_| vec![id()])
        .build();
    dump.replace_static_config(document);
    let (_, handle) = LogHandle::new(LogLevels::default());
    let server = Server::start(AdminEndpoint::new(Arc::new(dump), handle, || {}));
    let response = server.get("/config_dump").await;
    assert_eq!((response.status, response.content_type()), (200, "application/json"));
    serde_json::from_str(&response.body).unwrap()
}

/// A source that does not say whose certificates it has.
#[derive(Debug)]
struct Unlisted(IdentityStore);

impl IdentitySource for Unlisted {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        self.0.svid(id)
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.0.try_svid(id)
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        self.0.bundles()
    }

    fn generation(&self) -> u64 {
        self.0.generation()
    }
}

// telemetry#47, control-plane#65, control-plane#81
#[tokio::test]
async fn config_dump_has_the_shape_that_tools_read() {
    let dump = dump(Arc::new(Unlisted(IdentityStore::new(TrustBundles::default())))).await;
    let keys: Vec<_> = dump.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "certificates",
            "config",
            "policies",
            "services",
            "stagedServices",
            "staticConfig",
            "version",
            "workloads"
        ]
    );
    let cart = &dump["workloads"][0];
    assert_eq!(cart["uid"], "cluster1//v1/Pod/shop/cart");
    assert_eq!(cart["protocol"], "HBONE");
    assert_eq!(cart["services"][0], "shop/cart.shop.svc.cluster.local");
    let service = &dump["services"][0];
    assert_eq!(service["vips"][0], "/203.0.113.10");
    assert_eq!(service["endpoints"]["cluster1//v1/Pod/shop/cart"]["port"]["80"], 8080);
    assert_eq!(dump["policies"][0]["rules"][0][0][0]["destinationPorts"][0], 9999);
    let staged = &dump["stagedServices"]["shop/later.shop.svc.cluster.local"];
    assert_eq!(staged["cluster1//v1/Pod/shop/cart"]["status"], "Healthy");
    assert_eq!(dump["staticConfig"]["workloads"][0]["name"], "web");
    assert_eq!(dump["version"]["version"], "0.1.0");
    assert_eq!(dump["config"]["network"], "");
    assert_eq!(dump["certificates"][0]["state"], "Initializing");
}

// telemetry#47, telemetry#49, control-plane#68, identity#82
#[tokio::test]
async fn certificates_are_shown_without_their_keys() {
    let authority = Authority::new("example.org");
    let dump = dump(Arc::new(authority.store([id().as_str()]))).await;
    let view = &dump["certificates"][0];
    assert_eq!((view["identity"].as_str(), view["state"].as_str()), (Some(id().as_str()), Some("Available")));
    let decode = |certificate: &Value| {
        String::from_utf8(STANDARD.decode(certificate["pem"].as_str().unwrap()).unwrap()).unwrap()
    };
    assert_eq!(decode(&view["rootCerts"][0]).trim(), authority.root_pem().replace('\r', "").trim());
    for certificate in [&view["certChain"][0], &view["rootCerts"][0]] {
        assert!(certificate["serialNumber"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
        for time in [&certificate["validFrom"], &certificate["expirationTime"]] {
            let time = time.as_str().unwrap();
            assert!(time.len() == "2026-01-01T00:00:00Z".len() && time.ends_with('Z'), "{time}");
        }
    }
    assert!(!dump.to_string().contains("PRIVATE"));
    assert!(!decode(&view["certChain"][0]).contains("PRIVATE"));
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_cut_off() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz/ready HTTP/1.1\r\n").await.unwrap();
    // Nothing but the timeout ends this.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn oversized_head_is_refused() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    let response = server.ask("GET", "/healthz/ready", &format!("x: {}\r\n", "x".repeat(9000))).await;
    assert_eq!(response.status, 431);
}

#[tokio::test]
async fn shutdown_ends_the_server_and_idle_connections() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/healthz/ready").await.status, 200);
    server.shutdown.send(()).unwrap();
    server.task.await.unwrap().unwrap();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// Whoever does not read its answer, asks again and again or does not ask at all holds a place until another needs it.
#[tokio::test]
async fn slow_clients_do_not_keep_kubelet_from_its_answer() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    let request = b"GET /healthz/ready HTTP/1.1\r\nhost: example.org\r\n\r\n";
    let mut slow = Vec::new();
    for count in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if count % 2 == 0 {
            // An error says that it was closed meanwhile.
            let _ = stream.write_all(&request.repeat(100)).await;
        }
        slow.push(stream);
        if count % 50 == 0 {
            assert_eq!(server.get("/healthz/ready").await.status, 200);
        }
    }
    assert_eq!(server.get("/healthz/ready").await.status, 200);
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let server = Server::start(ReadinessEndpoint::new(Readiness::new()));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: example.org\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.contains("connection: close") && response.ends_with("ready\n"), "{response}");
}
