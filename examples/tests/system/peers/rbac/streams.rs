//! Streams.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use examples::lab::Host;
use mesh_policy::{
    Verdict,
    waypoint::{StreamFacts, StreamPolicySet, Target},
};

use super::{
    Set,
    bootstrap::{named_port, stream_ports},
};

pub(super) const PEER_ID: &str = "spiffe://cluster.local/ns/foo/sa/a";

/// A set of policies on each line; `@PORT` is the port that is reached.
pub(super) const POLICIES: &[&str] = &[
    "{}",
    "{rules: [{}]}",
    "{action: DENY, rules: [{}]}",
    // policy#63, policy#64
    "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['1']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['@PORT']}}]}]}",
    "{rules: [{to: [{operation: {methods: [GET]}}]}]}",
    "{rules: [{to: [{operation: {methods: [GET]}}]}, {to: [{operation: {ports: ['@PORT']}}]}]}",
    // Part D, 2 to 4.
    "{action: DENY, rules: [{to: [{operation: {ports: ['1']}}, {operation: {paths: [/x]}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {ports: ['65616']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {ports: ['65616', '1']}}]}]}",
    "{rules: [{to: [{operation: {ports: ['65616', '@PORT']}}]}]}",
    "{action: DENY, rules: [{when: [{key: no.such.key, values: [a]}]}]}",
    "{rules: [{from: [{source: {principals: [cluster.local/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {principals: ['*']}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}",
    "{rules: [{from: [{source: {principals: ['*/sa/a']}}]}]}",
    "{rules: [{from: [{source: {namespaces: [foo]}}], to: [{operation: {notPorts: ['1']}}]}]}",
    "{rules: [{from: [{source: {notNamespaces: [foo]}}]}]}",
    "{rules: [{from: [{source: {serviceAccounts: [a]}}]}]}",
    "{rules: [{from: [{source: {ipBlocks: [192.0.2.0/24]}}]}]}",
    "{rules: [{from: [{source: {notIpBlocks: [192.0.2.10]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
    "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*'], namespaces: [foo]}}]}]}",
    "{action: DENY, rules: [{when: [{key: source.namespace, values: [foo]}, {key: 'request.headers[a]', values: [b]}]}]}",
    "{rules: [{when: [{key: destination.ip, values: [192.0.2.20]}]}]}",
    "{rules: [{when: [{key: destination.port, values: ['@PORT'], notValues: ['1']}]}]}",
    "{action: AUDIT, rules: [{}]}",
    "{rules: [{from: [{source: {trustDomains: ['*']}}]}]}\n{action: DENY, rules: [{from: [{source: {serviceAccounts: [foo/b]}}]}]}",
];

/// For streams that begin with a hello of TLS, or do not: policy#91, and part D, 7 and 13.
pub(super) const NAMED_POLICIES: &[&str] = &[
    "{rules: [{when: [{key: connection.sni, values: [cart.example.org]}]}]}",
    "{rules: [{when: [{key: connection.sni, values: [Cart.example.org]}]}]}",
    "{rules: [{when: [{key: connection.sni, values: ['*.example.org']}]}]}",
    "{rules: [{when: [{key: connection.sni, values: ['cart*', 'other*']}]}]}",
    "{rules: [{when: [{key: connection.sni, values: ['*']}]}]}",
    "{rules: [{when: [{key: connection.sni, notValues: [cart.example.org]}]}]}",
    "{action: DENY, rules: [{when: [{key: connection.sni, values: [cart.example.org]}]}]}",
    "{action: DENY, rules: [{when: [{key: connection.sni, notValues: ['*.example.org']}]}]}",
];

/// What Envoy decides otherwise about names of servers.
pub(super) fn compare_named(client: &Host, server: &Host, sets: &[Set]) -> Vec<String> {
    let mut differences = Vec::new();
    for (index, Set { policies, mesh, spec, .. }) in sets.iter().enumerate() {
        let destination = SocketAddr::new(server.v4(), named_port(index));
        let set = StreamPolicySet::istio(mesh.clone()).replaced(policies).unwrap();
        for name in [None, Some("cart.example.org"), Some("CART.example.ORG"), Some("other.example.com")] {
            let facts = facts(client, destination, None, name);
            let ours = set.evaluate_stream(&facts).without_providers();
            let hello = name.map_or_else(|| b"no hello".to_vec(), client_hello);
            let envoys = if is_allowed(client, destination, &hello) { Verdict::Allow } else { Verdict::Deny };
            if ours.verdict() != envoys {
                differences.push(format!("{spec} for {name:?}: Envoy {envoys}, ours {ours:?}"));
            }
        }
    }
    differences
}

/// A hello that asks for a server by name (RFC 8446 §4.1.2, RFC 6066 §3).
fn client_hello(name: &str) -> Vec<u8> {
    fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
        let length = bytes.len().to_be_bytes();
        [&length[length.len() - width..], bytes].concat()
    }
    let host = [&[0][..], &sized(2, name.as_bytes())].concat();
    let names = [&[0, 0][..], &sized(2, &sized(2, &host))].concat();
    let versions = [0, 43, 0, 3, 2, 3, 4];
    let extensions = sized(2, &[&names[..], &versions].concat());
    let (session, suites, compressions) = ([0], [0, 2, 0x13, 1], [1, 0]);
    let body = [&[3, 3][..], &[7; 32], &session, &suites, &compressions, &extensions].concat();
    let handshake = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &handshake)].concat()
}

fn facts<'a>(
    client: &Host,
    destination: SocketAddr,
    peer: Option<&'a str>,
    sni: Option<&'a str>,
) -> StreamFacts<'a> {
    StreamFacts {
        target: Target::Workload { namespace: "foo", labels: &[] },
        source: client.v4(),
        remote: client.v4(),
        peer,
        destination,
        sni,
        metadata: &[],
    }
}

/// What Envoy decides otherwise.
pub(super) fn compare(client: &Host, server: &Host, sets: &[[Set; 2]]) -> Vec<String> {
    let mut differences = Vec::new();
    for (index, sets) in sets.iter().enumerate() {
        for ((Set { policies, mesh, spec, .. }, port), peer) in
            sets.iter().zip(stream_ports(index)).zip([Some(PEER_ID), None])
        {
            let destination = SocketAddr::new(server.v4(), port);
            let set = StreamPolicySet::istio(mesh.clone()).replaced(policies).unwrap();
            let facts = facts(client, destination, peer, None);
            let ours = set.evaluate_stream(&facts).without_providers();
            let envoys = if is_allowed(client, destination, b"x") { Verdict::Allow } else { Verdict::Deny };
            if ours.verdict() != envoys {
                differences.push(format!("{spec} with {peer:?}: Envoy {envoys}, ours {ours:?}"));
            }
        }
    }
    differences
}

/// Whether a byte comes back.
fn is_allowed(client: &Host, destination: SocketAddr, first: &[u8]) -> bool {
    let mut stream = client.connect(destination).unwrap();
    stream.write_all(first).unwrap();
    matches!(stream.read(&mut [0]), Ok(1))
}
