//! The facts of a stream or a request in the form that matching needs.

use std::net::IpAddr;

use super::{
    ClaimValue, Claims, FilterMetadata, Headers, Mesh, RequestFacts, StreamFacts, Target,
    attribute::Attribute, value::IstioIdentity,
};
use crate::Semantics;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(super) semantics: Semantics,
    pub(super) mesh: &'a Mesh,
    pub(super) target: Target<'a>,
    pub(super) source: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) destination_port: u16,
    /// With strict semantics, only what has Istio's form counts: the same peers have an identity as at a node
    /// proxy.
    pub(super) peer: Option<&'a str>,
    pub(super) identity: Option<IstioIdentity<'a>>,
    pub(super) sni: Option<&'a str>,
    pub(super) metadata: &'a [FilterMetadata<'a>],
    /// Nothing for a stream.
    pub(super) request: Option<Request<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) authority: Option<&'a str>,
    pub(super) path_and_query: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: Headers<'a>,
    pub(super) claims: Option<&'a Claims>,
}

impl<'a> Request<'a> {
    pub(super) fn new(facts: &RequestFacts<'a>) -> Self {
        let end = facts.path.bytes().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(facts.path.len());
        Self {
            method: facts.method,
            authority: facts.authority,
            path_and_query: facts.path,
            path: facts.path.get(..end).unwrap_or_default(),
            headers: facts.headers,
            claims: facts.claims,
        }
    }
}

impl<'a> Attributes<'a> {
    pub(super) fn of_stream(facts: &StreamFacts<'a>, semantics: Semantics, mesh: &'a Mesh) -> Self {
        let identity = facts.peer.and_then(IstioIdentity::parse);
        let peer = match semantics {
            Semantics::Istio => facts.peer,
            Semantics::Strict => facts.peer.filter(|_| identity.is_some()),
        };
        Self {
            semantics,
            mesh,
            target: facts.target,
            source: facts.source.to_canonical(),
            remote: facts.remote.to_canonical(),
            destination: facts.destination.ip().to_canonical(),
            destination_port: facts.destination.port(),
            peer,
            identity,
            sni: facts.sni,
            metadata: facts.metadata,
            request: None,
        }
    }

    pub(super) fn of_request(facts: &RequestFacts<'a>, semantics: Semantics, mesh: &'a Mesh) -> Self {
        let request = Request::new(facts);
        Self { request: Some(request), ..Self::of_stream(&facts.stream, semantics, mesh) }
    }

    /// What is known before the token of the request is validated.
    pub(super) fn without_claims(self) -> Self {
        Self { request: self.request.map(|request| Request { claims: None, ..request }), ..self }
    }

    /// The value of an attribute that is an address.
    pub(super) fn address(&self, attribute: &Attribute) -> IpAddr {
        match attribute {
            Attribute::DestinationIp => self.destination,
            Attribute::RemoteIp => self.remote,
            _ => self.source,
        }
    }

    /// The value of an attribute that is a claim.
    pub(super) fn claim(&self, attribute: &Attribute) -> Option<&'a ClaimValue> {
        let claims = self.claims()?;
        match attribute {
            Attribute::Audience => claims.get("aud"),
            Attribute::Claim(path) => claims.find(path),
            Attribute::Presenter => claims.get("azp"),
            _ => None,
        }
    }

    pub(super) fn claims(&self) -> Option<&'a Claims> {
        self.request?.claims
    }
}
