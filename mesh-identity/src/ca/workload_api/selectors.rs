//! What a workload is known by to SPIRE.

use std::collections::BTreeSet;

use crate::proto::spire::api::types::Selector;

/// The selectors of a workload, as its agent would find them: what registrations are matched with.
///
/// Equal sets are one subscription, in whatever order they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadSelectors(BTreeSet<(String, String)>);

impl WorkloadSelectors {
    /// Those that all pods of a Kubernetes service account have in common.
    pub fn kubernetes(namespace: &str, service_account: &str) -> Self {
        Self::default()
            .selector("k8s", format!("ns:{namespace}"))
            .selector("k8s", format!("sa:{service_account}"))
    }

    /// Adds the uid of a pod, for registrations of single pods.
    #[must_use]
    pub fn pod_uid(self, uid: &str) -> Self {
        self.selector("k8s", format!("pod-uid:{uid}"))
    }

    /// Adds any selector, as `k8s` and `pod-name:cart-0`.
    #[must_use]
    pub fn selector(mut self, kind: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert((kind.into(), value.into()));
        self
    }

    pub(super) fn to_proto(&self) -> Vec<Selector> {
        let selector =
            |(kind, value): &(String, String)| Selector { r#type: kind.clone(), value: value.clone() };
        self.0.iter().map(selector).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // identity#79
    #[test]
    fn pods_are_known_by_their_metadata() {
        let selectors = WorkloadSelectors::kubernetes("shop", "cart").pod_uid("123");
        let sent: Vec<_> =
            selectors.to_proto().into_iter().map(|selector| (selector.r#type, selector.value)).collect();
        let expected =
            ["ns:shop", "pod-uid:123", "sa:cart"].map(|value| ("k8s".to_owned(), value.to_owned()));
        assert_eq!(sent, expected);
        let other = WorkloadSelectors::default().selector("k8s", "sa:cart").selector("k8s", "ns:shop");
        assert_eq!(other, WorkloadSelectors::kubernetes("shop", "cart"));
    }
}
