//! The headers that HBONE gives a meaning: their names, and what names are made of.

use http::HeaderName;

/// What the sender says about a workload, see [`Baggage`](crate::Baggage).
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Whom the sender speaks for, see [`Forwarded`](crate::Forwarded).
pub(crate) const FORWARDED: HeaderName = http::header::FORWARDED;
/// The network that the inner tunnel of double HBONE comes from.
pub(crate) const FORWARDED_NETWORK: HeaderName = HeaderName::from_static("x-forwarded-network");
/// The trace the connection is part of, see [`TraceParent`](crate::TraceParent).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What a vendor adds to the trace, see [`TraceState`](crate::TraceState).
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What tokens are made of (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
