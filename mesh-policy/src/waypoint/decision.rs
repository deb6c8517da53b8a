//! The answer to whether a stream or a request may be.

use std::fmt;

use super::{ExtensionProvider, evaluate::Case, policy::CompiledPolicy};
use crate::{PolicyName, Reason, Verdict, object::Action};

/// How far a decision has come: made, or waiting for what a provider says.
#[derive(Clone, Copy, Debug)]
#[must_use = "a decision has no effect unless its verdict is enforced"]
pub enum Step<'a> {
    /// A provider has to be asked first.
    Ask(Question<'a>),
    /// The decision is made.
    Decided(WaypointDecision<'a>),
}

impl<'a> Step<'a> {
    /// The decision, for callers that ask no providers: where one would have to be asked, it is denied.
    pub fn without_providers(self) -> WaypointDecision<'a> {
        match self {
            Self::Ask(question) => question.deny(),
            Self::Decided(decision) => decision,
        }
    }
}

/// A question that a policy with the action CUSTOM wants a provider to be asked.
///
/// Each provider is asked once, in the order of their names; the first that denies decides. Whatever it says,
/// DENY and ALLOW policies come after.
#[derive(Clone, Copy)]
#[must_use = "nothing is decided until the question is answered"]
pub struct Question<'a> {
    pub(super) policy: &'a CompiledPolicy,
    pub(super) rule: usize,
    pub(super) provider: &'a str,
    pub(super) settings: ExtensionProvider,
    pub(super) case: Case<'a>,
}

/// What a provider said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It has no objection.
    Allow,
    /// It objects.
    Deny,
    /// It could not be reached, gave no answer in time, or one that makes no sense. Denies, unless the provider
    /// [fails open](ExtensionProvider::fail_open).
    Failed,
}

impl<'a> Question<'a> {
    /// Whom to ask.
    pub fn provider(&self) -> &'a str {
        self.provider
    }

    /// How to ask it.
    pub fn settings(&self) -> ExtensionProvider {
        self.settings
    }

    /// The policy that matches.
    pub fn policy(&self) -> &'a PolicyName {
        &self.policy.name
    }

    /// The index of its rule.
    pub fn rule(&self) -> usize {
        self.rule
    }

    /// Goes on with what the provider said.
    pub fn answer(self, answer: Answer) -> Step<'a> {
        let Self { policy, rule, provider, settings, case } = self;
        let policy = &policy.name;
        match answer {
            Answer::Deny => case.decided(Reason::DeniedByProvider { policy, rule, provider }),
            Answer::Failed if !settings.fail_open => {
                case.decided(Reason::ProviderFailed { policy, rule, provider })
            }
            Answer::Allow | Answer::Failed => case.applicable().step(Some(provider)),
        }
    }

    fn deny(self) -> WaypointDecision<'a> {
        let Self { policy, rule, provider, case, .. } = self;
        let reason = Reason::ProviderFailed { policy: &policy.name, rule, provider };
        WaypointDecision { reason, case }
    }
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("provider", &self.provider)
            .field("policy", &self.policy.name)
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

/// What the policies of a set say about a stream or a request. Borrows from the set and the facts.
#[derive(Clone, Copy)]
#[must_use = "a decision has no effect unless its verdict is enforced"]
pub struct WaypointDecision<'a> {
    pub(super) reason: Reason<'a>,
    pub(super) case: Case<'a>,
}

impl<'a> WaypointDecision<'a> {
    /// Whether it is allowed. A request that is not gets the status 403 with the body
    /// [`DENIED_BODY`](super::DENIED_BODY), a stream is closed.
    pub fn verdict(&self) -> Verdict {
        self.reason.verdict()
    }

    /// What decided.
    pub fn reason(&self) -> Reason<'a> {
        self.reason
    }

    /// The AUDIT policies that match, each with its first rule that does, by name. They decide nothing, and are
    /// evaluated here and not before.
    pub fn audits(&self) -> impl Iterator<Item = (&'a PolicyName, usize)> + use<'a> {
        self.case.applicable().matches(Action::Audit, false)
    }

    /// The policies in dry run that would deny if all of them were enforced, as
    /// [`Decision::dry_run_denials`](crate::Decision::dry_run_denials) has them. Those with the action CUSTOM
    /// are not asked.
    pub fn dry_run_denials(&self) -> impl Iterator<Item = &'a PolicyName> + use<'a> {
        let applicable = self.case.applicable();
        let denies = applicable.matches(Action::Deny, true).map(|(name, _)| name);
        let none_would_allow = self.reason == Reason::NoAllowPolicies
            && applicable.matches(Action::Allow, true).next().is_none();
        let allows = none_would_allow.then(|| applicable.policies(Action::Allow, true));
        denies.chain(allows.into_iter().flatten().map(|policy| &policy.name))
    }
}

impl fmt::Debug for WaypointDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaypointDecision").field("reason", &self.reason).finish_non_exhaustive()
    }
}
