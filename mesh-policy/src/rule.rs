//! What a policy consists of: rules, clauses, matches.

use std::{fmt, sync::Arc};

use ipnet::IpNet;

use crate::StringMatch;

/// Matches a connection if all of its clauses do. Without clauses it matches every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// All of them have to match.
    pub clauses: Vec<Clause>,
}

/// Matches a connection if any of its matches does. Without matches it matches every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clause {
    /// Any of them has to match.
    pub matches: Vec<Match>,
}

/// Matches a connection if each field does; with no field set, none.
///
/// A field that lists nothing is not set. Of a positive field one value has to fit, of a negative one
/// (`not_…`) none may. Peers without an identity fit no principal, no service account, and have the empty
/// namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The peer's namespace.
    pub namespaces: Vec<StringMatch>,
    /// Not the peer's namespace. True for a peer without an identity unless the empty text fits.
    pub not_namespaces: Vec<StringMatch>,
    /// The peer's principal: its SPIFFE ID *without* `spiffe://`.
    pub principals: Vec<StringMatch>,
    /// Not the peer's principal. True for a peer without an identity.
    pub not_principals: Vec<StringMatch>,
    /// The peer's service account, in whichever trust domain.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Not the peer's service account. True for a peer without an identity.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// Ranges of the source address. A range only ever holds addresses of its own family.
    pub source_ips: Vec<IpNet>,
    /// Ranges the source address is not in.
    pub not_source_ips: Vec<IpNet>,
    /// Ranges of the destination address.
    pub destination_ips: Vec<IpNet>,
    /// Ranges the destination address is not in.
    pub not_destination_ips: Vec<IpNet>,
    /// The port of the destination workload, not that of a service in front of it.
    pub destination_ports: Vec<u16>,
    /// Not the port of the destination workload.
    pub not_destination_ports: Vec<u16>,
}

/// A service account, compared exactly and regardless of its trust domain. Displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccountMatch {
    /// The namespace of the account.
    pub namespace: Arc<str>,
    /// The name of the account.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceAccountMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
