//! Why a match misses.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use crate::{ServiceAccountMatch, StringMatch};

/// Why a [`Match`](crate::Match) misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MatchMiss<'a> {
    /// It sets no field, and so never matches.
    Empty,
    /// A field does not fit.
    Field(Mismatch<'a>),
}

/// A field of a match that does not fit the connection. Displayed as `destination port is 9090, expected
/// 8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch<'a> {
    pub(crate) field: Field,
    pub(crate) negated: bool,
    pub(crate) expected: Expected<'a>,
    pub(crate) actual: Actual<'a>,
}

impl<'a> Mismatch<'a> {
    /// The field.
    pub fn field(&self) -> Field {
        self.field
    }

    /// Whether the field is a negative one, so that the connection should have had none of the values.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// What the policy lists.
    pub fn expected(&self) -> Expected<'a> {
        self.expected
    }

    /// What the connection has.
    pub fn actual(&self) -> Actual<'a> {
        self.actual
    }
}

/// What a field of a match is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
#[non_exhaustive]
pub enum Field {
    /// The destination address.
    DestinationIp,
    /// The destination port.
    DestinationPort,
    /// The namespace in the peer's identity.
    Namespace,
    /// The peer's identity.
    Principal,
    /// The service account in the peer's identity.
    ServiceAccount,
    /// The source address.
    SourceIp,
}

/// The values that a policy lists for a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected<'a> {
    /// Ranges of addresses.
    Ips(&'a [IpNet]),
    /// Ports.
    Ports(&'a [u16]),
    /// Service accounts.
    ServiceAccounts(&'a [ServiceAccountMatch]),
    /// Texts.
    Strings(&'a [StringMatch]),
}

/// What a connection has for a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Actual<'a> {
    /// Nothing: the field is part of an identity, and the peer has none.
    Absent,
    /// An address.
    Ip(IpAddr),
    /// A port.
    Port(u16),
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A text.
    Text(&'a str),
}

impl<'a> From<&'a [IpNet]> for Expected<'a> {
    fn from(ranges: &'a [IpNet]) -> Self {
        Self::Ips(ranges)
    }
}

impl<'a> From<&'a [u16]> for Expected<'a> {
    fn from(ports: &'a [u16]) -> Self {
        Self::Ports(ports)
    }
}

impl<'a> From<&'a [ServiceAccountMatch]> for Expected<'a> {
    fn from(accounts: &'a [ServiceAccountMatch]) -> Self {
        Self::ServiceAccounts(accounts)
    }
}

impl<'a> From<&'a [StringMatch]> for Expected<'a> {
    fn from(patterns: &'a [StringMatch]) -> Self {
        Self::Strings(patterns)
    }
}

impl fmt::Display for MatchMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a match without fields never matches"),
            Self::Field(mismatch) => mismatch.fmt(f),
        }
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, negated, expected, actual } = self;
        let not = if *negated { "not " } else { "" };
        write!(f, "{field} is {actual}, expected {not}{expected}")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DestinationIp => "destination address",
            Self::DestinationPort => "destination port",
            Self::Namespace => "namespace",
            Self::Principal => "principal",
            Self::ServiceAccount => "service account",
            Self::SourceIp => "source address",
        })
    }
}

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ips(ranges) => alternatives(f, ranges),
            Self::Ports(ports) => alternatives(f, ports),
            Self::ServiceAccounts(accounts) => alternatives(f, accounts),
            Self::Strings(patterns) => alternatives(f, patterns),
        }
    }
}

impl fmt::Display for Actual<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent (no verified identity)"),
            Self::Ip(address) => address.fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::ServiceAccount { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The first of some values, for people.
pub(crate) fn alternatives(f: &mut fmt::Formatter<'_>, values: &[impl fmt::Display]) -> fmt::Result {
    for (index, value) in values.iter().take(SHOWN_VALUES).enumerate() {
        let separator = if index == 0 { "" } else { " or " };
        write!(f, "{separator}{value}")?;
    }
    match values.len().saturating_sub(SHOWN_VALUES) {
        0 => Ok(()),
        more => write!(f, " or {more} more"),
    }
}

/// Enough to recognise a list by, short enough for a log line.
const SHOWN_VALUES: usize = 4;
