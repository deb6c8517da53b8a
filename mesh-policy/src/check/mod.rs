//! What nothing can act on: the rules by which Istio admits objects, applied to the object itself.
//!
//! An enforcement point that receives an object which breaks one of them drops a value, a field or a rule, and
//! what is left is often wider. Objects that pass have one meaning only.

mod authentication;
mod authorization_policy;
pub(crate) mod key;
mod target;
mod value;

use key::Key;
#[cfg(feature = "crd")]
pub(crate) use value::is_port;

use crate::{
    Finding,
    finding::{ObjectRef, Report},
    object::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication},
};

impl AuthorizationPolicy {
    /// The kind, as objects name it.
    pub const KIND: &'static str = "AuthorizationPolicy";

    /// What nothing can act on: each a value, field or rule that Istio's admission refuses, or that Istio would
    /// drop, at worst widening the policy. `Strict` semantics refuse a policy with any.
    pub fn refusals(&self) -> Vec<Finding> {
        collect(&ObjectRef::new(Self::KIND, &self.metadata), |report| {
            authorization_policy::check(self, report)
        })
    }

    /// Whether the policy is in dry run: evaluated and reported, never enforced.
    pub fn is_dry_run(&self) -> bool {
        self.metadata.annotations.get(DRY_RUN).and_then(|text| value::parse_bool(text)).unwrap_or(false)
    }
}

impl PeerAuthentication {
    /// The kind, as objects name it.
    pub const KIND: &'static str = "PeerAuthentication";

    /// What nothing can act on, as for [`AuthorizationPolicy::refusals`].
    pub fn refusals(&self) -> Vec<Finding> {
        collect(&ObjectRef::new(Self::KIND, &self.metadata), |report| {
            authentication::check_peer(self, report)
        })
    }
}

impl RequestAuthentication {
    /// The kind, as objects name it.
    pub const KIND: &'static str = "RequestAuthentication";

    /// What nothing can act on, as for [`AuthorizationPolicy::refusals`].
    pub fn refusals(&self) -> Vec<Finding> {
        collect(&ObjectRef::new(Self::KIND, &self.metadata), |report| {
            authentication::check_request(self, report)
        })
    }
}

fn collect(object: &ObjectRef, check: impl FnOnce(&mut Report<'_>)) -> Vec<Finding> {
    let mut findings = Vec::new();
    check(&mut Report::new(object, &mut findings));
    findings
}

/// The annotation that puts a policy into dry run.
const DRY_RUN: &str = "istio.io/dry-run";
