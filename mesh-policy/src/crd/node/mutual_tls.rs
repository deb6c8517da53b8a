//! PeerAuthentication to the layer 4 form, and whom it concerns.

use std::collections::BTreeMap;

use super::{NodeSettings, has_labels};
use crate::{
    Action, Clause, Match, Policy, PolicyName, Rule, Scope, Semantics, StringMatch,
    crd::kind::created,
    object::{Extent, MutualTlsMode, PeerAuthentication, Selector},
};

/// The PeerAuthentications of a mesh, by what they apply to, oldest first.
#[derive(Clone, Debug)]
pub(super) struct MutualTls {
    root_namespace: String,
    semantics: Semantics,
    /// In the root namespace, for all of the mesh.
    mesh: Vec<Own>,
    /// In the root namespace with a selector that is empty: for that namespace alone, in Istio's reading.
    root: Vec<Own>,
    /// By namespace; under [`EVERY`], for all of them.
    namespaces: BTreeMap<String, Vec<Own>>,
    workloads: BTreeMap<String, Vec<Own>>,
    any: bool,
}

/// One PeerAuthentication.
#[derive(Clone, Debug)]
pub(super) struct Own {
    name: PolicyName,
    /// How many of all are older.
    age: usize,
    selector: Option<Selector>,
    is_for_all: bool,
    mode: MutualTlsMode,
    pub(super) ports: BTreeMap<u32, MutualTlsMode>,
}

/// What a workload asks of peers, and the policies that say so.
pub(super) struct Effective<'a> {
    pub(super) mode: MutualTlsMode,
    pub(super) own: Option<&'a Own>,
    /// What the mode is of, if anything is.
    decides: Option<&'a Own>,
    pub(super) listed: Vec<PolicyName>,
}

impl MutualTls {
    pub(super) fn new(objects: &[PeerAuthentication], settings: &NodeSettings) -> Self {
        let mut sorted: Vec<_> = objects.iter().collect();
        // Equally old, the name decides; what was made at no known time is oldest, as in Istio.
        sorted.sort_by_cached_key(|object| {
            let metadata = &object.metadata;
            let time = metadata.creation_timestamp.as_deref().and_then(created);
            (time, metadata.namespace.clone(), metadata.name.clone())
        });
        let mut all = Self {
            root_namespace: settings.root_namespace.clone(),
            semantics: settings.semantics,
            mesh: Vec::new(),
            root: Vec::new(),
            namespaces: BTreeMap::new(),
            workloads: BTreeMap::new(),
            any: !objects.is_empty(),
        };
        for (age, object) in sorted.into_iter().enumerate() {
            let own = Own {
                name: object.metadata.policy_name(),
                age,
                selector: object.selector.clone().filter(|_| object.extent != Extent::Namespace),
                is_for_all: object.extent == Extent::Mesh,
                mode: object.mtls,
                ports: object.port_level_mtls.clone(),
            };
            let selects = own.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
            let namespace = if own.is_for_all { EVERY } else { &object.metadata.namespace };
            let is_root = object.metadata.namespace == settings.root_namespace;
            let list = match (is_root, selects) {
                // A selector in the root namespace selects nobody.
                (true, true) => continue,
                (true, false) if own.selector.is_some() && settings.semantics == Semantics::Istio => {
                    &mut all.root
                }
                (true, false) => &mut all.mesh,
                (false, true) => all.workloads.entry(namespace.to_owned()).or_default(),
                (false, false) => all.namespaces.entry(namespace.to_owned()).or_default(),
            };
            list.push(own);
        }
        all
    }

    /// What was converted: the one policy for all that ask for mutual TLS, and one for each that tells ports
    /// apart.
    pub(super) fn policies(&self) -> Vec<Policy> {
        if !self.any {
            return Vec::new();
        }
        let mut policies = vec![deny(self.strict_name(), vec![rule([not_mutual()])])];
        for (namespace, all) in &self.workloads {
            policies.extend(all.iter().filter_map(|own| self.derive(namespace, own)));
        }
        policies
    }

    pub(super) fn effective(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Effective<'_> {
        let selected = in_or_for_all(&self.workloads, namespace).filter(|own| {
            own.is_for_all || own.selector.as_ref().is_some_and(|selector| has_labels(selector, labels))
        });
        let own = selected.min_by_key(|own| own.age);
        let decides = own.filter(|own| own.is_set()).or_else(|| self.inherited(namespace));
        let mode = mode_of(decides);
        let mut listed = Vec::new();
        match own {
            Some(own) if own.tells_ports(mode) => listed.push(derived_name(&own.name)),
            _ if mode == MutualTlsMode::Strict => listed.push(self.strict_name()),
            _ => {}
        }
        Effective { mode, own, decides, listed }
    }

