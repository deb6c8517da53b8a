//! From an object to what decides.

mod rule;
pub(crate) mod text;

use std::sync::Arc;

use rule::RuleContext;

use super::{
    Mesh, ProviderProtocol,
    policy::{CompiledPolicy, CompiledRule, DroppedRule, Provider},
    target::Place,
};
use crate::{
    Code, Semantics,
    object::{Action, AuthorizationPolicy, Extent, ObjectError},
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

impl Compiler {
    /// Compiles a policy.
    ///
    /// # Errors
    ///
    /// With strict semantics, if anything of it cannot be used as it is written; with Istio's, never.
    pub(super) fn compile(&self, object: &AuthorizationPolicy) -> Result<CompiledPolicy, ObjectError> {
        if self.semantics == Semantics::Strict
            && let Some(error) = ObjectError::new(object.refusals_in(&self.mesh))
        {
            return Err(error);
        }
        let provider = self.provider(object);
        let is_unasked = self.point == Point::Stream
            && self.semantics == Semantics::Istio
            && provider.as_ref().is_some_and(asks_by_http);
        let context =
            RuleContext { compiler: self, action: object.action, namespace: &object.metadata.namespace };
        let rules = object.rules.iter().map(|rule| match context.rule(rule) {
            _ if is_unasked => CompiledRule::Dropped(DroppedRule::Unasked),
            Ok(clauses) => CompiledRule::Clauses(clauses),
            Err(dropped) => CompiledRule::Dropped(dropped),
        });
        Ok(CompiledPolicy {
            rules: rules.collect(),
            ..self.policy(object, object.is_dry_run(), self.places(object), provider)
        })
    }

    /// What stands in for a policy that cannot be compiled: whatever it says, this is at least as tight. An
    /// ALLOW matches nothing, a DENY everything where it applies, and whatever would ask a provider is denied.
    pub(super) fn compile_closed(&self, object: &AuthorizationPolicy) -> CompiledPolicy {
        let refusals = object.refusals_in(&self.mesh);
        let is_broken_at = |field: &str| refusals.iter().any(|finding| finding.path.starts_with(field));
        let is_twofold = refusals.iter().any(|finding| finding.code == Code::SeveralTargets);
        let mut places = self.places(object);
        if is_twofold || is_broken_at("spec.targetRef") {
            // Whatever of its targets is understood, and wherever else it may have been meant to apply.
            places.push(Place::Unknown(object.metadata.namespace.as_str().into()));
            places.sort();
            places.dedup();
        }
        let selector = object.selector.as_ref().filter(|_| !is_twofold && !is_broken_at("spec.selector"));
        let provider = object.provider.as_ref().map_or("", |provider| provider.name.as_str());
        let provider =
            (object.action == Action::Custom).then(|| Provider { name: provider.into(), settings: None });
        let rules: Box<[_]> = match object.action {
            Action::Allow | Action::Audit => Box::default(),
            Action::Custom | Action::Deny => Box::new([CompiledRule::Clauses(Box::default())]),
        };
        let selector = selector.map(|selector| selector.match_labels.clone());
        // If it is unclear whether it is enforced, it is.
        let dry_run = object.is_dry_run();
        CompiledPolicy { rules, selector, is_broken: true, ..self.policy(object, dry_run, places, provider) }
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

    fn places(&self, object: &AuthorizationPolicy) -> Vec<Place> {
        match object.extent {
            Extent::Mesh => return vec![Place::Unknown(self.mesh.root_namespace.as_str().into())],
            Extent::Namespace => return vec![Place::Unknown(object.metadata.namespace.as_str().into())],
            Extent::Written => {}
        }
        if object.targets().next().is_none() {
            return vec![Place::Namespace(object.metadata.namespace.as_str().into())];
        }
        let found = object.targets().filter_map(|target| Place::of(target, &object.metadata, &self.mesh));
        let mut found: Vec<_> = found.collect();
        found.sort();
        found.dedup();
        found
    }

    fn provider(&self, object: &AuthorizationPolicy) -> Option<Provider> {
        if object.action != Action::Custom {
            return None;
        }
        let name = object.provider.as_ref().map_or("", |provider| provider.name.as_str());
        let provider = Provider { name: name.into(), settings: self.mesh.providers.get(name).copied() };
        let is_unusable =
            self.semantics == Semantics::Strict && self.point == Point::Stream && asks_by_http(&provider);
        Some(if is_unusable { Provider { settings: None, ..provider } } else { provider })
    }
}

/// Such a provider cannot be asked about streams.
fn asks_by_http(provider: &Provider) -> bool {
    provider.settings.is_some_and(|settings| settings.protocol == ProviderProtocol::Http)
}
