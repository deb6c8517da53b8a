//! The Kubernetes-shaped reading of a SPIFFE ID.

use crate::TrustDomain;

/// A service account, as Istio spells it in a SPIFFE ID: `spiffe://<trust domain>/ns/<namespace>/sa/<name>`.
///
/// A view into a [`SpiffeId`](crate::SpiffeId); made by
/// [`SpiffeId::service_account`](crate::SpiffeId::service_account).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount<'a> {
    /// The domain that vouches for the account.
    pub trust_domain: &'a TrustDomain,
    /// The Kubernetes namespace.
    pub namespace: &'a str,
    /// The name within the namespace.
    pub name: &'a str,
}

impl<'a> ServiceAccount<'a> {
    /// Reads the path of an id, which must be exactly `/ns/<namespace>/sa/<name>`.
    pub(crate) fn from_path(trust_domain: &'a TrustDomain, path: &'a str) -> Option<Self> {
        let mut segments = path.strip_prefix("/ns/")?.split('/');
        let (namespace, sa, name) = (segments.next()?, segments.next()?, segments.next()?);
        (sa == "sa" && segments.next().is_none()).then_some(Self { trust_domain, namespace, name })
    }
}
