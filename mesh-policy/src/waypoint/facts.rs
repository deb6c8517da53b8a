//! What is known about a stream or a request.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use super::{ClaimValue, Claims, NormalizedPath, Target};

/// What is known about a stream: the connection that a client made to a service or a workload, as a waypoint
/// got it out of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct StreamFacts<'a> {
    /// Whose policies are enforced.
    pub target: Target<'a>,
    /// The address of the transport peer; behind a tunnel, of who opened it.
    pub source: IpAddr,
    /// The address of the client as trusted proxies tell it: that of [`source`](Self::source) where none do.
    /// [`ForwardedFor`](super::ForwardedFor) finds it in a request.
    pub remote: IpAddr,
    /// The whole URI of the peer's certificate, as the tunnel proved it. Nothing for plaintext and for TLS
    /// without a client certificate.
    pub peer: Option<&'a str>,
    /// The address and port that the client addressed; never those of the tunnel.
    pub destination: SocketAddr,
    /// The server name in the client's TLS hello, if there was one.
    pub sni: Option<&'a str>,
    /// What filters noted, for conditions on `experimental.envoy.filters.…`.
    pub metadata: &'a [FilterMetadata<'a>],
}

/// What a filter noted about a stream.
#[derive(Clone, Copy, Debug)]
pub struct FilterMetadata<'a> {
    /// The filter, such as `envoy.filters.network.mysql_proxy`.
    pub filter: &'a str,
    /// The key of the note.
    pub key: &'a str,
    /// The note.
    pub value: &'a ClaimValue,
}

/// What is known about a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The stream that it came on.
    pub stream: StreamFacts<'a>,
    /// The method.
    pub method: &'a str,
    /// The authority: `:authority` or the header `host`, with its port if it has one.
    pub authority: Option<&'a str>,
    /// The path as it is forwarded, with its query. Policies on paths are compared with what precedes that.
    pub path: &'a NormalizedPath<'a>,
    /// The headers, in their order.
    pub headers: Headers<'a>,
    /// What the token of the request says, if it has one that is valid.
    pub claims: Option<&'a Claims>,
}

/// The headers of a request. Each line is matched by itself.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// Names, in any case, and values, in their order.
    Lines(&'a [(&'a str, &'a [u8])]),
    /// As HTTP libraries hold them.
    Map(&'a HeaderMap),
}
