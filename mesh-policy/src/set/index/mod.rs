//! Policies by name and by where they apply.

mod key;
mod pages;
mod postings;
mod selection;

pub(crate) use postings::Postings;

use std::sync::Arc;

use pages::SortedPages;

use crate::{Action, Policy, PolicyName, Scope, evaluate::Class};

/// Clones share everything that neither changes.
#[derive(Clone, Default)]
pub(crate) struct Index {
    by_name: SortedPages<Arc<Policy>>,
    global: Group,
    /// By namespace; none is empty.
    groups: SortedPages<(Arc<str>, Group)>,
}

impl Index {
    pub(crate) fn get(&self, name: &PolicyName) -> Option<&Policy> {
        let policy = self.by_name.from(|policy| policy.name < *name).next()?;
        (policy.name == *name).then_some(&**policy)
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Policy> {
        self.by_name.iter().map(|policy| &**policy)
    }

    pub(crate) fn global(&self) -> &Group {
        &self.global
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Option<&Group> {
        let (found, group) = self.groups.from(|(other, _)| **other < *namespace).next()?;
        (**found == *namespace).then_some(group)
    }

    pub(crate) fn insert(&mut self, policy: Arc<Policy>) {
        // The one it replaces may have another scope or action.
        self.remove(&policy.name);
        self.change_group(&policy, |postings| postings.insert(&policy));
        let name = policy.name.clone();
        self.by_name.insert(policy, |other| other.name < name);
    }

    pub(crate) fn remove(&mut self, name: &PolicyName) {
        let removed = self.by_name.remove(|policy| policy.name < *name, |policy| policy.name == *name);
        let Some(policy) = removed else { return };
        self.change_group(&policy, |postings| postings.remove(&policy));
    }

    /// Changes the part of the index that a policy of that scope and class is in.
    fn change_group(&mut self, policy: &Policy, change: impl FnOnce(&mut Postings)) {
        let class = Class::of(policy);
        match policy.scope {
            Scope::Global => change(self.global.class_mut(class)),
            Scope::Namespace => {
                let namespace = policy.name.shared_namespace();
                let is_before = |(other, _): &(Arc<str>, Group)| other < namespace;
                let known = self.groups.remove(is_before, |(other, _)| other == namespace);
                let (namespace, mut group) =
                    known.unwrap_or_else(|| (Arc::clone(namespace), Group::default()));
                change(group.class_mut(class));
                if !group.is_empty() {
                    self.groups.insert((namespace, group), is_before);
                }
            }
            // Found by the name that workloads list.
            Scope::WorkloadSelector => {}
        }
    }
}

/// Policies that apply to the same workloads, by class.
#[derive(Clone, Default)]
pub(crate) struct Group {
    enforced: ByAction,
    dry_run: ByAction,
}

#[derive(Clone, Default)]
struct ByAction {
    allow: Arc<Postings>,
    deny: Arc<Postings>,
}

impl Group {
    pub(crate) fn class(&self, class: Class) -> &Postings {
        let by_action = if class.dry_run { &self.dry_run } else { &self.enforced };
        match class.action {
            Action::Allow => &by_action.allow,
            Action::Deny => &by_action.deny,
        }
    }

    fn class_mut(&mut self, class: Class) -> &mut Postings {
        let by_action = if class.dry_run { &mut self.dry_run } else { &mut self.enforced };
        Arc::make_mut(match class.action {
            Action::Allow => &mut by_action.allow,
            Action::Deny => &mut by_action.deny,
        })
    }

    fn is_empty(&self) -> bool {
        Class::ALL.iter().all(|class| self.class(*class).is_empty())
    }
}
