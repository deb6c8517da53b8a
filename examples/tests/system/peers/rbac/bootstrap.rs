//! Envoy's configuration: a listener for requests in which a header chooses the policies, and two for each set of
//! policies that streams meet, with and without an identity.

use mesh_policy::{object::Action, waypoint::PathNormalization};
use serde_json::{Value, json};

use super::{
    PEER, Set, TOKENS,
    translate::{Chain, custom_rules, rules},
};

/// Where requests come whose paths are normalised like this.
pub(super) fn http_port(paths: PathNormalization) -> u16 {
    match paths {
        PathNormalization::Base => 8080,
        PathNormalization::DecodeAndMergeSlashes => 8081,
        PathNormalization::MergeSlashes => 8082,
        PathNormalization::None => 8083,
    }
}

/// Whom CUSTOM asks, by name, in the order in which they are asked: each looks for its answer in a header of the request.
pub(super) const PROVIDERS: [Provider; 2] = [
    Provider { name: "also", port: 8091, header: "x-also" },
    Provider { name: "asks", port: 8090, header: "x-answer" },
];

pub(super) struct Provider {
    pub(super) name: &'static str,
    port: u16,
    pub(super) header: &'static str,
}

/// The port on which the set of that index meets streams with the names of servers.
pub(super) fn named_port(index: usize) -> u16 {
    9500 + u16::try_from(index).unwrap()
}

/// The ports on which the set of that index meets streams: with an identity, and without.
pub(super) fn stream_ports(index: usize) -> [u16; 2] {
    let first = 9000 + 2 * u16::try_from(index).unwrap();
    [first, first + 1]
}

pub(super) fn bootstrap(http: &[Set], tcp: &[[Set; 2]], named: &[Set], peer: &str) -> Value {
    let all = [
        PathNormalization::Base,
        PathNormalization::DecodeAndMergeSlashes,
        PathNormalization::MergeSlashes,
        PathNormalization::None,
    ];
    let mut listeners: Vec<_> = all.map(|paths| requests(http, paths)).into();
    listeners.extend(PROVIDERS.iter().map(Provider::listener));
    for (index, sets) in tcp.iter().enumerate() {
        let ports = stream_ports(index);
        listeners.push(streams(&sets[0], ports[0], Some(peer)));
        listeners.push(streams(&sets[1], ports[1], None));
    }
    for (index, set) in named.iter().enumerate() {
        let mut listener = streams(set, named_port(index), None);
        listener["listener_filters"] =
            json!([typed("names", "listener.tls_inspector.v3.TlsInspector", json!({}))]);
        listeners.push(listener);
    }
    let clusters: Vec<_> = PROVIDERS.iter().map(Provider::cluster).collect();
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "0.0.0.0", "port_value": port } })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{kind}").into();
    json!({ "name": name, "typed_config": config })
}

impl Provider {
    fn listener(&self) -> Value {
        let answer = json!([{ "name": self.header, "string_match": { "exact": "allow" } }]);
        let routes = json!([
            { "match": { "prefix": "/", "headers": answer }, "direct_response": { "status": 200 } },
            { "match": { "prefix": "/" }, "direct_response": { "status": 403 } },
        ]);
        let manager = json!({
            "stat_prefix": self.name,
            "http_filters": [typed("router", "http.router.v3.Router", json!({}))],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
        });
        let kind = "network.http_connection_manager.v3.HttpConnectionManager";
        let manager = typed("provider", kind, manager);
        json!({ "name": self.name, "address": address(self.port), "filter_chains": [{ "filters": [manager] }] })
    }

    fn cluster(&self) -> Value {
        let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": self.port } });
        let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
        json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": { "cluster_name": self.name, "endpoints": endpoints },
        })
    }

    /// The filter that notes what it is to be asked about, whose rules a route has.
    fn note(&self) -> String {
        format!("custom-{}", self.name)
    }

    /// The filter that asks.
    fn filter(&self) -> Value {
        let uri = json!({ "uri": "http://provider", "cluster": self.name, "timeout": "10s" });
        let asks = json!({
            "transport_api_version": "V3",
            "http_service": { "server_uri": uri },
            "allowed_headers": { "patterns": [{ "exact": self.header }] },
            "filter_enabled_metadata": {
                "filter": "envoy.filters.http.rbac",
                "path": [{ "key": "istio_ext_authz_shadow_effective_policy_id" }],
                "value": { "string_match": { "prefix": format!("istio-ext-authz-{}-", self.name) } },
            },
        });
        typed(&format!("provider-{}", self.name), "http.ext_authz.v3.ExtAuthz", asks)
    }
}

