//! Whether peers have to prove an identity.

use std::{collections::BTreeMap, fmt};

use super::{Extent, Metadata, Selector};

/// A PeerAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// What it is called.
    pub metadata: Metadata,
    /// The workloads it applies to; if absent, all of its namespace or, in the root namespace, of the mesh.
    pub selector: Option<Selector>,
    /// What is asked of peers: `mtls.mode`.
    pub mtls: MutualTlsMode,
    /// What is asked of peers on single ports of the workload: `portLevelMtls`.
    pub port_level_mtls: BTreeMap<u32, MutualTlsMode>,
    /// Whether it applies further than it says. One with a selector stays more specific than one without.
    pub extent: Extent,
}

/// What is asked of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "UPPERCASE"))]
pub enum MutualTlsMode {
    /// Plaintext only.
    Disable,
    /// Mutual TLS or plaintext.
    Permissive,
    /// Mutual TLS only.
    Strict,
    /// What the next wider scope asks.
    #[default]
    Unset,
}

/// Displayed as it is written in objects.
impl fmt::Display for MutualTlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
            Self::Unset => "UNSET",
        })
    }
}
