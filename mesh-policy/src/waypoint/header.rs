//! The name of a header that a policy asks for.

use std::cmp::Ordering;

use http::HeaderName;

use super::{Headers, attributes::Request};
use crate::Semantics;

/// The name of a header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    name: Box<str>,
    /// What to look the lines up by; nothing if no header can be called so.
    key: Option<HeaderName>,
}

impl Header {
    pub(super) fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self { key: HeaderName::from_bytes(name.as_bytes()).ok(), name: name.into() }
    }

    /// Whether a request can have such a header, or part of its request line is called so.
    pub(super) fn is_possible(&self) -> bool {
        self.key.is_some() || matches!(&*self.name, ":authority" | ":method" | ":path")
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its lines are joined before they are compared: Envoy keeps one header so.
    pub(super) fn is_joined(&self, semantics: Semantics) -> bool {
        semantics == Semantics::Istio && &*self.name == "user-agent"
    }

    /// The lines of the header, or the part of the request line that has its name.
    pub(super) fn lines<'a>(&self, request: &Request<'a>) -> Lines<'a, '_> {
        match &*self.name {
            ":authority" | "host" => Lines::One(request.authority.map(str::as_bytes)),
            ":method" => Lines::One(Some(request.method.as_bytes())),
            ":path" => Lines::One(Some(request.path_and_query.as_bytes())),
            name => match (request.headers, &self.key) {
                (Headers::Lines(lines), _) => Lines::Listed { lines: lines.iter(), name },
                (Headers::Map(map), Some(key)) => Lines::Mapped(map.get_all(key).into_iter()),
                (Headers::Map(_), None) => Lines::One(None),
            },
        }
    }
}

impl PartialOrd for Header {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Header {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

/// The values of a header, in their order.
pub(super) enum Lines<'a, 'n> {
    Listed { lines: std::slice::Iter<'a, (&'a str, &'a [u8])>, name: &'n str },
    Mapped(http::header::ValueIter<'a, http::HeaderValue>),
    One(Option<&'a [u8]>),
}

impl<'a> Iterator for Lines<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Listed { lines, name } => {
                lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
            }
            Self::Mapped(values) => values.next().map(http::HeaderValue::as_bytes),
            Self::One(value) => value.take(),
        }
    }
}