fn requests(sets: &[Set], paths: PathNormalization) -> Value {
    let sets = sets.iter().enumerate().filter(|(_, set)| set.paths == paths);
    let routes: Vec<_> = sets.map(|(index, set)| {
        let own = |action| {
            let rbac = rules(set, action, Chain::Http).map_or_else(|| json!({}), |rules| json!({ "rules": rules }));
            json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": rbac })
        };
        let kind = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
        let mut filters = json!({ "deny": own(Action::Deny), "allow": own(Action::Allow) });
        // Whoever exists is asked about what the shadow rules choose; for others Istio denies.
        let refused = custom_rules(set, None).map_or_else(|| json!({}), |rules| json!({ "rules": rules }));
        filters["custom"] = json!({ "@type": kind, "rbac": refused });
        for provider in &PROVIDERS {
            let mut rbac = json!({ "shadow_rules_stat_prefix": "istio_ext_authz_" });
            if let Some(rules) = custom_rules(set, Some(provider.name)) {
                rbac["shadow_rules"] = rules;
            }
            filters[provider.note()] = json!({ "@type": kind, "rbac": rbac });
        }
        json!({
            "match": { "prefix": "/", "headers": [{ "name": "x-case", "string_match": { "exact": index.to_string() } }] },
            "direct_response": { "status": 200 },
            "typed_per_filter_config": filters,
        })
    }).collect();
    let note = json!({
        "object_key": PEER,
        "factory_key": "envoy.string",
        "format_string": { "text_format_source": { "inline_string": "%REQ(x-peer)%" }, "omit_empty_values": true },
        "skip_if_empty": true,
    });
    let claims = json!({
        "header": "x-claims",
        "on_header_present": { "metadata_namespace": TOKENS, "key": "payload", "type": "PROTOBUF_VALUE", "encode": "BASE64" },
        "remove": true,
    });
    let mut filters =
        vec![typed("peer", "http.set_filter_state.v3.Config", json!({ "on_request_headers": [note] }))];
    // Before tokens are known.
    filters.push(typed("custom", "http.rbac.v3.RBAC", json!({})));
    for provider in &PROVIDERS {
        filters.extend([typed(&provider.note(), "http.rbac.v3.RBAC", json!({})), provider.filter()]);
    }
    filters.extend([
        typed("claims", "http.header_to_metadata.v3.Config", json!({ "request_rules": [claims] })),
        typed("deny", "http.rbac.v3.RBAC", json!({})),
        typed("allow", "http.rbac.v3.RBAC", json!({})),
        typed("router", "http.router.v3.Router", json!({})),
    ]);
    let merges = matches!(paths, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes);
    let escaped_slashes = match paths {
        PathNormalization::DecodeAndMergeSlashes => "UNESCAPE_AND_FORWARD",
        _ => "KEEP_UNCHANGED",
    };
    let manager = json!({
        "stat_prefix": "requests",
        "normalize_path": paths != PathNormalization::None,
        "merge_slashes": merges,
        "path_with_escaped_slashes_action": escaped_slashes,
        "use_remote_address": true,
        "xff_num_trusted_hops": 1,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    });
    let manager = typed("requests", "network.http_connection_manager.v3.HttpConnectionManager", manager);
    let port = http_port(paths);
    json!({ "name": format!("requests-{port}"), "address": address(port), "filter_chains": [{ "filters": [manager] }] })
}

fn streams(set: &Set, port: u16, peer: Option<&str>) -> Value {
    let mut filters = Vec::new();
    if let Some(peer) = peer {
        let note = json!({
            "object_key": PEER,
            "factory_key": "envoy.string",
            "format_string": { "text_format_source": { "inline_string": peer } },
        });
        filters.push(typed(
            "peer",
            "network.set_filter_state.v3.Config",
            json!({ "on_new_connection": [note] }),
        ));
    }
    for action in [Action::Deny, Action::Allow] {
        if let Some(rules) = rules(set, action, Chain::Tcp) {
            let name = format!("{action}-{port}");
            filters.push(typed(
                &name,
                "network.rbac.v3.RBAC",
                json!({ "stat_prefix": name, "rules": rules }),
            ));
        }
    }
    filters.push(typed("echo", "network.echo.v3.Echo", json!({})));
    json!({ "name": format!("stream-{port}"), "address": address(port), "filter_chains": [{ "filters": filters }] })
}