    /// What a policy that a workload lists is the form of.
    pub(super) fn source(
        &self,
        policy: &PolicyName,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<&PolicyName> {
        let Effective { own, decides, .. } = self.effective(namespace, labels);
        if *policy == self.strict_name() {
            return decides.map(|own| &own.name);
        }
        own.map(|own| &own.name).filter(|name| derived_name(name) == *policy)
    }

    /// What the namespace asks, or the mesh.
    fn inherited(&self, namespace: &str) -> Option<&Own> {
        let of_namespace = in_or_for_all(&self.namespaces, namespace).min_by_key(|own| own.age);
        let set = |own: Option<&'_ Own>| own.is_some_and(Own::is_set);
        [of_namespace, self.oldest_of_root(namespace)].into_iter().find(|own| set(*own)).flatten()
    }

    fn oldest_of_root(&self, namespace: &str) -> Option<&Own> {
        let here = self.root.iter().filter(|_| namespace == self.root_namespace);
        self.mesh.iter().chain(here).min_by_key(|own| own.age)
    }

    /// The policy for a PeerAuthentication that tells ports apart, if there is anything to tell.
    fn derive(&self, namespace: &str, own: &Own) -> Option<Policy> {
        let parent = self.parent_of_derived(namespace);
        let mode = if own.mode == MutualTlsMode::Unset { parent } else { own.mode };
        if !own.tells_ports(mode) {
            return None;
        }
        let rules = if mode == MutualTlsMode::Strict {
            // One rule: no identity, and none of the ports that are exempt.
            let exempt = own
                .exempt_ports()
                .map(|port| Match { not_destination_ports: vec![port], ..Match::default() });
            vec![rule(std::iter::once(not_mutual()).chain(exempt))]
        } else {
            // A rule for each port.
            let on_port = |port| Match { destination_ports: vec![port], ..not_mutual() };
            own.strict_ports().map(|port| rule([on_port(port)])).collect()
        };
        Some(deny(derived_name(&own.name), rules))
    }

    /// What a derived policy takes for granted. Istio looks no further than to a policy of the namespace, even if
    /// that leaves its mode unset; then the derived policy is not made, though workloads list it.
    fn parent_of_derived(&self, namespace: &str) -> MutualTlsMode {
        if self.semantics == Semantics::Strict {
            return mode_of(self.inherited(namespace));
        }
        let absent_selector = |all: Option<&Vec<Own>>| {
            let own = all?.iter().find(|own| own.selector.is_none())?;
            Some(own.mode)
        };
        absent_selector(self.namespaces.get(namespace))
            .or_else(|| absent_selector(Some(&self.mesh)))
            .unwrap_or_default()
    }

    fn strict_name(&self) -> PolicyName {
        PolicyName::new(self.root_namespace.as_str(), "istio_converted_static_strict")
    }
}

impl Own {
    fn is_set(&self) -> bool {
        self.mode != MutualTlsMode::Unset
    }

    /// Whether some port is treated unlike the others, given what is asked on those.
    fn tells_ports(&self, mode: MutualTlsMode) -> bool {
        match mode {
            MutualTlsMode::Strict => self.exempt_ports().next().is_some(),
            _ => self.strict_ports().next().is_some(),
        }
    }

    /// Ports that take plaintext though the others do not. DISABLE is no exception from what is inherited.
    fn exempt_ports(&self) -> impl Iterator<Item = u16> {
        let inherits = self.mode == MutualTlsMode::Unset;
        self.ports_with(move |mode| match mode {
            MutualTlsMode::Permissive => true,
            MutualTlsMode::Disable => !inherits,
            MutualTlsMode::Strict | MutualTlsMode::Unset => false,
        })
    }

    fn strict_ports(&self) -> impl Iterator<Item = u16> {
        self.ports_with(|mode| mode == MutualTlsMode::Strict)
    }

    fn ports_with(&self, fits: impl Fn(MutualTlsMode) -> bool) -> impl Iterator<Item = u16> {
        // A number that no port has cannot be compared with one.
        self.ports
            .iter()
            .filter(move |(_, mode)| fits(**mode))
            .filter_map(|(port, _)| u16::try_from(*port).ok())
    }
}

/// Those of a namespace, and those for all.
fn in_or_for_all<'a>(all: &'a BTreeMap<String, Vec<Own>>, namespace: &str) -> impl Iterator<Item = &'a Own> {
    [namespace, EVERY].map(|name| all.get(name)).into_iter().flatten().flatten()
}

/// What is asked where nothing is set is nothing.
fn mode_of(decides: Option<&Own>) -> MutualTlsMode {
    decides.map_or(MutualTlsMode::Permissive, |own| own.mode)
}

fn derived_name(name: &PolicyName) -> PolicyName {
    PolicyName::new(name.namespace(), format!("converted_peer_authentication_{}", name.name()))
}

fn not_mutual() -> Match {
    Match { not_principals: vec![StringMatch::Presence], ..Match::default() }
}

fn rule(matches: impl IntoIterator<Item = Match>) -> Rule {
    Rule { clauses: matches.into_iter().map(|one| Clause { matches: vec![one] }).collect() }
}

fn deny(name: PolicyName, rules: Vec<Rule>) -> Policy {
    Policy { name, scope: Scope::WorkloadSelector, action: Action::Deny, dry_run: false, rules }
}

/// Not the name of a namespace.
const EVERY: &str = "";
