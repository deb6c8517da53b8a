//! From an object to what decides.

mod rule;
mod text;

use std::sync::Arc;

use rule::RuleContext;

use super::{
    Mesh, ProviderProtocol,
    policy::{CompiledPolicy, CompiledRule, DroppedRule, Provider},
    target::Place,
};
use crate::{
    Semantics,
    object::{Action, AuthorizationPolicy, ObjectError, ObjectKind, Problem},
};

/// What a policy is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Request,
    Stream,
}

/// For what, by whose reading, and in which mesh policies are compiled.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    pub(super) point: Point,
    pub(super) semantics: Semantics,
    pub(super) mesh: Arc<Mesh>,
}

/// A problem and where it is in a rule.
struct Refusal {
    path: String,
    value: String,
    problem: Problem,
}

impl Refusal {
    fn new(problem: Problem, path: impl Into<String>, value: impl Into<String>) -> Self {
        Self { path: path.into(), value: value.into(), problem }
    }
}

/// What becomes of a rule that is not compiled.
enum Failure {
    Dropped(DroppedRule),
    Refused(Refusal),
}

impl Compiler {
    /// Compiles a policy.
    ///
    /// # Errors
    ///
    /// With strict semantics, if anything of it cannot be used as it is written; with Istio's, never.
    pub(super) fn compile(&self, object: &AuthorizationPolicy) -> Result<CompiledPolicy, ObjectError> {
        let refuse = |refusal: Refusal| {
            let Refusal { path, value, problem } = refusal;
            ObjectError::new(problem, path, value, &object.metadata, ObjectKind::AuthorizationPolicy)
        };
        let dry_run = self.dry_run(object).map_err(refuse)?;
        let places = self.places(object).map_err(refuse)?;
        let provider = self.provider(object).map_err(refuse)?;
        let needs_rules = matches!(object.action, Action::Custom | Action::Deny);
        if self.is_strict() && needs_rules && object.rules.is_empty() {
            return Err(refuse(Refusal::new(Problem::MissingRules, "spec.rules", "")));
        }
        let is_unasked = self.point == Point::Stream
            && self.semantics == Semantics::Istio
            && provider.as_ref().is_some_and(asks_by_http);
        let rules = object.rules.iter().enumerate().map(|(index, rule)| {
            if is_unasked {
                return Ok(CompiledRule::Dropped(DroppedRule::Unasked));
            }
            let context =
                RuleContext { compiler: self, action: object.action, namespace: &object.metadata.namespace };
            match context.rule(rule) {
                Ok(clauses) => Ok(CompiledRule::Clauses(clauses)),
                Err(Failure::Dropped(dropped)) => Ok(CompiledRule::Dropped(dropped)),
                Err(Failure::Refused(refusal)) => {
                    let path = format!("spec.rules[{index}].{}", refusal.path);
                    Err(refuse(Refusal { path, ..refusal }))
                }
            }
        });
        Ok(CompiledPolicy {
            rules: rules.collect::<Result<_, _>>()?,
            ..self.policy(object, dry_run, places, provider)
        })
    }

    /// What stands in for a policy that cannot be compiled: whatever it says, this is at least as tight. An
    /// ALLOW matches nothing, a DENY everything where it applies, and whatever would ask a provider is denied.
    pub(super) fn compile_closed(&self, object: &AuthorizationPolicy) -> CompiledPolicy {
        // If it is unclear whether it is enforced, it is.
        let dry_run = self.dry_run(object).unwrap_or(false);
        let places = self.places(object).unwrap_or_else(|_| {
            let known =
                object.targets().filter_map(|target| Place::of(target, &object.metadata, &self.mesh).ok());
            let mut places: Vec<_> =
                known.chain([Place::Unknown(object.metadata.namespace.as_str().into())]).collect();
            places.sort();
            places.dedup();
            places
        });
        let provider = object.provider.as_ref().map_or("", |provider| provider.name.as_str());
        let provider =
            (object.action == Action::Custom).then(|| Provider { name: provider.into(), settings: None });
        let rules: Box<[_]> = match object.action {
            Action::Allow | Action::Audit => Box::default(),
            Action::Custom | Action::Deny => Box::new([CompiledRule::Clauses(Box::default())]),
        };
        CompiledPolicy { rules, is_broken: true, ..self.policy(object, dry_run, places, provider) }
    }

