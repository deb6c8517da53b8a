//! What nothing can act on: the rules by which Istio admits objects, applied to the object itself.
//!
//! An enforcement point that receives an object which breaks one of them drops a value, a field or a rule, and
//! what is left is often wider. Objects that pass have one meaning only.

mod authentication;
mod authorization_policy;
mod target;
mod value;

use crate::{
    Finding,
    finding::{ObjectRef, Report},
    object::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication},
    waypoint::Mesh,
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

    /// What nothing can act on in a mesh: its [`refusals`](Self::refusals), a provider that the mesh does not have,
    /// and a target that policies have only in the root namespace.
    pub fn refusals_in(&self, mesh: &Mesh) -> Vec<Finding> {
        let mut findings = self.refusals();
        collect_into(&ObjectRef::new(Self::KIND, &self.metadata), &mut findings, |report| {
            authorization_policy::check_provider(self, mesh, report);
            target::check_classes(&self.metadata, self.target_ref.as_ref(), &self.target_refs, mesh, report);
        });
        findings
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

    /// What nothing can act on in a mesh: its [`refusals`](Self::refusals), and a selector in the root namespace.
    pub fn refusals_in(&self, mesh: &Mesh) -> Vec<Finding> {
        let mut findings = self.refusals();
        collect_into(&ObjectRef::new(Self::KIND, &self.metadata), &mut findings, |report| {
            authentication::check_root(self, &mesh.root_namespace, report);
        });
        findings
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

    /// What nothing can act on in a mesh, as for [`AuthorizationPolicy::refusals_in`].
    pub fn refusals_in(&self, mesh: &Mesh) -> Vec<Finding> {
        let mut findings = self.refusals();
        collect_into(&ObjectRef::new(Self::KIND, &self.metadata), &mut findings, |report| {
            target::check_classes(&self.metadata, self.target_ref.as_ref(), &self.target_refs, mesh, report);
        });
        findings
    }
}

fn collect(object: &ObjectRef, check: impl FnOnce(&mut Report<'_>)) -> Vec<Finding> {
    let mut findings = Vec::new();
    collect_into(object, &mut findings, check);
    findings
}

fn collect_into(object: &ObjectRef, findings: &mut Vec<Finding>, check: impl FnOnce(&mut Report<'_>)) {
    check(&mut Report::new(object, findings));
}

/// The annotation that puts a policy into dry run.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";
