use mesh_identity::PemSvid;
use serde_json::{Value, json};

use crate::lab::capture::PROXY_MARK;

/// Where it tells about itself, on the loopback address.
pub(super) const ADMIN_PORT: u16 = 15000;

/// How Envoy is to be one end of HBONE.
///
/// As client it takes what the rules redirect to 15001 to port 15008 of where it was going. As server it takes HBONE on
/// 15008 to whatever address the request names.
///
/// What differs from the node proxy and no configuration changes: as server it resets the stream when the *application*
/// ends its direction first, and may lose what it has not passed on yet; it sends no `baggage`, `forwarded` or
/// `traceparent`.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    pub(super) workers: usize,
    role: Role,
    root: String,
    peers: String,
    identity: Option<PemSvid>,
    groups: Vec<String>,
    streams: u32,
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
        let tls = typed(
            "envoy.transport_sockets.tls",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": self.tls(),
            }),
        );
        let http = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": self.http2()},
        }});
        let cluster = upstream(json!({"upstream_port_override": 15008}), tls, http);
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
        let plaintext = typed(
            "envoy.transport_sockets.raw_buffer",
            json!({
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
            }),
        );
        let destination = json!({"use_http_header": true, "http_header_name": ":authority"});
        (listener, upstream(destination, plaintext, json!({})))
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
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": self.groups,
            },
            "tls_certificates": certificates,
            "validation_context": {
                "trusted_ca": {"inline_string": self.root},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": self.peers}}],
            },
        })
    }
}

/// A cluster that dials wherever a connection or request says, with the mark that redirection spares.
fn upstream(destination: Value, transport: Value, protocol: Value) -> Value {
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
        "transport_socket": transport,
        "typed_extension_protocol_options": protocol,
    })
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn typed(name: &str, config: Value) -> Value {
    json!({"name": name, "typed_config": config})
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
}
