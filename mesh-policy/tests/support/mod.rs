//! Policies and connections in few words.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "what tests spell out parses")]

use std::net::{IpAddr, SocketAddr};

use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, Clause, ConnectionFacts, Decision, Match, Policy, PolicyName, PolicySet, Rule, Scope,
    ServiceAccountMatch, StringMatch, Verdict,
};

/// Rules of clauses of matches.
pub(crate) type Rules = Vec<Vec<Vec<Match>>>;

/// A connection to a workload in the namespace `bank`, by default from `shop/cart` over mutual TLS.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) source: IpAddr,
    pub(crate) peer: Option<SpiffeId>,
    pub(crate) destination: SocketAddr,
    pub(crate) namespace: String,
    pub(crate) policies: Vec<PolicyName>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            source: "192.0.2.1".parse().unwrap(),
            peer: Some("spiffe://example.org/ns/shop/sa/cart".parse().unwrap()),
            destination: "192.0.2.2:8080".parse().unwrap(),
            namespace: "bank".to_owned(),
            policies: Vec::new(),
        }
    }
}

impl Call {
    pub(crate) fn by(peer: &str) -> Self {
        Self { peer: Some(peer.parse().unwrap()), ..Self::default() }
    }

    pub(crate) fn plaintext() -> Self {
        Self { peer: None, ..Self::default() }
    }

    pub(crate) fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap();
        self
    }

    pub(crate) fn to(mut self, destination: &str) -> Self {
        self.destination = destination.parse().unwrap();
        self
    }

    pub(crate) fn on_port(mut self, port: u16) -> Self {
        self.destination.set_port(port);
        self
    }

    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    pub(crate) fn listing(mut self, names: &[&str]) -> Self {
        self.policies = names.iter().map(|name| name.parse().unwrap()).collect();
        self
    }

    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            source: self.source,
            peer: self.peer.as_ref(),
            destination: self.destination,
            namespace: &self.namespace,
            policies: &self.policies,
        }
    }

    pub(crate) fn decide<'a>(&'a self, set: &'a PolicySet) -> Decision<'a> {
        set.evaluate_connection(&self.facts())
    }
}

pub(crate) fn allow(name: &str, rules: Rules) -> Policy {
    policy(name, Action::Allow, rules)
}

pub(crate) fn deny(name: &str, rules: Rules) -> Policy {
    policy(name, Action::Deny, rules)
}

/// A policy for the namespace it is in.
pub(crate) fn policy(name: &str, action: Action, rules: Rules) -> Policy {
    let clauses = |clauses: Vec<Vec<Match>>| clauses.into_iter().map(|matches| Clause { matches }).collect();
    Policy {
        name: name.parse().unwrap(),
        scope: Scope::Namespace,
        action,
        dry_run: false,
        rules: rules.into_iter().map(|rule| Rule { clauses: clauses(rule) }).collect(),
    }
}

pub(crate) fn dry_run(policy: Policy) -> Policy {
    Policy { dry_run: true, ..policy }
}

pub(crate) fn scoped(scope: Scope, policy: Policy) -> Policy {
    Policy { scope, ..policy }
}

/// Rules that match every connection.
pub(crate) fn everything() -> Rules {
    vec![vec![]]
}

/// Rules that match no connection.
pub(crate) fn nothing() -> Rules {
    vec![]
}

pub(crate) fn set(policies: impl IntoIterator<Item = Policy>) -> PolicySet {
    PolicySet::builder().policies(policies).build().unwrap()
}

pub(crate) fn verdict(policies: impl IntoIterator<Item = Policy>, call: &Call) -> Verdict {
    call.decide(&set(policies)).verdict()
}

/// Whether rules match a call: an ALLOW policy made of them lets it in, a DENY policy keeps it out.
pub(crate) fn rules_match(rules: Rules, call: &Call) -> bool {
    let allowed = verdict([allow("bank/p", rules.clone())], call) == Verdict::Allow;
    let denied = verdict([deny("bank/p", rules)], call) == Verdict::Deny;
    assert_eq!(allowed, denied, "{call:?}");
    allowed
}

pub(crate) fn matches(one: Match, call: &Call) -> bool {
    rules_match(vec![vec![vec![one]]], call)
}

pub(crate) fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

pub(crate) fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(text.into())
}

pub(crate) fn suffix(text: &str) -> StringMatch {
    StringMatch::Suffix(text.into())
}

pub(crate) fn account(namespace: &str, name: &str) -> ServiceAccountMatch {
    ServiceAccountMatch { namespace: namespace.into(), name: name.into() }
}

pub(crate) fn principals(patterns: Vec<StringMatch>) -> Match {
    Match { principals: patterns, ..Match::default() }
}

pub(crate) fn not_principals(patterns: Vec<StringMatch>) -> Match {
    Match { not_principals: patterns, ..Match::default() }
}

pub(crate) fn namespaces(patterns: Vec<StringMatch>) -> Match {
    Match { namespaces: patterns, ..Match::default() }
}

pub(crate) fn source_ips(ranges: &[&str]) -> Match {
    Match { source_ips: ranges.iter().map(|range| range.parse().unwrap()).collect(), ..Match::default() }
}

pub(crate) fn ports(ports: &[u16]) -> Match {
    Match { destination_ports: ports.to_vec(), ..Match::default() }
}

pub(crate) fn not_ports(ports: &[u16]) -> Match {
    Match { not_destination_ports: ports.to_vec(), ..Match::default() }
}
