//! A restriction on one attribute.

use std::fmt;

use ipnet::IpNet;

use super::{
    ClaimValue,
    attribute::Attribute,
    attributes::{Attributes, Request},
    value::{Account, Glob, KeptHost, PathTemplate, RequestPrincipal, SCHEME, trust_domain},
};
use crate::{Semantics, StringMatch, explain::alternatives};

/// Holds if the attribute has one of the values; negated, if it has none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(super) attribute: Attribute,
    pub(super) negated: bool,
    pub(super) values: Values,
    /// Whether it holds where the attribute is there and cannot be seen: not in an ALLOW.
    pub(super) holds_unseen: bool,
}

/// What an attribute is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    Accounts(Box<[Account]>),
    /// Of namespaces and trust domains.
    Globs(Box<[Glob]>),
    /// Of the authority, where it must not be dodged.
    Hosts(Box<[KeptHost]>),
    /// Of the metadata of filters: of the value itself, or of an element of its list.
    Metadata(Box<[(StringMatch, bool)]>),
    Paths(Box<[PathMatch]>),
    Ports(Box<[u16]>),
    Ranges(Box<[IpNet]>),
    RequestPrincipals(Box<[RequestPrincipal]>),
    Texts(Box<[StringMatch]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathMatch {
    Template(PathTemplate),
    Text(StringMatch),
}

impl Condition {
    pub(super) fn holds(&self, attributes: &Attributes<'_>) -> bool {
        if self.is_unseen(attributes) {
            return self.holds_unseen;
        }
        self.fits(attributes) != self.negated
    }

    pub(super) fn is_unseen(&self, attributes: &Attributes<'_>) -> bool {
        matches!(self.attribute, Attribute::Namespace | Attribute::ServiceAccount) && attributes.is_peer_odd()
    }

    /// Whether the attribute is there and has one of the values.
    fn fits(&self, attributes: &Attributes<'_>) -> bool {
        match &self.values {
            Values::Accounts(accounts) => attributes.has_account(accounts),
            Values::Globs(globs) if self.attribute == Attribute::Namespace => attributes.has_namespace(globs),
            Values::Globs(globs) => attributes.has_trust_domain(globs),
            Values::Hosts(hosts) => {
                let authority = attributes.request.as_ref().and_then(|request| request.facts.authority);
                authority.is_some_and(|authority| hosts.iter().any(|host| host.matches(authority)))
            }
            Values::Metadata(values) => self.fits_metadata(values, attributes),
            Values::Paths(paths) => {
                let request = attributes.request.as_ref();
                request.is_some_and(|request| paths.iter().any(|path| path.matches(request.path)))
            }
            Values::Ports(ports) => ports.contains(&attributes.stream.destination.port()),
            Values::Ranges(ranges) => {
                let address = attributes.address(&self.attribute);
                ranges.iter().any(|range| range.contains(&address))
            }
            Values::RequestPrincipals(principals) => attributes.claims().is_some_and(|claims| {
                let parts = claims.text("iss").zip(claims.text("sub"));
                parts.is_some_and(|(issuer, subject)| {
                    principals.iter().any(|principal| principal.matches(issuer, subject))
                })
            }),
            Values::Texts(patterns) => self.fits_text(patterns, attributes),
        }
    }

    fn fits_text(&self, patterns: &[StringMatch], attributes: &Attributes<'_>) -> bool {
        match &self.attribute {
            Attribute::Audience | Attribute::Claim(_) | Attribute::Presenter => {
                let mut texts = attributes.claim(&self.attribute).into_iter().flat_map(ClaimValue::texts);
                texts.any(|text| patterns.iter().any(|pattern| pattern.matches(text)))
            }
            Attribute::Header(header) => {
                let Some(Request { facts: request, .. }) = attributes.request else { return false };
                if header.is_joined(attributes.semantics) && header.lines(request).nth(1).is_some() {
                    return patterns.iter().any(|pattern| fits_joined(pattern, || header.lines(request)));
                }
                header.lines(request).any(|line| patterns.iter().any(|pattern| fits_header(pattern, line)))
            }
            Attribute::Host => {
                let host = attributes.request.as_ref().and_then(|request| request.facts.authority);
                // Present is enough for `*`.
                let fits = |pattern: &StringMatch, host| {
                    *pattern == StringMatch::Presence || fits_folded(pattern, host)
                };
                host.is_some_and(|host| patterns.iter().any(|pattern| fits(pattern, host)))
            }
            Attribute::Method => attributes.request.as_ref().is_some_and(|request| {
                patterns.iter().any(|pattern| fits_header(pattern, request.facts.method.as_bytes()))
            }),
            Attribute::Principal => attributes.peer.is_some_and(|peer| {
                let principal = peer.strip_prefix(SCHEME);
                patterns.iter().any(|pattern| match pattern {
                    StringMatch::Presence => !peer.is_empty(),
                    _ => principal.is_some_and(|principal| pattern.matches(principal)),
                })
            }),
            Attribute::Sni => {
                let sni = attributes.stream.sni;
                sni.is_some_and(|sni| patterns.iter().any(|pattern| fits_folded(pattern, sni)))
            }
            _ => false,
        }
    }

    fn fits_metadata(&self, values: &[(StringMatch, bool)], attributes: &Attributes<'_>) -> bool {
        let Attribute::Metadata { filter, key } = &self.attribute else { return false };
        let mut notes = attributes.stream.metadata.iter();
        let Some(note) = notes.find(|note| note.filter == &**filter && note.key == &**key) else {
            return false;
        };
        values.iter().any(|(pattern, in_list)| note.value.has_text(pattern, *in_list))
    }
}

impl Attributes<'_> {
    fn has_account(&self, accounts: &[Account]) -> bool {
        match (self.semantics, self.identity) {
            (Semantics::Istio, None) => {
                self.peer.is_some_and(|peer| accounts.iter().any(|account| account.is_within(peer)))
            }
            // In Istio's form, there is one way to read it.
            (_, identity) => identity.is_some_and(|id| {
                accounts.iter().any(|one| *one.name == *id.account && *one.namespace == *id.namespace)
            }),
        }
    }

    fn has_namespace(&self, globs: &[Glob]) -> bool {
        match self.semantics {
            Semantics::Istio => {
                self.peer.is_some_and(|peer| globs.iter().any(|glob| glob.matches_after_ns(peer)))
            }
            Semantics::Strict => {
                self.identity.is_some_and(|id| globs.iter().any(|glob| glob.matches(id.namespace)))
            }
        }
    }

    fn has_trust_domain(&self, globs: &[Glob]) -> bool {
        let Some(peer) = self.peer else { return false };
        let domain = trust_domain(peer);
        globs.iter().any(|glob| match glob.is_any() {
            true => peer.starts_with(SCHEME),
            false => domain.is_some_and(|domain| glob.matches(domain)),
        })
    }
}

