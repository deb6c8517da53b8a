//! Policies as a node proxy receives them.
//!
//! Istio's control plane converts objects to [`Policy`](crate::Policy), the layer 4 form that goes over the wire,
//! and lists for each workload those that its labels select. [`NodePolicies`] is that conversion.

mod authorization;
mod mutual_tls;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Code, ObjectRef, Policy, PolicyName, Semantics,
    finding::{Path, Report},
    object::{
        Action, AuthorizationPolicy, Extent, Metadata, MutualTlsMode, ObjectError, PeerAuthentication,
        PolicyObjects, Selector,
    },
    waypoint::Mesh,
};
use mutual_tls::MutualTls;

/// How objects are converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: String,
    /// Whose conversion is followed. In Istio's, values that cannot be used are dropped, and of DENY policies
    /// whatever the node proxy cannot see; in ours, what is left of a DENY matches without them.
    pub semantics: Semantics,
    /// Whether policies in dry run are sent, marked as such. Proxies that do not know the mark would enforce
    /// them, so Istio sends them only if told to.
    pub dry_run: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { root_namespace: "istio-system".into(), semantics: Semantics::default(), dry_run: false }
    }
}

/// What node proxies receive for a set of objects.
#[derive(Clone, Debug)]
pub struct NodePolicies {
    policies: Vec<Policy>,
    selected: Vec<(PolicyName, Selector)>,
    mutual_tls: MutualTls,
    settings: NodeSettings,
}

impl NodePolicies {
    /// Converts objects. What a node proxy cannot enforce is left out or changed.
    ///
    /// # Errors
    ///
    /// If two policies would have one name, such as an AuthorizationPolicy that is called like what a
    /// PeerAuthentication is converted to. With [`Semantics::Strict`] also if Istio would refuse, widen or drop any
    /// part of an object that node proxies are to enforce.
    pub fn new(objects: &PolicyObjects, settings: NodeSettings) -> Result<Self, ObjectError> {
        let mut findings = Vec::new();
        if settings.semantics == Semantics::Strict {
            let sent = objects.authorization.iter().filter(|object| settings.sends(object));
            findings.extend(sent.flat_map(AuthorizationPolicy::refusals));
            let mesh = Mesh { root_namespace: settings.root_namespace.clone(), ..Mesh::new("") };
            findings.extend(objects.peer.iter().flat_map(|object| object.refusals_in(&mesh)));
        }
        let mut policies = Vec::new();
        let mut selected = Vec::new();
        for object in objects.authorization.iter().filter(|object| settings.sends(object)) {
            policies.push(authorization::convert(object, &settings));
            if let Some(selector) = object.selector.as_ref().filter(|_| object.extent == Extent::Written) {
                selected.push((object.metadata.policy_name(), selector.clone()));
            }
        }
        selected.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mutual_tls = MutualTls::new(&objects.peer, &settings);
        policies.extend(mutual_tls.policies());
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in policies.windows(2) {
            if let [a, b] = pair
                && a.name == b.name
            {
                let metadata = Metadata::named(a.name.namespace(), a.name.name());
                let object = ObjectRef::new(AuthorizationPolicy::KIND, &metadata);
                Report::new(&object, &mut findings).add(Code::Duplicate, Path::Root);
            }
        }
        let converted = Self { policies, selected, mutual_tls, settings };
        ObjectError::new(findings).map_or(Ok(converted), Err)
    }

    /// Every policy, ordered by name.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// Every policy, ordered by name.
    pub fn into_policies(self) -> Vec<Policy> {
        self.policies
    }

    /// The policies that a workload lists because its labels select them: AuthorizationPolicies by name, then
    /// what PeerAuthentications were converted to, by name.
    ///
    /// In Istio's reading a workload without any labels lists every policy with a selector in its namespace and
    /// in the root namespace. There, too, it may list a converted PeerAuthentication that does not exist.
    pub fn listed_by(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<PolicyName> {
        let mut names: Vec<_> = self
            .selected
            .iter()
            .filter(|(name, _)| {
                name.namespace() == namespace || name.namespace() == self.settings.root_namespace
            })
            .filter(|(_, selector)| self.settings.selects(selector, labels))
            .map(|(name, _)| name.clone())
            .collect();
        names.extend(self.mutual_tls.effective(namespace, labels).listed);
        names
    }

    /// The PeerAuthentication that asks what a listed policy enforces on a workload. Several may share one policy, so it
    /// depends on the workload; nothing for an AuthorizationPolicy, whose policy has its name.
    pub fn converted_from(
        &self,
        policy: &PolicyName,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<ObjectRef> {
        let name = self.mutual_tls.source(policy, namespace, labels)?;
        Some(ObjectRef::new(PeerAuthentication::KIND, &Metadata::named(name.namespace(), name.name())))
    }

    /// The policies that a workload lists and that do not exist: Istio lists a converted PeerAuthentication that it
    /// did not make if the namespace's policy leaves its mode unset.
    pub fn missing(&self, namespace: &str, labels: &BTreeMap<String, String>) -> BTreeSet<PolicyName> {
        let known: BTreeSet<_> = self.policies.iter().map(|policy| &policy.name).collect();
        self.listed_by(namespace, labels).into_iter().filter(|name| !known.contains(name)).collect()
    }

    /// What a workload asks of peers.
    pub fn mutual_tls(&self, namespace: &str, labels: &BTreeMap<String, String>) -> EffectiveMutualTls {
        let effective = self.mutual_tls.effective(namespace, labels);
        let mut ports = BTreeMap::new();
        if let Some(own) = effective.own {
            ports.extend(
                own.ports.iter().filter(|(_, mode)| **mode != MutualTlsMode::Unset).map(|(p, m)| (*p, *m)),
            );
        }
        EffectiveMutualTls { mode: effective.mode, ports }
    }
}

/// What a workload asks of peers, after inheritance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveMutualTls {
    /// On ports that are not listed; never unset.
    pub mode: MutualTlsMode,
    /// On single ports.
    pub ports: BTreeMap<u32, MutualTlsMode>,
}

impl NodeSettings {
    /// Whether a node proxy receives the policy at all.
    fn sends(&self, object: &AuthorizationPolicy) -> bool {
        let enforceable = matches!(object.action, Action::Allow | Action::Deny);
        let here = object.extent == Extent::Namespace || object.targets().next().is_none();
        enforceable && here && (self.dry_run || !object.is_dry_run())
    }

    fn selects(&self, selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
        if labels.is_empty() && self.semantics == Semantics::Istio {
            return true;
        }
        // An empty selector selects nobody, though it looks as if it did everybody.
        !selector.match_labels.is_empty() && has_labels(selector, labels)
    }
}

fn has_labels(selector: &Selector, labels: &BTreeMap<String, String>) -> bool {
    selector.match_labels.iter().all(|(name, value)| labels.get(name) == Some(value))
}
