//! A policy as written.

use std::fmt;

use crate::{PolicyName, Rule};

/// An authorization policy: where it applies, what it does, and to which connections.
///
/// It matches a connection if any of its rules does; without rules it matches none. So an ALLOW policy
/// without rules denies everything where it applies, a DENY policy without rules nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the policy is called; unique within a set.
    pub name: PolicyName,
    /// Which destinations it applies to.
    pub scope: Scope,
    /// What a match leads to.
    pub action: Action,
    /// Evaluated and reported, never enforced.
    pub dry_run: bool,
    /// Any of them has to match.
    pub rules: Vec<Rule>,
}

/// Which destination workloads a policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of the mesh.
    Global,
    /// Those in the policy's namespace.
    Namespace,
    /// Those that list the policy by name.
    WorkloadSelector,
}

/// What a policy does to a connection that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "UPPERCASE"))]
pub enum Action {
    /// Allows it. The first enforced ALLOW policy of a destination also denies whatever none of them matches.
    Allow,
    /// Denies it, whatever other policies say.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        })
    }
}