impl PathMatch {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Template(template) => template.matches(path),
            Self::Text(pattern) => pattern.matches(path),
        }
    }
}

/// A header is present even if it is empty.
fn fits_header(pattern: &StringMatch, line: &[u8]) -> bool {
    match pattern {
        StringMatch::Exact(text) => line == text.as_bytes(),
        StringMatch::Prefix(text) => line.starts_with(text.as_bytes()),
        StringMatch::Suffix(text) => line.ends_with(text.as_bytes()),
        StringMatch::Presence => true,
    }
}

/// Compares with the lines joined by commas.
fn fits_joined<'a, L: Iterator<Item = &'a [u8]>>(pattern: &StringMatch, lines: impl Fn() -> L) -> bool {
    let joined = || {
        lines().enumerate().flat_map(|(index, line)| {
            let comma: &[u8] = if index == 0 { b"" } else { b"," };
            comma.iter().chain(line)
        })
    };
    match pattern {
        StringMatch::Exact(text) => joined().eq(text.as_bytes()),
        StringMatch::Prefix(text) => {
            let mut joined = joined();
            text.bytes().all(|byte| joined.next() == Some(&byte))
        }
        StringMatch::Suffix(text) => {
            let before = joined().count().checked_sub(text.len());
            before.is_some_and(|before| joined().skip(before).eq(text.as_bytes()))
        }
        StringMatch::Presence => true,
    }
}

/// Compares with the text in lower case.
pub(super) fn fits_folded(pattern: &StringMatch, text: &str) -> bool {
    let text = text.as_bytes();
    let eq = |text: &[u8], pattern: &str| {
        text.len() == pattern.len() && text.iter().map(u8::to_ascii_lowercase).eq(pattern.bytes())
    };
    match pattern {
        StringMatch::Exact(exact) => eq(text, exact),
        StringMatch::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|text| eq(text, prefix)),
        StringMatch::Suffix(suffix) => {
            let start = text.len().checked_sub(suffix.len());
            start.and_then(|start| text.get(start..)).is_some_and(|text| eq(text, suffix))
        }
        StringMatch::Presence => !text.is_empty(),
    }
}

impl Values {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Accounts(values) => values.is_empty(),
            Self::Globs(values) => values.is_empty(),
            Self::Hosts(values) => values.is_empty(),
            Self::Metadata(values) => values.is_empty(),
            Self::Paths(values) => values.is_empty(),
            Self::Ports(values) => values.is_empty(),
            Self::Ranges(values) => values.is_empty(),
            Self::RequestPrincipals(values) => values.is_empty(),
            Self::Texts(values) => values.is_empty(),
        }
    }
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accounts(values) => alternatives(f, values),
            Self::Globs(values) => alternatives(f, values),
            Self::Hosts(values) => alternatives(f, values),
            Self::Metadata(values) => {
                let shown: Vec<_> = values
                    .iter()
                    .map(|(value, in_list)| if *in_list { format!("[{value}]") } else { value.to_string() })
                    .collect();
                alternatives(f, &shown)
            }
            Self::Paths(values) => alternatives(f, values),
            Self::Ports(values) => alternatives(f, values),
            Self::Ranges(values) => alternatives(f, values),
            Self::RequestPrincipals(values) => alternatives(f, values),
            Self::Texts(values) => alternatives(f, values),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(template) => template.fmt(f),
            Self::Text(pattern) => pattern.fmt(f),
        }
    }
}
