//! The name of a policy.

use std::{fmt, str::FromStr, sync::Arc};

/// The namespace and name of a policy, written `namespace/name`.
///
/// Names are compared, never interpreted. They are ordered by namespace, then by name. A clone costs two
/// reference counts.
///
/// ```
/// use mesh_policy::PolicyName;
///
/// let name: PolicyName = "shop/deny-plaintext".parse()?;
/// assert_eq!((name.namespace(), name.name()), ("shop", "deny-plaintext"));
/// assert_eq!(name.to_string(), "shop/deny-plaintext");
/// # Ok::<(), mesh_policy::PolicyNameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl PolicyName {
    /// Joins a namespace and a name, as a source that keeps them apart gives them.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The namespace the policy lives in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name within the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace as a shared string, to key an index with.
    pub(crate) fn shared_namespace(&self) -> &Arc<str> {
        &self.namespace
    }
}

impl FromStr for PolicyName {
    type Err = PolicyNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or(PolicyNameError::Separator)?;
        if name.contains('/') {
            return Err(PolicyNameError::Separator);
        }
        if namespace.is_empty() || name.is_empty() {
            return Err(PolicyNameError::Empty);
        }
        Ok(Self::new(namespace, name))
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(feature = "crd")]
impl serde::Serialize for PolicyName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is not the name of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyNameError {
    /// The namespace or the name is empty.
    #[error("policy name has an empty part")]
    Empty,
    /// Not exactly one slash.
    #[error("policy name is not of the form namespace/name")]
    Separator,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_back_what_it_read() {
        for text in ["shop/cart", "istio-system/istio_converted_static_strict", "a.b/C-d"] {
            assert_eq!(text.parse::<PolicyName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn needs_exactly_two_parts() {
        for (text, error) in [
            ("", PolicyNameError::Separator),
            ("cart", PolicyNameError::Separator),
            ("a/b/c", PolicyNameError::Separator),
            ("/cart", PolicyNameError::Empty),
            ("shop/", PolicyNameError::Empty),
            ("/", PolicyNameError::Empty),
        ] {
            assert_eq!(text.parse::<PolicyName>().unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn the_namespace_orders_first() {
        let ordered = ["a/z", "a-b/a", "b/a"].map(|text| text.parse::<PolicyName>().unwrap());
        assert!(ordered.is_sorted());
    }
}
