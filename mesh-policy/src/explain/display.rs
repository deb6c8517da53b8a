//! Explanations as text for people.

use std::fmt;

use super::{ClauseMiss, Explanation, PolicyTrace, RuleTrace};
use crate::{Action, Reason};

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.decision.reason;
        let mut traces = self.policies.iter();
        match traces.find(|trace| Some(&trace.policy.name) == reason.policy()).and_then(PolicyTrace::object) {
            Some(object) => write!(f, "{}: {}", reason.verdict(), reason.naming(object))?,
            None => write!(f, "{}: {reason}", reason.verdict())?,
        }
        match reason {
            Reason::AllowedBy { policy, rule } => write!(f, "\n  ALLOW {policy} rule[{rule}] matches")?,
            Reason::DeniedBy { policy, rule } => write!(f, "\n  DENY {policy} rule[{rule}] matches")?,
            Reason::Missing { .. } | Reason::NoAllowPolicies => {}
            Reason::NoneAllowed => self.fmt_nearest(f)?,
            // No provider is asked about connections.
            Reason::DeniedByProvider { .. }
            | Reason::ProviderFailed { .. }
            | Reason::ProviderUnusable { .. } => {}
        }
        for policy in self.decision.dry_run_denials() {
            write!(f, "\n  dry run: {policy} would deny")?;
        }
        Ok(())
    }
}

impl Explanation<'_> {
    fn fmt_nearest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_asked =
            |trace: &&PolicyTrace<'_>| trace.policy.action == Action::Allow && !trace.policy.dry_run;
        let mut asked = self.policies.iter().filter(is_asked);
        for trace in asked.by_ref().take(SHOWN_POLICIES) {
            write!(f, "\n  {trace}")?;
        }
        match asked.count() {
            0 => Ok(()),
            1 => f.write_str("\n  and 1 more policy"),
            more => write!(f, "\n  and {more} more policies"),
        }
    }
}

/// The action, the name, and the nearest rule.
impl fmt::Display for PolicyTrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy.action, self.policy.name)?;
        match self.rules.first() {
            Some(rule) => write!(f, " {rule}"),
            None => f.write_str(" has no rules"),
        }
    }
}

impl fmt::Display for RuleTrace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule[{}]", self.index)?;
        match &self.miss {
            Some(miss) => write!(f, " {miss}"),
            None => f.write_str(" matches"),
        }
    }
}

impl fmt::Display for ClauseMiss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "clause[{}] misses:", self.index)?;
        for (index, miss) in self.matches.iter().take(SHOWN_MATCHES).enumerate() {
            let separator = if index == 0 { " " } else { "; " };
            write!(f, "{separator}{miss}")?;
        }
        match self.matches.len().saturating_sub(SHOWN_MATCHES) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

const SHOWN_POLICIES: usize = 3;
const SHOWN_MATCHES: usize = 3;
