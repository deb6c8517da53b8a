//! Policies by name and by where they apply.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{Action, Policy, PolicyName, Scope, evaluate::Class};

#[derive(Clone, Default)]
pub(crate) struct Index {
    by_name: BTreeMap<PolicyName, Arc<Policy>>,
    global: Group,
    by_namespace: HashMap<Arc<str>, Group>,
}

impl Index {
    pub(crate) fn get(&self, name: &PolicyName) -> Option<&Policy> {
        self.by_name.get(name).map(|policy| &**policy)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.by_name.values().map(|policy| &**policy)
    }

    pub(crate) fn global(&self) -> &Group {
        &self.global
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Option<&Group> {
        self.by_namespace.get(namespace)
    }

    pub(crate) fn insert(&mut self, policy: Arc<Policy>) {
        // The one it replaces may have another scope or action.
        self.remove(&policy.name);
        match policy.scope {
            Scope::Global => self.global.insert(Arc::clone(&policy)),
            Scope::Namespace => {
                let namespace = Arc::clone(policy.name.shared_namespace());
                self.by_namespace.entry(namespace).or_default().insert(Arc::clone(&policy));
            }
            // Found by the name that workloads list.
            Scope::WorkloadSelector => {}
        }
        self.by_name.insert(policy.name.clone(), policy);
    }

    pub(crate) fn remove(&mut self, name: &PolicyName) {
        let Some(policy) = self.by_name.remove(name) else { return };
        match policy.scope {
            Scope::Global => self.global.remove(&policy),
            Scope::Namespace => {
                if let Some(group) = self.by_namespace.get_mut(name.namespace()) {
                    group.remove(&policy);
                    if group.is_empty() {
                        self.by_namespace.remove(name.namespace());
                    }
                }
            }
            Scope::WorkloadSelector => {}
        }
    }
}

/// Policies that apply to the same workloads, each class sorted by name.
#[derive(Clone, Default)]
pub(crate) struct Group {
    enforced: ByAction,
    dry_run: ByAction,
}

#[derive(Clone, Default)]
struct ByAction {
    allow: Vec<Arc<Policy>>,
    deny: Vec<Arc<Policy>>,
}

impl Group {
    pub(crate) fn class(&self, class: Class) -> &[Arc<Policy>] {
        let by_action = if class.dry_run { &self.dry_run } else { &self.enforced };
        match class.action {
            Action::Allow => &by_action.allow,
            Action::Deny => &by_action.deny,
        }
    }

    fn class_mut(&mut self, class: Class) -> &mut Vec<Arc<Policy>> {
        let by_action = if class.dry_run { &mut self.dry_run } else { &mut self.enforced };
        match class.action {
            Action::Allow => &mut by_action.allow,
            Action::Deny => &mut by_action.deny,
        }
    }

    fn insert(&mut self, policy: Arc<Policy>) {
        let policies = self.class_mut(Class::of(&policy));
        let at = policies.partition_point(|other| other.name < policy.name);
        policies.insert(at, policy);
    }

    fn remove(&mut self, policy: &Policy) {
        let policies = self.class_mut(Class::of(policy));
        if let Ok(at) = policies.binary_search_by(|other| other.name.cmp(&policy.name)) {
            policies.remove(at);
        }
    }

    fn is_empty(&self) -> bool {
        Class::ALL.iter().all(|class| self.class(*class).is_empty())
    }
}
