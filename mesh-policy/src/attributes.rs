//! The facts of a connection in the form that matching needs.

use std::net::IpAddr;

use mesh_identity::SpiffeId;

use crate::{Actual, ConnectionFacts, Field};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) destination_port: u16,
    pub(crate) identity: Option<Identity<'a>>,
}

/// An identity in Istio's form; no other form counts as one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) principal: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) service_account: &'a str,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(facts: &ConnectionFacts<'a>) -> Self {
        Self {
            source: facts.source.to_canonical(),
            destination: facts.destination.ip().to_canonical(),
            destination_port: facts.destination.port(),
            identity: facts.peer.and_then(Identity::new),
        }
    }

    /// Without an identity the namespace is the empty text, unlike the other fields of an identity: the
    /// reference's rule.
    pub(crate) fn namespace(&self) -> &'a str {
        self.identity.map_or("", |id| id.namespace)
    }

    /// What a field is compared with, for people.
    pub(crate) fn value(&self, field: Field) -> Actual<'a> {
        let identity = |of: fn(Identity<'a>) -> Actual<'a>| self.identity.map_or(Actual::Absent, of);
        match field {
            Field::DestinationIp => Actual::Ip(self.destination),
            Field::DestinationPort => Actual::Port(self.destination_port),
            Field::Namespace => identity(|id| Actual::Text(id.namespace)),
            Field::Principal => identity(|id| Actual::Text(id.principal)),
            Field::ServiceAccount => {
                identity(|id| Actual::ServiceAccount { namespace: id.namespace, name: id.service_account })
            }
            Field::SourceIp => Actual::Ip(self.source),
        }
    }
}

impl<'a> Identity<'a> {
    fn new(id: &'a SpiffeId) -> Option<Self> {
        let account = id.service_account()?;
        let principal = id.as_str().strip_prefix(SCHEME)?;
        Some(Self { principal, namespace: account.namespace, service_account: account.name })
    }
}

/// Principals in policies are written without it.
const SCHEME: &str = "spiffe://";
