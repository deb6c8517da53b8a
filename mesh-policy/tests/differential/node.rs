//! What objects mean at a node proxy, read once more from their texts: by part A6 of the facts, and by the strict rule.

use mesh_policy::{
    PolicyName, Semantics,
    object::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source},
};

use super::{
    call::{Call, Place},
    naive::{Outcome, in_range, is_dry_run, regex, string},
};

/// A node proxy that serves the workload of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) semantics: Semantics,
    pub(crate) root_namespace: &'a str,
}

/// What a node proxy sees of one alternative of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// All of it, or of a DENY what is left without the rest.
    Holds(bool),
    /// Nothing that restricts is left.
    Nothing,
    /// An ALLOW depends on what is not seen.
    Unseen,
}

impl Node<'_> {
    pub(crate) fn decide(self, objects: &[AuthorizationPolicy], call: &Call) -> Outcome {
        let mut sent: Vec<_> = objects.iter().filter(|object| self.applies(object, call)).collect();
        sent.sort_by_key(|object| object.metadata.policy_name());
        let first = |action: Action| -> Option<(PolicyName, usize)> {
            let mut of_action = sent.iter().filter(|object| object.action == action);
            of_action.find_map(|object| {
                // Rules that cannot match are left out, and the others count without them.
                let kept = object.rules.iter().filter_map(|rule| self.rule(object, rule, call));
                Some((object.metadata.policy_name(), kept.into_iter().position(|holds| holds)?))
            })
        };
        if let Some((policy, rule)) = first(Action::Deny) {
            return Outcome::DeniedBy(policy, rule);
        }
        if let Some((policy, rule)) = first(Action::Allow) {
            return Outcome::AllowedBy(policy, rule);
        }
        match sent.iter().any(|object| object.action == Action::Allow) {
            true => Outcome::NoneAllowed,
            false => Outcome::NoAllowPolicies,
        }
    }

    /// Whether node proxies get the policy, enforce it, and the workload of the call is selected.
    fn applies(self, object: &AuthorizationPolicy, call: &Call) -> bool {
        let Place::Workload { namespace, labels } = &call.place else { return false };
        let own = &object.metadata.namespace;
        let selected = match &object.selector {
            None => true,
            Some(_) if labels.is_empty() && self.semantics == Semantics::Istio => true,
            Some(selector) => {
                let mut wanted = selector.match_labels.iter();
                !selector.match_labels.is_empty()
                    && wanted.all(|(key, value)| labels.iter().any(|(k, v)| k == key && v == value))
            }
        };
        object.targets().next().is_none()
            && matches!(object.action, Action::Allow | Action::Deny)
            && !is_dry_run(object)
            && (own == namespace || own == self.root_namespace)
            && selected
    }

    /// Nothing if the rule is left out.
    fn rule(self, object: &AuthorizationPolicy, rule: &Rule, call: &Call) -> Option<bool> {
        let namespace = object.metadata.namespace.as_str();
        let to: Vec<_> = rule.to.iter().map(|one| self.operation(object.action, one, call)).collect();
        let from: Vec<_> =
            rule.from.iter().map(|one| self.source(object.action, namespace, one, call)).collect();
        let when = rule.when.iter().map(|one| vec![self.condition(object.action, namespace, one, call)]);
        let mut holds = true;
        for alternatives in [to, from].into_iter().chain(when).filter(|all| !all.is_empty()) {
            let any_unseen = alternatives.contains(&Seen::Unseen);
            holds &= match (self.semantics, object.action) {
                (_, Action::Allow) if any_unseen => return None,
                // Istio's empty match matches nothing; strictly, what is left of a DENY is everything.
                (Semantics::Strict, Action::Deny) if alternatives.contains(&Seen::Nothing) => true,
                _ => alternatives.contains(&Seen::Holds(true)),
            };
        }
        Some(holds)
    }

    fn operation(self, action: Action, operation: &Operation, call: &Call) -> Seen {
        let Operation { hosts, not_hosts, methods, not_methods, paths, not_paths, .. } = operation;
        let mut fields = Fields::new(self, action);
        fields.unseen([hosts, not_hosts, methods, not_methods, paths, not_paths]);
        fields.field(&operation.ports, &operation.not_ports, |value| port(value, call));
        fields.seen()
    }

    fn source(self, action: Action, namespace: &str, source: &Source, call: &Call) -> Seen {
        let mut fields = Fields::new(self, action);
        fields.unseen([
            &source.request_principals,
            &source.not_request_principals,
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
        ]);
        fields.field(&source.principals, &source.not_principals, |value| Some(principal(value, call)));
        fields.field(&source.namespaces, &source.not_namespaces, |value| self.namespace(value, call));
        fields.field(&source.service_accounts, &source.not_service_accounts, |value| {
            Some(account(value, namespace, call))
        });
        fields.field(&source.ip_blocks, &source.not_ip_blocks, |value| in_range(call.source, value).ok());
        if self.semantics == Semantics::Strict {
            // The form has room for one list of principals.
            if !source.principals.is_empty() && !source.trust_domains.is_empty() {
                fields.unseen([&source.trust_domains]);
                fields.field(&[], &source.not_trust_domains, |value| trust_domain(value, call));
            } else {
                fields.field(&source.trust_domains, &source.not_trust_domains, |value| {
                    trust_domain(value, call)
                });
            }
        }
        fields.seen()
    }

    fn condition(self, action: Action, namespace: &str, condition: &Condition, call: &Call) -> Seen {
        let Condition { key, values, not_values } = condition;
        let mut fields = Fields::new(self, action);
        let is_strict = self.semantics == Semantics::Strict;
        match key.as_str() {
            "destination.ip" => {
                fields.field(values, not_values, |value| in_range(call.destination.ip(), value).ok());
            }
            "destination.port" => fields.field(values, not_values, |value| port(value, call)),
            "source.ip" => fields.field(values, not_values, |value| in_range(call.source, value).ok()),
            "source.namespace" => fields.field(values, not_values, |value| self.namespace(value, call)),
            "source.principal" => fields.field(values, not_values, |value| Some(principal(value, call))),
            "source.serviceAccount" if is_strict => {
                fields.field(values, not_values, |value| Some(account(value, namespace, call)));
            }
            "source.trustDomain" if is_strict => {
                fields.field(values, not_values, |value| trust_domain(value, call));
            }
            _ => fields.is_unseen = true,
        }
        fields.seen()
    }

    fn namespace(self, value: &str, call: &Call) -> Option<bool> {
        let inner =
            value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value).contains('*');
        if inner && self.semantics == Semantics::Strict {
            return None;
        }
        Some(string(value, identity(call).map_or("", |[_, namespace, _]| namespace)))
    }
}

