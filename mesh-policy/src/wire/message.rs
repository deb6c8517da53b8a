//! The message and its parts.

use crate::{ServiceAccountMatch, StringMatch};

/// An `istio.security.Authorization`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WirePolicy {
    /// The namespace.
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
    /// GLOBAL 0, NAMESPACE 1, WORKLOAD_SELECTOR 2.
    pub scope: i32,
    /// ALLOW 0, DENY 1.
    pub action: i32,
    /// Any of them has to match.
    pub rules: Vec<WireRule>,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireRule {
    /// All of them have to match.
    pub clauses: Vec<WireClause>,
}

/// A clause of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireClause {
    /// Any of them has to match.
    pub matches: Vec<WireMatch>,
}

/// A match of a clause. The fields are those of [`Match`](crate::Match); a pattern that is nothing has no kind set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "those of Match")]
pub struct WireMatch {
    pub namespaces: Vec<Option<StringMatch>>,
    pub not_namespaces: Vec<Option<StringMatch>>,
    pub service_accounts: Vec<ServiceAccountMatch>,
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    pub principals: Vec<Option<StringMatch>>,
    pub not_principals: Vec<Option<StringMatch>>,
    pub source_ips: Vec<WireAddress>,
    pub not_source_ips: Vec<WireAddress>,
    pub destination_ips: Vec<WireAddress>,
    pub not_destination_ips: Vec<WireAddress>,
    pub destination_ports: Vec<u32>,
    pub not_destination_ports: Vec<u32>,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireAddress {
    /// In the order of the network: 4 bytes or 16.
    pub address: Vec<u8>,
    /// How many bits of it count.
    pub length: u32,
}
