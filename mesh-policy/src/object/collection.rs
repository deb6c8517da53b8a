//! Objects of all kinds.

use super::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use crate::{Finding, ObjectRef};

/// A policy object of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyObject {
    /// An AuthorizationPolicy.
    Authorization(AuthorizationPolicy),
    /// A PeerAuthentication.
    Peer(PeerAuthentication),
    /// A RequestAuthentication.
    Request(RequestAuthentication),
}

impl PolicyObject {
    /// Names the object.
    pub fn reference(&self) -> ObjectRef {
        match self {
            Self::Authorization(policy) => ObjectRef::new(AuthorizationPolicy::KIND, &policy.metadata),
            Self::Peer(policy) => ObjectRef::new(PeerAuthentication::KIND, &policy.metadata),
            Self::Request(policy) => ObjectRef::new(RequestAuthentication::KIND, &policy.metadata),
        }
    }

    /// What nothing can act on, as for [`AuthorizationPolicy::refusals`].
    pub fn refusals(&self) -> Vec<Finding> {
        match self {
            Self::Authorization(policy) => policy.refusals(),
            Self::Peer(policy) => policy.refusals(),
            Self::Request(policy) => policy.refusals(),
        }
    }
}

/// Policy objects by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyObjects {
    /// Who may do what.
    pub authorization: Vec<AuthorizationPolicy>,
    /// Whether peers have to prove an identity.
    pub peer: Vec<PeerAuthentication>,
    /// Which tokens of a request are accepted.
    pub request: Vec<RequestAuthentication>,
}

impl Extend<PolicyObject> for PolicyObjects {
    fn extend<I: IntoIterator<Item = PolicyObject>>(&mut self, objects: I) {
        for object in objects {
            match object {
                PolicyObject::Authorization(policy) => self.authorization.push(policy),
                PolicyObject::Peer(policy) => self.peer.push(policy),
                PolicyObject::Request(policy) => self.request.push(policy),
            }
        }
    }
}

impl FromIterator<PolicyObject> for PolicyObjects {
    fn from_iter<I: IntoIterator<Item = PolicyObject>>(objects: I) -> Self {
        let mut all = Self::default();
        all.extend(objects);
        all
    }
}
