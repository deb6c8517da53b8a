//! From the message to a policy that means what it says.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{WireAddress, WireClause, WireMatch, WirePolicy, WireRule};
use crate::{Action, Clause, Match, Policy, PolicyName, PolicyNameError, Rule, Scope, StringMatch};

/// Why a policy of the wire is refused. Istio's node proxy drops such a value instead, and an ALLOW whose only address
/// is dropped allows every address; a port of 65616 it reads as 80.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WirePolicyError {
    /// The number of the action is none that is known.
    #[error("unknown action {action}")]
    Action {
        /// The number.
        action: i32,
    },
    /// An address has another length than those of IP, or a prefix that is longer than it.
    #[error("{field} has an address of {bytes} bytes with a prefix of {length} bits")]
    Address {
        /// Where, such as `rules[0].clauses[1].matches[0].source_ips[2]`.
        field: String,
        /// The length of the address.
        bytes: usize,
        /// The length of the prefix.
        length: u32,
    },
    /// It has no name.
    #[error("the policy has no usable name")]
    Name(#[source] PolicyNameError),
    /// A port is larger than ports are.
    #[error("{field} has port {port}")]
    Port {
        /// Where.
        field: String,
        /// The number.
        port: u32,
    },
    /// The number of the scope is none that is known.
    #[error("unknown scope {scope}")]
    Scope {
        /// The number.
        scope: i32,
    },
    /// A pattern is of no kind.
    #[error("{field} has a pattern of no kind")]
    StringMatch {
        /// Where.
        field: String,
    },
}

impl WirePolicy {
    /// The name, if it is one.
    pub(super) fn policy_name(&self) -> Result<PolicyName, WirePolicyError> {
        format!("{}/{}", self.namespace, self.name).parse().map_err(WirePolicyError::Name)
    }

    pub(super) fn action(&self) -> Option<Action> {
        match self.action {
            0 => Some(Action::Allow),
            1 => Some(Action::Deny),
            _ => None,
        }
    }

    pub(super) fn scope(&self) -> Option<Scope> {
        match self.scope {
            0 => Some(Scope::Global),
            1 => Some(Scope::Namespace),
            2 => Some(Scope::WorkloadSelector),
            _ => None,
        }
    }
}

impl TryFrom<&WirePolicy> for Policy {
    type Error = WirePolicyError;

    fn try_from(policy: &WirePolicy) -> Result<Self, Self::Error> {
        let WirePolicy { scope, action, rules, dry_run, .. } = policy;
        let rules = rules.iter().enumerate().map(|(rule, WireRule { clauses })| {
            let clauses = clauses.iter().enumerate().map(|(clause, WireClause { matches })| {
                let matches = matches
                    .iter()
                    .enumerate()
                    .map(|(index, one)| convert(one, Place { rule, clause, index }));
                Ok(Clause { matches: matches.collect::<Result<_, _>>()? })
            });
            Ok(Rule { clauses: clauses.collect::<Result<_, _>>()? })
        });
        Ok(Self {
            name: policy.policy_name()?,
            scope: policy.scope().ok_or(WirePolicyError::Scope { scope: *scope })?,
            action: policy.action().ok_or(WirePolicyError::Action { action: *action })?,
            dry_run: *dry_run,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

fn convert(one: &WireMatch, place: Place) -> Result<Match, WirePolicyError> {
    let strings = |name, values: &[Option<StringMatch>]| {
        each(values, |index, value| {
            value.clone().ok_or_else(|| WirePolicyError::StringMatch { field: place.field(name, index) })
        })
    };
    let ranges = |name, values: &[WireAddress]| {
        each(values, |index, WireAddress { address, length }| {
            range(address, *length).ok_or_else(|| WirePolicyError::Address {
                field: place.field(name, index),
                bytes: address.len(),
                length: *length,
            })
        })
    };
    let ports = |name, values: &[u32]| {
        each(values, |index, port| {
            u16::try_from(*port)
                .map_err(|_| WirePolicyError::Port { field: place.field(name, index), port: *port })
        })
    };
    Ok(Match {
        namespaces: strings("namespaces", &one.namespaces)?,
        not_namespaces: strings("not_namespaces", &one.not_namespaces)?,
        service_accounts: one.service_accounts.clone(),
        not_service_accounts: one.not_service_accounts.clone(),
        principals: strings("principals", &one.principals)?,
        not_principals: strings("not_principals", &one.not_principals)?,
        source_ips: ranges("source_ips", &one.source_ips)?,
        not_source_ips: ranges("not_source_ips", &one.not_source_ips)?,
        destination_ips: ranges("destination_ips", &one.destination_ips)?,
        not_destination_ips: ranges("not_destination_ips", &one.not_destination_ips)?,
        destination_ports: ports("destination_ports", &one.destination_ports)?,
        not_destination_ports: ports("not_destination_ports", &one.not_destination_ports)?,
    })
}

fn each<T, U>(
    values: &[T],
    convert: impl Fn(usize, &T) -> Result<U, WirePolicyError>,
) -> Result<Vec<U>, WirePolicyError> {
    values.iter().enumerate().map(|(index, value)| convert(index, value)).collect()
}

fn range(address: &[u8], length: u32) -> Option<IpNet> {
    let address = match <[u8; 4]>::try_from(address) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

#[derive(Clone, Copy)]
struct Place {
    rule: usize,
    clause: usize,
    index: usize,
}

impl Place {
    fn field(self, name: &str, value: usize) -> String {
        format!("{self}.{name}[{value}]")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, clause, index } = self;
        write!(f, "rules[{rule}].clauses[{clause}].matches[{index}]")
    }
}
