//! Whose reading of objects is followed.

use std::fmt;

/// How policy objects are read.
///
/// The [crate documentation](crate#semantics) has a table of where the two differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// As Istio and Envoy do, surprises included, so that a cluster can be moved without changing a decision.
    /// What cannot be used is dropped without a word.
    Istio,
    /// Refuses every object that Istio would silently widen or drop, and leans to deny where an attribute
    /// cannot be seen.
    #[default]
    Strict,
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Istio => "istio",
            Self::Strict => "strict",
        })
    }
}
