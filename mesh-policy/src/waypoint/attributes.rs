//! The facts of a stream or a request in the form that matching needs.

use std::net::IpAddr;

use super::{
    ClaimValue, Claims, Mesh, RequestFacts, StreamFacts, attribute::Attribute, value::IstioIdentity,
};
use crate::Semantics;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(super) semantics: Semantics,
    pub(super) mesh: &'a Mesh,
    pub(super) stream: &'a StreamFacts<'a>,
    pub(super) source: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) peer: Option<&'a str>,
    /// With strict semantics, a peer that is not of Istio's form has a namespace and a service account that cannot be
    /// seen.
    pub(super) identity: Option<IstioIdentity<'a>>,
    /// Nothing for a stream.
    pub(super) request: Option<Request<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub(super) facts: &'a RequestFacts<'a>,
    /// Without what policies on paths do not look at.
    pub(super) path: &'a str,
    /// Those of the facts, as far as they are known yet.
    pub(super) claims: Option<&'a Claims>,
}

impl<'a> Attributes<'a> {
    pub(super) fn of_stream(facts: &'a StreamFacts<'a>, semantics: Semantics, mesh: &'a Mesh) -> Self {
        let identity = facts.peer.and_then(IstioIdentity::parse);
        let peer = match semantics {
            Semantics::Istio => facts.peer,
            Semantics::Strict => facts.peer.filter(|peer| !peer.is_empty()),
        };
        Self {
            semantics,
            mesh,
            stream: facts,
            source: facts.source.to_canonical(),
            remote: facts.remote.to_canonical(),
            destination: facts.destination.ip().to_canonical(),
            peer,
            identity,
            request: None,
        }
    }

    pub(super) fn of_request(facts: &'a RequestFacts<'a>, semantics: Semantics, mesh: &'a Mesh) -> Self {
        let mut attributes = Self::of_stream(&facts.stream, semantics, mesh);
        attributes.request = Some(Request { facts, path: facts.path.without_query(), claims: facts.claims });
        attributes
    }

    /// Whether there is a peer whose namespace and service account nobody knows.
    pub(super) fn is_peer_odd(&self) -> bool {
        self.semantics == Semantics::Strict && self.peer.is_some() && self.identity.is_none()
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
        self.request.as_ref()?.claims
    }
}
