use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mesh_identity::PemSvid;
use serde_json::{Value, json};
use thiserror::Error;

use super::{capture::PROXY_MARK, enter::Workspace, host::Host, process::Process};

const ADMIN_PORT: u16 = 15000;
/// Bound on getting ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// What it logs when its listeners are open.
const STARTED: &str = "all dependencies initialized. starting workers";

/// Envoy on a host, as one end of HBONE. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    host: Host,
    process: Process,
}

impl Envoy {
    /// Looks for the program: at `MESH_ENVOY`, where `.ci/install` puts it, then along `PATH`.
    pub fn find(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
        let environment: Vec<_> = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        if let Some(named) = variable("MESH_ENVOY") {
            return Some(named.into());
        }
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(variable("HOME")?).join(".cache")));
        let installed = cache.map(|cache| cache.join("mesh-peers/envoy"));
        let path = variable("PATH").map(OsString::as_os_str).unwrap_or_default();
        installed.into_iter().chain(candidates(path)).find(|candidate| candidate.is_file())
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it cannot be started, does not like its configuration, or does not listen within 20 s.
    pub fn start(
        program: &Path,
        host: &Host,
        config: &EnvoyConfig,
        workspace: &Workspace,
    ) -> Result<Self, EnvoyError> {
        let process = Self::launch(program, host, config, workspace).map_err(EnvoyError::Launch)?;
        let started = process.output().wait_for(START_PATIENCE, |line| line.contains(STARTED).then_some(()));
        if started.is_none() {
            return Err(EnvoyError::NotReady { output: process.output().lines() });
        }
        Ok(Self { host: host.clone(), process })
    }

    fn launch(
        program: &Path,
        host: &Host,
        config: &EnvoyConfig,
        workspace: &Workspace,
    ) -> io::Result<Process> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = workspace.scratch().join(format!("envoy-{number}.json"));
        fs::write(&file, config.to_json().to_string())?;
        let mut command = host.command(program)?;
        command.args(["--disable-hot-restart", "--log-format", "%L %v", "--concurrency"]);
        command.arg(config.workers.to_string()).arg("-c").arg(file);
        host.spawn(command)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The value of a counter or gauge; 0 for one that it does not have, as those are that nothing has touched yet.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn statistic(&self, name: &str) -> io::Result<u64> {
        let mut stream = self.host.connect((Ipv4Addr::LOCALHOST, ADMIN_PORT).into())?;
        write!(stream, "GET /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(find_statistic(&answer, name).unwrap_or(0))
    }
}

/// How Envoy is to be one end of HBONE.
///
/// As client it takes what the rules redirect to 15001 to port 15008 of where it was going. As server it takes HBONE on
/// 15008 to whatever address the request names.
///
/// What differs from the node proxy and no configuration changes: as server it answers 200 before it dials, so a refused
/// port looks like a connection that ends at once, and it resets the stream when the *application* ends its direction
/// first; it sends no `baggage`, `forwarded` or `traceparent`.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    role: Role,
    root: String,
    peers: String,
    identity: Option<PemSvid>,
    groups: Vec<String>,
    streams: u32,
    workers: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    Client,
    Server,
}

impl EnvoyConfig {
    /// A client that trusts servers under `root` whose SPIFFE ID starts with `peers`.
    pub fn client(root: &str, peers: &str) -> Self {
        Self::new(Role::Client, root, peers)
    }

    /// A server that trusts clients under `root` whose SPIFFE ID starts with `peers`.
    pub fn server(root: &str, peers: &str) -> Self {
        Self::new(Role::Server, root, peers)
    }

    fn new(role: Role, root: &str, peers: &str) -> Self {
        Self {
            role,
            root: root.to_owned(),
            peers: peers.to_owned(),
            identity: None,
            groups: Vec::new(),
            streams: i32::MAX.unsigned_abs(),
            workers: 1,
        }
    }

    /// What it proves itself with; a client without shows no certificate, a server without does not start.
    #[must_use]
    pub fn identity(mut self, identity: PemSvid) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Trusts another root than the one given first.
    #[must_use]
    pub fn trust(mut self, root: &str) -> Self {
        self.root = root.to_owned();
        self
    }

