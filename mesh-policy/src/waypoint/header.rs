//! The name of a header that a policy asks for.

use std::cmp::Ordering;

use http::{HeaderName, header::USER_AGENT};

use super::{Headers, RequestFacts};
use crate::Semantics;

/// The name of a header, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    name: Box<str>,
    place: Place,
}

/// Where the lines of a header are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Authority,
    /// By its name among the headers.
    Headers(HeaderName),
    Method,
    /// No header can be called so.
    Nowhere,
    Path,
    /// Among the headers, where Envoy keeps the lines of this one joined.
    UserAgent,
}

impl Header {
    pub(super) fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let place = match name.as_str() {
            ":authority" | "host" => Place::Authority,
            ":method" => Place::Method,
            ":path" => Place::Path,
            "user-agent" => Place::UserAgent,
            name => HeaderName::from_bytes(name.as_bytes()).map_or(Place::Nowhere, Place::Headers),
        };
        Self { name: name.into(), place }
    }

    /// Whether a request can have such a header, or part of its request line is called so.
    pub(crate) fn is_possible(&self) -> bool {
        self.place != Place::Nowhere
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its lines may have to be joined before they are compared, which only Istio's reading does.
    pub(super) fn may_be_joined(&self) -> bool {
        self.place == Place::UserAgent
    }

    /// Whether its lines are joined before they are compared.
    pub(super) fn is_joined(&self, semantics: Semantics) -> bool {
        self.may_be_joined() && semantics == Semantics::Istio
    }

    /// The lines of the header, or the part of the request line that has its name.
    pub(super) fn lines<'a>(&self, request: &RequestFacts<'a>) -> Lines<'a, '_> {
        let key = match &self.place {
            Place::Authority => return Lines::One(request.authority.map(str::as_bytes)),
            Place::Method => return Lines::One(Some(request.method.as_bytes())),
            Place::Nowhere => return Lines::One(None),
            Place::Path => return Lines::One(Some(request.path.as_str().as_bytes())),
            Place::Headers(key) => key,
            Place::UserAgent => &USER_AGENT,
        };
        match request.headers {
            Headers::Lines(lines) => Lines::Listed { lines: lines.iter(), name: &self.name },
            Headers::Map(map) => Lines::Mapped(map.get_all(key).into_iter()),
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
