//! Envoy's configuration: a listener for requests in which a header chooses the policies, and two for each set of
//! policies that streams meet, with and without an identity.

use mesh_policy::object::Action;
use serde_json::{Value, json};

use super::{
    PEER, Set, TOKENS,
    translate::{Chain, custom_rules, rules},
};

pub(super) const HTTP_PORT: u16 = 8080;

/// Whom CUSTOM asks, in place of whoever it would be: a header of the request has the answer.
const PROVIDER_PORT: u16 = 8090;

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
    let mut listeners = vec![requests(http), provider()];
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
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": PROVIDER_PORT } });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
    let cluster = json!({
        "name": "provider",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": "provider", "endpoints": endpoints },
    });
    json!({ "static_resources": { "listeners": listeners, "clusters": [cluster] } })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "0.0.0.0", "port_value": port } })
}

fn typed(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{kind}").into();
    json!({ "name": name, "typed_config": config })
}

fn provider() -> Value {
    let answer = json!([{ "name": "x-answer", "string_match": { "exact": "allow" } }]);
    let routes = json!([
        { "match": { "prefix": "/", "headers": answer }, "direct_response": { "status": 200 } },
        { "match": { "prefix": "/" }, "direct_response": { "status": 403 } },
    ]);
    let manager = json!({
        "stat_prefix": "provider",
        "http_filters": [typed("router", "http.router.v3.Router", json!({}))],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    });
    let manager = typed("provider", "network.http_connection_manager.v3.HttpConnectionManager", manager);
    json!({ "name": "provider", "address": address(PROVIDER_PORT), "filter_chains": [{ "filters": [manager] }] })
}

fn requests(sets: &[Set]) -> Value {
    let routes: Vec<_> = sets.iter().enumerate().map(|(index, set)| {
        let own = |action| {
            let rbac = rules(set, action, Chain::Http).map_or_else(|| json!({}), |rules| json!({ "rules": rules }));
            json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": rbac })
        };
        // Whoever exists is asked about what the shadow rules choose; for others Istio denies.
        let mut custom = json!({ "shadow_rules_stat_prefix": "istio_ext_authz_" });
        if let Some(rules) = custom_rules(set, true) {
            custom["shadow_rules"] = rules;
        }
        if let Some(rules) = custom_rules(set, false) {
            custom["rules"] = rules;
        }
        let kind = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
        let custom = json!({ "@type": kind, "rbac": custom });
        json!({
            "match": { "prefix": "/", "headers": [{ "name": "x-case", "string_match": { "exact": index.to_string() } }] },
            "direct_response": { "status": 200 },
            "typed_per_filter_config": { "custom": custom, "deny": own(Action::Deny), "allow": own(Action::Allow) },
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
    let asks = json!({
        "transport_api_version": "V3",
        "http_service": { "server_uri": { "uri": "http://provider", "cluster": "provider", "timeout": "10s" } },
        "allowed_headers": { "patterns": [{ "exact": "x-answer" }] },
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{ "key": "istio_ext_authz_shadow_effective_policy_id" }],
            "value": { "string_match": { "prefix": "istio-ext-authz-asks-" } },
        },
    });
    let filters = [
        typed("peer", "http.set_filter_state.v3.Config", json!({ "on_request_headers": [note] })),
        // Before tokens are known.
        typed("custom", "http.rbac.v3.RBAC", json!({})),
        typed("provider", "http.ext_authz.v3.ExtAuthz", asks),
        typed("claims", "http.header_to_metadata.v3.Config", json!({ "request_rules": [claims] })),
        typed("deny", "http.rbac.v3.RBAC", json!({})),
        typed("allow", "http.rbac.v3.RBAC", json!({})),
        typed("router", "http.router.v3.Router", json!({})),
    ];
    let manager = json!({
        "stat_prefix": "requests",
        "normalize_path": true,
        "use_remote_address": true,
        "xff_num_trusted_hops": 1,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    });
    let manager = typed("requests", "network.http_connection_manager.v3.HttpConnectionManager", manager);
    json!({ "name": "requests", "address": address(HTTP_PORT), "filter_chains": [{ "filters": [manager] }] })
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
