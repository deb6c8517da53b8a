//! What names and describes an object.

use std::{collections::BTreeMap, fmt};

use crate::PolicyName;

/// The metadata of an object, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Metadata {
    /// The namespace the object lives in.
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
    /// Labels of the object itself.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "BTreeMap::is_empty"))]
    pub annotations: BTreeMap<String, String>,
    /// When the object was made, in the form of RFC 3339; a cluster always writes it in whole seconds of UTC.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Option::is_none"))]
    pub creation_timestamp: Option<String>,
}

impl Metadata {
    /// Metadata that only names.
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// The name under which decisions report the object.
    pub fn policy_name(&self) -> PolicyName {
        PolicyName::new(self.namespace.as_str(), self.name.as_str())
    }
}

/// Displayed as `namespace/name`.
impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
