use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header::CONTENT_LENGTH, uri::Authority,
};

use super::{Baggage, Destination, Forwarded, TraceParent, TraceState, header};

/// What a client asks for: a tunnel to a destination, and what it says about itself.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    destination: Destination,
    baggage: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
    forwarded_network: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    headers: HeaderMap,
}

impl ConnectRequest {
    /// Asks for a tunnel to `destination` and says nothing else.
    pub fn new(destination: impl Into<Destination>) -> Self {
        Self {
            destination: destination.into(),
            baggage: None,
            forwarded: None,
            forwarded_network: None,
            traceparent: None,
            tracestate: None,
            headers: HeaderMap::new(),
        }
    }

    /// Says which workload asks.
    pub fn with_baggage(self, baggage: impl Into<HeaderValue>) -> Self {
        Self { baggage: Some(baggage.into()), ..self }
    }

    /// Says for whom it is asked.
    pub fn with_forwarded(self, forwarded: impl Into<HeaderValue>) -> Self {
        Self { forwarded: Some(forwarded.into()), ..self }
    }

    /// Says which network the inner request of double HBONE comes from.
    pub fn with_forwarded_network(self, network: HeaderValue) -> Self {
        Self { forwarded_network: Some(network), ..self }
    }

    /// Says which trace the connection is part of.
    pub fn with_traceparent(self, traceparent: impl Into<HeaderValue>) -> Self {
        Self { traceparent: Some(traceparent.into()), ..self }
    }

    /// Passes on what tracing systems say about that trace; means nothing without
    /// [`with_traceparent`](Self::with_traceparent).
    pub fn with_tracestate(self, tracestate: impl Into<HeaderValue>) -> Self {
        Self { tracestate: Some(tracestate.into()), ..self }
    }

    /// Adds any other header, such as a hint for rate limiting.
    ///
    /// Headers that concern the connection itself (RFC 9113 §8.2.2), and `content-length`, make the request fail with
    /// [`ConnectError::InvalidRequest`](crate::ConnectError::InvalidRequest).
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The destination asked for.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Makes the request as it goes on the wire (RFC 9113 §8.5): only an authority, no scheme, no path.
    ///
    /// `None` if there is no such request: for port 0, or with a length, to which the tunnel would be held.
    pub(crate) fn to_http(&self) -> Option<Request<()>> {
        if self.destination.port() == 0 || self.headers.contains_key(CONTENT_LENGTH) {
            return None;
        }
        let named = [
            (header::BAGGAGE, &self.baggage),
            (header::FORWARDED, &self.forwarded),
            (header::TRACEPARENT, &self.traceparent),
            (header::TRACESTATE, &self.tracestate),
            (header::FORWARDED_NETWORK, &self.forwarded_network),
        ];
        let is_bare = named.iter().all(|(_, value)| value.is_none());
        let mut headers = match (self.headers.is_empty(), is_bare) {
            (true, true) => HeaderMap::new(),
            // Room for the usual four, since growing moves them.
            (true, false) => HeaderMap::with_capacity(4),
            (false, _) => self.headers.clone(),
        };
        for (name, value) in named {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        let mut uri = http::uri::Parts::default();
        uri.authority = Some(Authority::try_from(self.destination.to_authority()).ok()?);
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        *request.headers_mut() = headers;
        Some(request)
    }
}

impl From<Baggage> for HeaderValue {
    fn from(baggage: Baggage) -> Self {
        baggage.to_header_value()
    }
}

impl From<&Baggage> for HeaderValue {
    fn from(baggage: &Baggage) -> Self {
        baggage.to_header_value()
    }
}

impl From<Forwarded> for HeaderValue {
    fn from(forwarded: Forwarded) -> Self {
        forwarded.to_header_value()
    }
}

impl From<TraceState> for HeaderValue {
    fn from(tracestate: TraceState) -> Self {
        tracestate.to_header_value()
    }
}

impl From<TraceParent> for HeaderValue {
    fn from(traceparent: TraceParent) -> Self {
        traceparent.to_header_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // hbone#23, hbone#24
    #[test]
    fn request_names_only_an_authority() {
        for authority in ["192.0.2.7:8080", "[2001:db8::7]:8080", "cart.shop.svc.cluster.local:80"] {
            let request = ConnectRequest::new(authority.parse::<Destination>().unwrap()).to_http().unwrap();
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(request.uri().authority().unwrap().as_str(), authority);
            assert_eq!(request.uri().scheme(), None);
            assert_eq!(request.uri().path_and_query(), None);
            assert!(request.headers().is_empty());
        }
    }

    #[test]
    fn there_is_no_request_for_port_0() {
        let nowhere: std::net::SocketAddr = "192.0.2.7:0".parse().unwrap();
        assert!(ConnectRequest::new(nowhere).to_http().is_none());
    }

    #[test]
    fn what_is_said_becomes_headers() {
        let trace = TraceParent::random();
        let network = HeaderName::from_static("x-istio-source");
        let request = ConnectRequest::new("example.org:80".parse::<Destination>().unwrap())
            .with_baggage(Baggage::new().with_zone("z"))
            .with_forwarded(Forwarded::new("192.0.2.1:5".parse().unwrap()))
            .with_traceparent(trace)
            .with_tracestate(TraceState::from_lines(["a=1"]).unwrap())
            .with_forwarded_network(HeaderValue::from_static(""))
            .with_header(network.clone(), HeaderValue::from_static("waypoint"))
            .to_http()
            .unwrap();
        let headers = request.headers();
        assert_eq!(headers[header::BAGGAGE], "cloud.availability_zone=z");
        assert_eq!(headers[header::FORWARDED], "for=\"192.0.2.1:5\"");
        assert_eq!(headers[header::TRACEPARENT], trace.to_string());
        assert_eq!(headers[header::TRACESTATE], "a=1");
        assert_eq!(headers[header::FORWARDED_NETWORK], "");
        assert_eq!(headers[network], "waypoint");
        assert_eq!(headers.len(), 6);
    }
}
