//! Collects policies for a set.

use std::sync::Arc;

use super::Index;
use crate::{MissingPolicy, Policy, PolicyName, PolicySet};

/// Collects policies for a [`PolicySet`]; made by [`PolicySet::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct PolicySetBuilder {
    missing: MissingPolicy,
    policies: Vec<Policy>,
}

impl PolicySetBuilder {
    pub(crate) fn new() -> Self {
        Self { missing: MissingPolicy::default(), policies: Vec::new() }
    }

    /// What is done about a policy that a workload lists and that is not in the set. Denies unless told
    /// otherwise.
    pub fn missing(mut self, missing: MissingPolicy) -> Self {
        self.missing = missing;
        self
    }

    /// Adds a policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policies.push(policy);
        self
    }

    /// Adds policies.
    pub fn policies(mut self, policies: impl IntoIterator<Item = Policy>) -> Self {
        self.policies.extend(policies);
        self
    }

    /// Builds the set.
    ///
    /// # Errors
    ///
    /// If two policies have one name: which of them was meant is unknown.
    pub fn build(self) -> Result<PolicySet, PolicySetError> {
        let policies = self.policies.into_iter().map(Arc::new).collect();
        let index = Index::of(policies).map_err(|policy| PolicySetError::Duplicate { policy })?;
        Ok(PolicySet::indexed(index, self.missing))
    }
}

/// Why policies do not make a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicySetError {
    /// Two policies have the same name.
    #[error("more than one policy is named {policy}")]
    Duplicate {
        /// The name.
        policy: PolicyName,
    },
}
