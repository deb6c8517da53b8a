//! What a rule is found by.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{ServiceAccountMatch, StringMatch, attributes::Attributes};

/// A value that a connection has to have for a rule to be asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    /// Every connection has it, for rules without a positive field.
    Always,
    /// The address is in the range, which has no host bits.
    DestinationIp(IpNet),
    DestinationPort(u16),
    Namespace(Text<'a>),
    Principal(Text<'a>),
    ServiceAccount {
        namespace: &'a str,
        name: &'a str,
    },
    /// The address is in the range, which has no host bits.
    SourceIp(IpNet),
}

/// A text, or the part of it that a pattern is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Text<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Suffix(&'a str),
    Presence,
}

/// A form of key. A connection has at most one key of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    Always,
    DestinationIp(RangeShape),
    DestinationPort,
    Namespace(TextShape),
    Principal(TextShape),
    ServiceAccount,
    SourceIp(RangeShape),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RangeShape {
    v4: bool,
    prefix_len: u8,
}

/// Lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TextShape {
    Exact,
    Prefix(usize),
    Suffix(usize),
    Presence,
}

impl Key<'_> {
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Always => Shape::Always,
            Self::DestinationIp(range) => Shape::DestinationIp(RangeShape::of(range)),
            Self::DestinationPort(_) => Shape::DestinationPort,
            Self::Namespace(text) => Shape::Namespace(text.shape()),
            Self::Principal(text) => Shape::Principal(text.shape()),
            Self::ServiceAccount { .. } => Shape::ServiceAccount,
            Self::SourceIp(range) => Shape::SourceIp(RangeShape::of(range)),
        }
    }

    /// A number to find the key by.
    ///
    /// Equal keys have equal numbers. Others may as well: what is found is asked before it counts, so the
    /// worst that a collision costs is the question.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

impl Shape {
    /// The key of this shape that a connection has.
    pub(super) fn key<'a>(self, attributes: &Attributes<'a>) -> Option<Key<'a>> {
        let identity = attributes.identity;
        Some(match self {
            Self::Always => Key::Always,
            Self::DestinationIp(shape) => Key::DestinationIp(shape.range(attributes.destination)?),
            Self::DestinationPort => Key::DestinationPort(attributes.destination_port),
            Self::Namespace(shape) => Key::Namespace(shape.text(attributes.namespace())?),
            Self::Principal(shape) => Key::Principal(shape.text(identity?.principal)?),
            Self::ServiceAccount => {
                let identity = identity?;
                Key::ServiceAccount { namespace: identity.namespace, name: identity.service_account }
            }
            Self::SourceIp(shape) => Key::SourceIp(shape.range(attributes.source)?),
        })
    }
}

impl RangeShape {
    pub(crate) fn of(range: &IpNet) -> Self {
        Self { v4: range.addr().is_ipv4(), prefix_len: range.prefix_len() }
    }

    /// The range of this shape that the address is in.
    pub(crate) fn range(self, address: IpAddr) -> Option<IpNet> {
        if address.is_ipv4() != self.v4 {
            return None;
        }
        Some(IpNet::new(address, self.prefix_len).ok()?.trunc())
    }
}

impl<'a> Text<'a> {
    pub(crate) fn shape(self) -> TextShape {
        match self {
            Self::Exact(_) => TextShape::Exact,
            Self::Prefix(prefix) => TextShape::Prefix(prefix.len()),
            Self::Suffix(suffix) => TextShape::Suffix(suffix.len()),
            Self::Presence => TextShape::Presence,
        }
    }
}

impl TextShape {
    /// Where a character would be cut, no pattern of that length fits.
    pub(super) fn text(self, text: &str) -> Option<Text<'_>> {
        match self {
            Self::Exact => Some(Text::Exact(text)),
            Self::Prefix(len) => text.get(..len).map(Text::Prefix),
            Self::Suffix(len) => text.get(text.len().checked_sub(len)?..).map(Text::Suffix),
            Self::Presence => (!text.is_empty()).then_some(Text::Presence),
        }
    }
}

impl TextShape {
    /// The part of a value that a pattern of this shape is about; nothing if the value is too short for it.
    /// Presence is about no part.
    pub(crate) fn part(self, value: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Exact => Some(value),
            Self::Prefix(len) => value.get(..len),
            Self::Suffix(len) => value.get(value.len().checked_sub(len)?..),
            Self::Presence => Some(&[]),
        }
    }
}

impl<'a> From<&'a StringMatch> for Text<'a> {
    fn from(pattern: &'a StringMatch) -> Self {
        match pattern {
            StringMatch::Exact(exact) => Self::Exact(exact),
            StringMatch::Prefix(prefix) => Self::Prefix(prefix),
            StringMatch::Suffix(suffix) => Self::Suffix(suffix),
            StringMatch::Presence => Self::Presence,
        }
    }
}

impl<'a> From<&'a ServiceAccountMatch> for Key<'a> {
    fn from(account: &'a ServiceAccountMatch) -> Self {
        Self::ServiceAccount { namespace: &account.namespace, name: &account.name }
    }
}