/// The fields of one alternative, as far as they have been looked at.
struct Fields<'a> {
    node: Node<'a>,
    action: Action,
    is_unseen: bool,
    restricts: bool,
    holds: bool,
}

impl<'a> Fields<'a> {
    fn new(node: Node<'a>, action: Action) -> Self {
        Self { node, action, is_unseen: false, restricts: false, holds: true }
    }

    fn unseen<'v>(&mut self, fields: impl IntoIterator<Item = &'v Vec<String>>) {
        self.is_unseen |= fields.into_iter().any(|values| !values.is_empty());
    }

    /// `fits` says nothing of a value that cannot be used or said.
    fn field(&mut self, values: &[String], not_values: &[String], fits: impl Fn(&str) -> Option<bool>) {
        for (values, negated) in [(values, false), (not_values, true)] {
            let told: Vec<_> = values.iter().filter_map(|value| fits(value)).collect();
            let is_whole = told.len() == values.len();
            if self.node.semantics == Semantics::Strict && !is_whole {
                self.is_unseen = true;
                // What remains of a positive list would match less than all of it.
                if !negated {
                    continue;
                }
            }
            if !told.is_empty() {
                self.restricts = true;
                self.holds &= told.contains(&true) != negated;
            }
        }
    }

    fn seen(self) -> Seen {
        match (self.action, self.node.semantics) {
            (Action::Allow, _) if self.is_unseen => Seen::Unseen,
            _ if self.restricts => Seen::Holds(self.holds),
            (Action::Deny, Semantics::Strict) if self.is_unseen => Seen::Nothing,
            // A match without fields.
            _ => Seen::Holds(false),
        }
    }
}

/// Trust domain, namespace and account of a peer of Istio's form.
fn identity(call: &Call) -> Option<[&str; 3]> {
    let uri = call.peer.as_deref()?;
    regex("^spiffe://[^/]+/ns/[^/]+/sa/[^/]+$").is_match(uri).then(|| {
        let parts: Vec<_> = uri.split('/').collect();
        [parts[2], parts[4], parts[6]]
    })
}

fn principal(value: &str, call: &Call) -> bool {
    identity(call).is_some_and(|[domain, namespace, account]| {
        string(value, &format!("{domain}/ns/{namespace}/sa/{account}"))
    })
}

fn account(value: &str, own: &str, call: &Call) -> bool {
    let (namespace, name) = value.split_once('/').unwrap_or((own, value));
    identity(call).is_some_and(|[_, peers, account]| peers == namespace && account == name)
}

/// Nothing where principals cannot say it: a wildcard anywhere but at the end.
fn trust_domain(value: &str, call: &Call) -> Option<bool> {
    let before = value.strip_suffix('*').unwrap_or(value);
    if before.contains('*') {
        return None;
    }
    Some(identity(call).is_some_and(|[domain, ..]| match value.ends_with('*') {
        true => domain.starts_with(before),
        false => domain == value,
    }))
}

fn port(value: &str, call: &Call) -> Option<bool> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = Some(value).filter(|_| digits)?.parse().ok()?;
    Some(port == call.destination.port())
}
