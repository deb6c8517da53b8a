//! The answer to whether a connection may be.

use std::fmt;

use crate::{PolicyName, evaluate::Applicable};

/// What the policies of a set say about a connection. Borrows from the set and the facts.
#[derive(Clone, Copy)]
#[must_use = "a decision has no effect unless its verdict is enforced"]
pub struct Decision<'a> {
    pub(crate) reason: Reason<'a>,
    pub(crate) applicable: Applicable<'a>,
}

impl<'a> Decision<'a> {
    /// Whether the connection is allowed.
    pub fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }

    /// What decided.
    pub fn reason(&self) -> Reason<'a> {
        self.reason
    }

    /// The policy that the workload lists and that is not there, if that is why the connection is denied.
    pub fn missing_policy(&self) -> Option<&'a PolicyName> {
        match self.reason {
            Reason::Missing { policy } => Some(policy),
            _ => None,
        }
    }

    /// The policies in dry run that would deny the connection if all of them were enforced.
    ///
    /// These are the DENY policies that match and, where the connection is allowed only because no ALLOW
    /// policy is enforced, the ALLOW policies, if none of them matches. Those that match come first, by name.
    /// They are evaluated here and not before: a decision costs nothing for policies in dry run until this is
    /// called, and no allocation then.
    pub fn dry_run_denials(&self) -> impl Iterator<Item = &'a PolicyName> + use<'a> {
        self.applicable.dry_run_denials(self.reason)
    }
}

impl fmt::Debug for Decision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Whether a connection may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
        })
    }
}

/// Why a connection is allowed or denied.
///
/// Where several policies would do, the one with the smallest name is named, and its first rule that matches:
/// equal facts have equal reasons. The texts of denials are those that Istio's operators know.
///
/// With the feature `crd`, serialised as a map with `kind`, such as `deniedBy`, and what is known of `policy`, `rule` and
/// `provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(tag = "kind", rename_all = "camelCase"))]
#[non_exhaustive]
pub enum Reason<'a> {
    /// An ALLOW policy matches.
    AllowedBy {
        /// The policy.
        policy: &'a PolicyName,
        /// The index of its rule.
        rule: usize,
    },
    /// A DENY policy matches.
    DeniedBy {
        /// The policy.
        policy: &'a PolicyName,
        /// The index of its rule.
        rule: usize,
    },
    /// A policy with the action CUSTOM matches, and the provider that it asks denies.
    DeniedByProvider {
        /// The policy.
        policy: &'a PolicyName,
        /// The index of its rule.
        rule: usize,
        /// Who was asked.
        provider: &'a str,
    },
    /// The workload lists a policy that is not in the set, so nobody knows what it says.
    Missing {
        /// The policy.
        policy: &'a PolicyName,
    },
    /// No enforced ALLOW policy applies, so what is not denied is allowed.
    NoAllowPolicies,
    /// ALLOW policies apply, and none matches.
    NoneAllowed,
    /// A policy with the action CUSTOM matches, and the provider that it asks gave no answer.
    ProviderFailed {
        /// The policy.
        policy: &'a PolicyName,
        /// The index of its rule.
        rule: usize,
        /// Who was asked.
        provider: &'a str,
    },
    /// A policy with the action CUSTOM matches, and the provider that it names cannot be asked: the mesh has
    /// none of that name, or it cannot be asked about streams.
    ProviderUnusable {
        /// The policy.
        policy: &'a PolicyName,
        /// The index of its rule.
        rule: usize,
        /// The name; empty if there is none.
        provider: &'a str,
    },
}

impl<'a> Reason<'a> {
    /// The policy that is named, if one is.
    pub fn policy(&self) -> Option<&'a PolicyName> {
        match *self {
            Self::AllowedBy { policy, .. }
            | Self::DeniedBy { policy, .. }
            | Self::DeniedByProvider { policy, .. }
            | Self::Missing { policy }
            | Self::ProviderFailed { policy, .. }
            | Self::ProviderUnusable { policy, .. } => Some(policy),
            Self::NoAllowPolicies | Self::NoneAllowed => None,
        }
    }

    /// The index of the rule that matches in that policy, if one does.
    pub fn rule(&self) -> Option<usize> {
        match *self {
            Self::AllowedBy { rule, .. }
            | Self::DeniedBy { rule, .. }
            | Self::DeniedByProvider { rule, .. }
            | Self::ProviderFailed { rule, .. }
            | Self::ProviderUnusable { rule, .. } => Some(rule),
            Self::Missing { .. } | Self::NoAllowPolicies | Self::NoneAllowed => None,
        }
    }

    /// The verdict that follows.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::AllowedBy { .. } | Self::NoAllowPolicies => Verdict::Allow,
            Self::DeniedBy { .. }
            | Self::DeniedByProvider { .. }
            | Self::Missing { .. }
            | Self::NoneAllowed
            | Self::ProviderFailed { .. }
            | Self::ProviderUnusable { .. } => Verdict::Deny,
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy() {
            Some(policy) => self.fmt_naming(policy, f),
            None => self.fmt_naming(&"", f),
        }
    }
}

impl Reason<'_> {
    /// The reason as it is displayed, with something else in the place of the policy's name: the object that the policy
    /// was converted from, say.
    pub fn naming<'b>(&'b self, policy: &'b dyn fmt::Display) -> impl fmt::Display + 'b {
        Naming { reason: self, policy }
    }

    fn fmt_naming(&self, policy: &dyn fmt::Display, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowedBy { .. } => write!(f, "explicitly allowed by: {policy}"),
            Self::DeniedBy { .. } => write!(f, "explicitly denied by: {policy}"),
            Self::DeniedByProvider { provider, .. } => {
                write!(f, "explicitly denied by: {policy}, which asked {provider}")
            }
            Self::ProviderFailed { provider, .. } => {
                write!(f, "no answer from {provider}, which {policy} asks")
            }
            Self::ProviderUnusable { provider, .. } => {
                write!(f, "{policy} asks a provider that cannot be asked: {provider}")
            }
            Self::Missing { .. } => write!(f, "policy has not arrived: {policy}"),
            Self::NoAllowPolicies => f.write_str("no allow policies apply"),
            Self::NoneAllowed => f.write_str("allow policies exist, but none allowed"),
        }
    }
}

struct Naming<'a> {
    reason: &'a Reason<'a>,
    policy: &'a dyn fmt::Display,
}

impl fmt::Display for Naming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt_naming(self.policy, f)
    }
}
