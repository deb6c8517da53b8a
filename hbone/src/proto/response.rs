use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_LENGTH};

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
    ///
    /// One that concerns the connection itself (RFC 9113 §8.2.2) or measures a content that there is not (RFC 9110 §9.3.6)
    /// refuses the request, see [`Incoming::accept_with`](crate::server::Incoming::accept_with).
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

    /// Makes the response as it goes on the wire, with status 200. `None` if there is no such response.
    pub(crate) fn into_http(self) -> Option<Response<()>> {
        if self.headers.contains_key(CONTENT_LENGTH) {
            return None;
        }
        let mut response = Response::new(());
        *response.headers_mut() = self.headers;
        Some(response)
    }
}
