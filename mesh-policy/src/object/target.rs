//! To what an object applies.

use std::collections::BTreeMap;

/// Selects workloads by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Selector {
    /// A workload has to have all of them.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub match_labels: BTreeMap<String, String>,
}

/// Names a Gateway, a GatewayClass, a Service or a ServiceEntry. Empty texts were not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct TargetRef {
    /// The API group of the kind; empty for the core group, which may also be written `core`.
    pub group: String,
    /// The kind, such as `Gateway` or `Service`.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// The namespace of the object: that of the policy, or empty, which means the same.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "String::is_empty"))]
    pub namespace: String,
}
