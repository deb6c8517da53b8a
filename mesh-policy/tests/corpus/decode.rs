//! Policies and a connection from any bytes, also for the fuzz target. The values are few, so that they often meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, Clause, ConnectionFacts, Match, MissingPolicy, Policy, PolicyName, PolicySet, Rule, Scope,
    ServiceAccountMatch, StringMatch,
};

const TEXTS: [&str; 8] =
    ["", "shop", "bank", "cart", "s", "example.org/ns/shop/sa/cart", "example.org/", "/sa/cart"];
const NETWORKS: [&str; 6] =
    ["192.0.2.0/24", "192.0.2.1/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "::ffff:192.0.2.0/120"];
const PEERS: [&str; 4] = [
    "spiffe://example.org/ns/shop/sa/cart",
    "spiffe://example.org/ns/bank/sa/cart",
    "spiffe://example.net/ns/shop/sa/s",
    "spiffe://example.org/cart",
];

/// What the bytes mean.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) set: PolicySet,
    source: IpAddr,
    peer: Option<SpiffeId>,
    destination: SocketAddr,
    namespace: &'static str,
    policies: Vec<PolicyName>,
}

impl Case {
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut input = Input { bytes };
        let mut set = PolicySet::empty(input.one_of([MissingPolicy::Deny, MissingPolicy::Skip]));
        Self {
            source: input.address(),
            peer: input.flag().then(|| input.one_of(PEERS).parse().expect("an id")),
            destination: SocketAddr::new(input.address(), input.port()),
            namespace: input.one_of(["shop", "bank", ""]),
            policies: input.several(Input::name),
            set: {
                for policy in input.several(Input::policy) {
                    set.insert(policy);
                }
                set
            },
        }
    }

    pub(crate) fn facts(&self) -> ConnectionFacts<'_> {
        ConnectionFacts {
            source: self.source,
            peer: self.peer.as_ref(),
            destination: self.destination,
            namespace: self.namespace,
            policies: &self.policies,
        }
    }
}

/// Reads bytes; past their end come zeros.
struct Input<'a> {
    bytes: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        *choices.get(usize::from(self.byte()) % N).expect("in bounds")
    }

    fn several<T>(&mut self, mut read: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 4).map(|_| read(self)).collect()
    }

    fn address(&mut self) -> IpAddr {
        let (kind, last) = (self.byte() % 3, self.byte());
        let v4 = Ipv4Addr::new(192, 0, 2, last);
        match kind {
            0 => v4.into(),
            1 => v4.to_ipv6_mapped().into(),
            _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
        }
    }

    fn port(&mut self) -> u16 {
        self.one_of([80, 443, 8080])
    }

    fn name(&mut self) -> PolicyName {
        PolicyName::new(self.one_of(["shop", "bank", "istio-system"]), self.one_of(["a", "b", "c"]))
    }

    fn policy(&mut self) -> Policy {
        Policy {
            name: self.name(),
            scope: self.one_of([Scope::Global, Scope::Namespace, Scope::WorkloadSelector]),
            action: self.one_of([Action::Allow, Action::Deny]),
            dry_run: self.flag(),
            rules: self.several(|input| Rule {
                clauses: input.several(|input| Clause { matches: input.several(Self::fields) }),
            }),
        }
    }

    fn fields(&mut self) -> Match {
        let mut fields = Match::default();
        for _ in 0..self.byte() % 3 {
            match self.byte() % 12 {
                0 => fields.namespaces = self.several(Self::text),
                1 => fields.not_namespaces = self.several(Self::text),
                2 => fields.principals = self.several(Self::text),
                3 => fields.not_principals = self.several(Self::text),
                4 => fields.service_accounts = self.several(Self::service_account),
                5 => fields.not_service_accounts = self.several(Self::service_account),
                6 => {
                    fields.source_ips =
                        self.several(|input| input.one_of(NETWORKS).parse().expect("a network"))
                }
                7 => {
                    fields.not_source_ips =
                        self.several(|input| input.one_of(NETWORKS).parse().expect("a network"))
                }
                8 => {
                    fields.destination_ips =
                        self.several(|input| input.one_of(NETWORKS).parse().expect("a network"))
                }
                9 => {
                    fields.not_destination_ips =
                        self.several(|input| input.one_of(NETWORKS).parse().expect("a network"))
                }
                10 => fields.destination_ports = self.several(Self::port),
                _ => fields.not_destination_ports = self.several(Self::port),
            }
        }
        fields
    }

    fn text(&mut self) -> StringMatch {
        let (kind, text) = (self.byte() % 4, self.one_of(TEXTS).into());
        match kind {
            0 => StringMatch::Exact(text),
            1 => StringMatch::Prefix(text),
            2 => StringMatch::Suffix(text),
            _ => StringMatch::Presence,
        }
    }

    fn service_account(&mut self) -> ServiceAccountMatch {
        ServiceAccountMatch { namespace: self.one_of(TEXTS).into(), name: self.one_of(TEXTS).into() }
    }
}