    /// The groups it agrees keys in, in BoringSSL's names; by default BoringSSL's choice.
    #[must_use]
    pub fn groups<'a>(mut self, groups: impl IntoIterator<Item = &'a str>) -> Self {
        self.groups = groups.into_iter().map(str::to_owned).collect();
        self
    }

    /// How many streams a connection may have at once; waypoints say 100. Without a limit by default.
    #[must_use]
    pub fn max_concurrent_streams(mut self, streams: u32) -> Self {
        self.streams = streams;
        self
    }

    /// How many threads carry connections; 1 by default.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The configuration in Envoy's terms.
    pub fn to_json(&self) -> Value {
        let (listener, cluster) = match self.role {
            Role::Client => self.client_parts(),
            Role::Server => self.server_parts(),
        };
        json!({
            "node": {"id": "hbone", "cluster": "lab"},
            "admin": {"address": socket_address("127.0.0.1", ADMIN_PORT)},
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        })
    }

    fn client_parts(&self) -> (Value, Value) {
        let listener = json!({
            "name": "outbound",
            "address": socket_address("0.0.0.0", 15001),
            "additional_addresses": [{"address": socket_address("::", 15001)}],
            "listener_filters": [typed("envoy.filters.listener.original_dst", json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
            }))],
            "filter_chains": [{"filters": [typed("envoy.filters.network.tcp_proxy", json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "outbound",
                "cluster": "upstream",
                // The default, an hour, would end quiet connections.
                "idle_timeout": "0s",
                "max_connect_attempts": 1,
                "tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%"},
            }))]}],
        });
        let mut cluster = upstream(json!({"upstream_port_override": 15008}));
        cluster["transport_socket"] = typed(
            "envoy.transport_sockets.tls",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": self.tls(),
            }),
        );
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": self.http2()},
            },
        });
        (listener, cluster)
    }

    fn server_parts(&self) -> (Value, Value) {
        let tls = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": self.tls(),
        });
        let http = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "hbone",
            "codec_type": "HTTP2",
            "generate_request_id": false,
            // The defaults of this and of the route's, five minutes and 15 s, would end tunnels.
            "stream_idle_timeout": "0s",
            "http2_protocol_options": self.http2(),
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
                "match": {"connect_matcher": {}},
                "route": {
                    "cluster": "upstream",
                    "timeout": "0s",
                    "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
                },
            }]}]},
            "http_filters": [typed("envoy.filters.http.router", json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }))],
        });
        let listener = json!({
            "name": "inbound",
            "stat_prefix": "inbound",
            "address": socket_address("0.0.0.0", 15008),
            "additional_addresses": [{"address": socket_address("::", 15008)}],
            // Few long-lived connections arrive here; hashing may put them all on one worker.
            "connection_balance_config": {"exact_balance": {}},
            "filter_chains": [{
                "transport_socket": typed("envoy.transport_sockets.tls", tls),
                "filters": [typed("envoy.filters.network.http_connection_manager", http)],
            }],
        });
        (listener, upstream(json!({"use_http_header": true, "http_header_name": ":authority"})))
    }

    fn http2(&self) -> Value {
        json!({
            "allow_connect": true,
            // As node proxies do; the defaults are too small for one stream at full speed.
            "initial_stream_window_size": 4 << 20,
            "initial_connection_window_size": 16 << 20,
            "max_concurrent_streams": self.streams,
        })
    }

    fn tls(&self) -> Value {
        let mut parameters = json!({
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        });
        if !self.groups.is_empty() {
            parameters["ecdh_curves"] = json!(self.groups);
        }
        let certificates: Vec<_> = self
            .identity
            .iter()
            .map(|identity| {
                json!({
                    "certificate_chain": {"inline_string": identity.chain()},
                    "private_key": {"inline_string": identity.key()},
                })
            })
            .collect();
        json!({
            "alpn_protocols": ["h2"],
            "tls_params": parameters,
            "tls_certificates": certificates,
            "validation_context": {
                "trusted_ca": {"inline_string": self.root},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": self.peers}}],
            },
        })
    }
}

/// Why Envoy did not get ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvoyError {
    /// It could not be started.
    #[error("envoy could not be started")]
    Launch(#[source] io::Error),
    /// It does not listen.
    #[error("envoy does not listen: {}", output.join("; "))]
    NotReady {
        /// What it wrote.
        output: Vec<String>,
    },
}

/// A cluster that dials wherever a connection or request says, with the mark that redirection spares.
fn upstream(destination: Value) -> Value {
    // The default of each is 1024.
    let unlimited =
        json!({"max_connections": 1_000_000, "max_pending_requests": 1_000_000, "max_requests": 1_000_000});
    json!({
        "name": "upstream",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": destination,
        "connect_timeout": "5s",
        "upstream_bind_config": {"socket_options": [
            {"description": "SO_MARK", "level": 1, "name": 36, "int_value": PROXY_MARK, "state": "STATE_PREBIND"},
        ]},
        "circuit_breakers": {"thresholds": [unlimited]},
    })
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn typed(name: &str, config: Value) -> Value {
    json!({"name": name, "typed_config": config})
}

fn candidates(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join("envoy"))
}

fn find_statistic(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use mesh_identity::testing::Authority;

    use super::*;

    const PEERS: &str = "spiffe://example.org/";

    #[test]
    fn both_ends_demand_a_certificate_of_the_mesh() {
        let authority = Authority::new("example.org");
        let svid = authority.leaf("spiffe://example.org/ns/a/sa/b").issue().pem();
        let client = EnvoyConfig::client(&authority.root_pem(), PEERS).identity(svid.clone()).to_json();
        let server = EnvoyConfig::server(&authority.root_pem(), PEERS).identity(svid).to_json();
        let client = &client["static_resources"]["clusters"][0]["transport_socket"]["typed_config"];
        let server = &server["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"];
        assert_eq!(server["require_client_certificate"], true);
        for end in [client, server] {
            let validation = &end["common_tls_context"]["validation_context"];
            assert_eq!(validation["trusted_ca"]["inline_string"], authority.root_pem());
            assert_eq!(validation["match_typed_subject_alt_names"][0]["matcher"]["prefix"], PEERS);
            assert_eq!(end["common_tls_context"]["tls_certificates"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn it_is_looked_for_where_the_variables_say() {
        let find = |variables: &[(&str, &str)]| {
            Envoy::find(variables.iter().map(|(name, value)| (name.into(), value.into())))
        };
        assert_eq!(find(&[("MESH_ENVOY", "/opt/envoy"), ("PATH", "/bin")]), Some("/opt/envoy".into()));
        assert_eq!(find(&[("MESH_ENVOY", ""), ("HOME", "/nonexistent"), ("PATH", "/nonexistent")]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn statistics_are_found_by_their_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n4d\r\na.b: 3\na.b.c: 4\n\r\n0\r\n\r\n";
        assert_eq!(find_statistic(page, "a.b"), Some(3));
        assert_eq!(find_statistic(page, "a.b.c"), Some(4));
        assert_eq!(find_statistic(page, "a"), None);
    }
}
