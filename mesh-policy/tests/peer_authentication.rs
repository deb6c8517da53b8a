//! The DENY policies that Istio's control plane makes of PeerAuthentication.

mod support;

use mesh_policy::{Scope, StringMatch, Verdict};
use support::*;

fn plaintext_to(rules: &Rules, port: u16) -> Verdict {
    decide(rules, &Call::plaintext().on_port(port))
}

fn mutual_tls_to(rules: &Rules, port: u16) -> Verdict {
    decide(rules, &Call::default().on_port(port))
}

fn decide(rules: &Rules, call: &Call) -> Verdict {
    let policy = scoped(Scope::WorkloadSelector, deny("istio-system/strict", rules.clone()));
    verdict([policy], &call.clone().listing(&["istio-system/strict"]))
}

fn no_principal() -> mesh_policy::Match {
    not_principals(vec![StringMatch::Presence])
}

// policy#40
#[test]
fn strict_denies_plaintext_only() {
    let strict = vec![vec![vec![no_principal()]]];
    assert_eq!(plaintext_to(&strict, 80), Verdict::Deny);
    assert_eq!(mutual_tls_to(&strict, 80), Verdict::Allow);
    let other_domain = Call::by("spiffe://other.example/ns/a/sa/b");
    assert_eq!(decide(&strict, &other_domain), Verdict::Allow);
}

// policy#41, policy#44
#[test]
fn a_strict_workload_may_exempt_ports() {
    let except = vec![vec![vec![no_principal()], vec![not_ports(&[8080])], vec![not_ports(&[9090])]]];
    for (port, expected) in [(8080, Verdict::Allow), (9090, Verdict::Allow), (8081, Verdict::Deny)] {
        assert_eq!(plaintext_to(&except, port), expected, "{port}");
        assert_eq!(mutual_tls_to(&except, port), Verdict::Allow, "{port}");
    }
}

// policy#42, policy#43
#[test]
fn a_permissive_workload_may_have_strict_ports() {
    let strict_port =
        |port| vec![vec![mesh_policy::Match { destination_ports: vec![port], ..no_principal() }]];
    let strict_ports = vec![strict_port(8443), strict_port(9443)];
    for (port, expected) in [(8443, Verdict::Deny), (9443, Verdict::Deny), (8080, Verdict::Allow)] {
        assert_eq!(plaintext_to(&strict_ports, port), expected, "{port}");
        assert_eq!(mutual_tls_to(&strict_ports, port), Verdict::Allow, "{port}");
    }
}
