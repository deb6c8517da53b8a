//! Streams.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use examples::lab::Host;
use mesh_policy::{
    Verdict,
    object::AuthorizationPolicy,
    waypoint::{Mesh, StreamFacts, StreamPolicySet, Target},
};

use super::bootstrap::stream_ports;

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

/// What Envoy decides otherwise.
pub(super) fn compare(client: &Host, server: &Host, sets: &[[Vec<AuthorizationPolicy>; 2]]) -> Vec<String> {
    let mut differences = Vec::new();
    for (index, sets) in sets.iter().enumerate() {
        for ((policies, port), peer) in sets.iter().zip(stream_ports(index)).zip([Some(PEER_ID), None]) {
            let destination = SocketAddr::new(server.v4(), port);
            let set = StreamPolicySet::istio(Mesh::new("cluster.local")).replaced(policies).unwrap();
            let facts = StreamFacts {
                target: Target::Workload { namespace: "foo", labels: &[] },
                source: client.v4(),
                remote: client.v4(),
                peer,
                destination,
                sni: None,
                metadata: &[],
            };
            let ours = set.evaluate_stream(&facts).without_providers();
            let envoys = if is_allowed(client, destination) { Verdict::Allow } else { Verdict::Deny };
            if ours.verdict() != envoys {
                let spec = POLICIES[index];
                differences.push(format!("{spec} with {peer:?}: Envoy {envoys}, ours {ours:?}"));
            }
        }
    }
    differences
}

/// Whether a byte comes back.
fn is_allowed(client: &Host, destination: SocketAddr) -> bool {
    let mut stream = client.connect(destination).unwrap();
    stream.write_all(b"x").unwrap();
    matches!(stream.read(&mut [0]), Ok(1))
}
