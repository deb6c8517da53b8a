//! Names of the headers that HBONE gives a meaning.

use http::HeaderName;

/// What the sender says about a workload, see [`Baggage`](crate::Baggage).
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Whom the sender speaks for, see [`Forwarded`](crate::Forwarded).
pub(crate) const FORWARDED: HeaderName = http::header::FORWARDED;
/// The network that the inner tunnel of double HBONE comes from.
pub(crate) const FORWARDED_NETWORK: HeaderName = HeaderName::from_static("x-forwarded-network");
/// The trace the connection is part of, see [`TraceParent`](crate::TraceParent).
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
