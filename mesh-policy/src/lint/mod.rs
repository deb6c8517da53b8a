//! What objects do not do although it looks as if they did, and the other way round.
//!
//! [`lint`] looks at objects and at what surrounds them. What strict semantics refuse is among its findings: Istio's
//! take it, and widen or drop it. Only fields that nobody knows are not there any more; reading finds them.

mod attachment;
mod authentication;
mod point;
mod shape;
mod subsume;
mod value;

use std::collections::BTreeMap;

use crate::{
    Finding, ObjectRef, Semantics,
    finding::{Path, Report},
    object::{AuthorizationPolicy, PolicyObjects, TargetRef},
    waypoint::{Mesh, PathNormalization},
};

/// What objects are looked at against. What is not known is not looked at.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The settings of the mesh.
    pub mesh: Mesh,
    /// Whose reading is followed.
    pub semantics: Semantics,
    /// How paths are normalised.
    pub normalization: PathNormalization,
    /// All workloads.
    pub workloads: Option<Vec<KnownWorkload>>,
    /// All services.
    pub services: Option<Vec<KnownService>>,
    /// The namespace and name of all gateways, waypoints among them.
    pub gateways: Option<Vec<(String, String)>>,
}

impl Surroundings {
    /// Nothing but the mesh is known.
    pub fn new(mesh: Mesh) -> Self {
        Self {
            mesh,
            semantics: Semantics::default(),
            normalization: PathNormalization::default(),
            workloads: None,
            services: None,
            gateways: None,
        }
    }
}

/// A workload that policies may apply to.
#[derive(Clone, Debug, Default)]
pub struct KnownWorkload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The ports that services lead to on it; empty if not known.
    pub ports: Vec<u16>,
    /// Whether a service in front of it, or it itself, uses a waypoint.
    pub behind_waypoint: bool,
}

/// A service that policies may target.
#[derive(Clone, Debug, Default)]
pub struct KnownService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is a ServiceEntry.
    pub is_entry: bool,
    /// Whether it uses a waypoint that is there.
    pub has_waypoint: bool,
    /// Whether one of its ports is known not to be HTTP.
    pub has_tcp: bool,
}

/// Finds what is not as it looks, ordered by object and field.
///
/// Quadratic in the rules that apply to the same target; for tools, not for proxies.
pub fn lint(objects: &PolicyObjects, surroundings: &Surroundings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in &objects.authorization {
        let object = ObjectRef::new(AuthorizationPolicy::KIND, &policy.metadata);
        let report = &mut Report::new(&object, &mut findings);
        let about = About { policy, surroundings, objects };
        value::check(about, report);
        point::check(about, report);
        attachment::check(about, report);
        shape::check(about, report);
    }
    authentication::check(objects, surroundings, &mut findings);
    let mesh = &surroundings.mesh;
    findings.extend(objects.authorization.iter().flat_map(|object| object.refusals_in(mesh)));
    findings.extend(objects.peer.iter().flat_map(|object| object.refusals_in(mesh)));
    findings.extend(objects.request.iter().flat_map(|object| object.refusals_in(mesh)));
    findings.sort_by(|a, b| (&a.object, &a.path, a.code).cmp(&(&b.object, &b.path, b.code)));
    findings
}

/// A policy and what surrounds it.
#[derive(Clone, Copy)]
struct About<'a> {
    policy: &'a AuthorizationPolicy,
    surroundings: &'a Surroundings,
    objects: &'a PolicyObjects,
}

impl<'a> About<'a> {
    fn targets(self) -> impl Iterator<Item = &'a TargetRef> {
        self.policy.targets()
    }

    /// Whether node proxies enforce the policy, rather than waypoints.
    fn is_at_node(self) -> bool {
        self.targets().next().is_none()
    }

    /// The workloads that it applies to, if they are known and waypoints do not count.
    fn selected(self) -> Option<impl Iterator<Item = &'a KnownWorkload>> {
        let Self { policy, surroundings, .. } = self;
        let namespace = &policy.metadata.namespace;
        let everywhere = *namespace == surroundings.mesh.root_namespace;
        let labels = policy.selector.as_ref().map(|selector| &selector.match_labels);
        let workloads = surroundings.workloads.as_ref()?.iter();
        Some(workloads.filter(move |workload| {
            let here = everywhere || workload.namespace == *namespace;
            let has = |(name, value): (&String, &String)| workload.labels.get(name) == Some(value);
            here && labels.is_none_or(|labels| labels.iter().all(has))
        }))
    }

    /// Calls with every rule and its path.
    fn for_each_rule(self, mut visit: impl FnMut(&'a crate::object::Rule, Path<'_>)) {
        let spec = Path::Root.field("spec");
        let rules = spec.field("rules");
        for (index, rule) in self.policy.rules.iter().enumerate() {
            visit(rule, rules.index(index));
        }
    }
}