    fn policy(
        &self,
        object: &AuthorizationPolicy,
        dry_run: bool,
        places: Vec<Place>,
        provider: Option<Provider>,
    ) -> CompiledPolicy {
        CompiledPolicy {
            name: object.metadata.policy_name(),
            action: object.action,
            dry_run,
            provider,
            places,
            selector: object.selector.as_ref().map(|selector| selector.match_labels.clone()),
            rules: Box::default(),
            is_broken: false,
        }
    }

    fn is_strict(&self) -> bool {
        self.semantics == Semantics::Strict
    }

    fn dry_run(&self, object: &AuthorizationPolicy) -> Result<bool, Refusal> {
        let Some(value) = object.metadata.annotations.get(DRY_RUN) else { return Ok(false) };
        match value.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ if self.is_strict() => {
                Err(Refusal::new(Problem::DryRun, format!("metadata.annotations[{DRY_RUN}]"), value))
            }
            _ => Ok(false),
        }
    }

    fn places(&self, object: &AuthorizationPolicy) -> Result<Vec<Place>, Refusal> {
        let mut places = Vec::new();
        for (index, target) in object.target_refs.iter().enumerate() {
            places.push((format!("spec.targetRefs[{index}]"), target));
        }
        places.extend(object.target_ref.iter().map(|target| ("spec.targetRef".to_owned(), target)));
        if places.is_empty() {
            return Ok(vec![Place::Namespace(object.metadata.namespace.as_str().into())]);
        }
        if self.is_strict() {
            let is_twofold = object.target_ref.is_some() && !object.target_refs.is_empty();
            if object.selector.is_some() || is_twofold {
                return Err(Refusal::new(Problem::SelectorAndTarget, "spec", ""));
            }
        }
        let mut found = Vec::new();
        for (path, target) in places {
            match Place::of(target, &object.metadata, &self.mesh) {
                Ok(place) => found.push(place),
                Err(problem) if self.is_strict() => {
                    let (field, value) = match problem {
                        Problem::TargetNamespace => ("namespace", &target.namespace),
                        _ => ("kind", &target.kind),
                    };
                    return Err(Refusal::new(problem, format!("{path}.{field}"), value));
                }
                Err(_) => {}
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn provider(&self, object: &AuthorizationPolicy) -> Result<Option<Provider>, Refusal> {
        let name = object.provider.as_ref().map(|provider| provider.name.as_str());
        if object.action != Action::Custom {
            return match name {
                Some(name) if self.is_strict() => {
                    Err(Refusal::new(Problem::UnexpectedProvider, "spec.provider.name", name))
                }
                _ => Ok(None),
            };
        }
        let name = name.unwrap_or_default();
        if self.is_strict() && name.is_empty() {
            return Err(Refusal::new(Problem::MissingProvider, "spec.provider.name", ""));
        }
        let settings = self.mesh.providers.get(name).copied();
        if self.is_strict() && settings.is_none() {
            return Err(Refusal::new(Problem::Provider, "spec.provider.name", name));
        }
        let provider = Provider { name: name.into(), settings };
        if self.is_strict() && self.point == Point::Stream && asks_by_http(&provider) {
            return Ok(Some(Provider { settings: None, ..provider }));
        }
        Ok(Some(provider))
    }
}

/// Such a provider cannot be asked about streams.
fn asks_by_http(provider: &Provider) -> bool {
    provider.settings.is_some_and(|settings| settings.protocol == ProviderProtocol::Http)
}

/// The annotation that keeps a policy from being enforced.
const DRY_RUN: &str = "istio.io/dry-run";
