use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Baggage, header};

/// What a server says when it accepts a tunnel.
#[derive(Clone, Debug, Default)]
pub struct ConnectResponse {
    headers: HeaderMap,
}

impl ConnectResponse {
    /// Says nothing but yes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says which workload the tunnel leads to.
    pub fn with_baggage(mut self, baggage: impl Into<HeaderValue>) -> Self {
        self.headers.insert(header::BAGGAGE, baggage.into());
        self
    }

    /// Adds any other header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Which workload the tunnel leads to, as the server says.
    pub fn baggage(&self) -> Option<Baggage> {
        Baggage::from_headers(&self.headers)
    }

    pub(crate) fn from_headers(headers: HeaderMap) -> Self {
        Self { headers }
    }

    pub(crate) fn into_headers(self) -> HeaderMap {
        self.headers
    }
}
