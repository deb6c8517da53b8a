//! AuthorizationPolicy to the layer 4 form.

use super::NodeSettings;
use crate::{
    Action, Clause, Match, Policy, Rule, Scope, Semantics, ServiceAccountMatch, StringMatch,
    object::{self, AuthorizationPolicy, Condition, Extent, Operation, Source},
    waypoint::{
        Attribute, has_inner_wildcard,
        text::{port, range, text},
    },
};

pub(super) fn convert(object: &AuthorizationPolicy, settings: &NodeSettings) -> Policy {
    let scope = match object.extent {
        Extent::Mesh => Scope::Global,
        Extent::Written if object.selector.is_some() => Scope::WorkloadSelector,
        _ if object.metadata.namespace == settings.root_namespace => Scope::Global,
        Extent::Namespace | Extent::Written => Scope::Namespace,
    };
    let action = if object.action == object::Action::Deny { Action::Deny } else { Action::Allow };
    let convert = Convert { namespace: &object.metadata.namespace, action, semantics: settings.semantics };
    Policy {
        name: object.metadata.policy_name(),
        scope,
        action,
        dry_run: object.is_dry_run(),
        rules: object.rules.iter().filter_map(|rule| convert.rule(rule)).collect(),
    }
}

struct Convert<'a> {
    namespace: &'a str,
    action: Action,
    semantics: Semantics,
}

/// An alternative of a clause in the making.
struct Alternative {
    found: Match,
    /// Something of it cannot be seen at layer 4, or not be used.
    unseen: bool,
}

impl Convert<'_> {
    /// Nothing for a rule that can never match: an ALLOW that depends on what cannot be seen.
    fn rule(&self, rule: &object::Rule) -> Option<Rule> {
        let mut clauses = Vec::new();
        let to = rule.to.iter().map(|operation| self.operation(operation)).collect();
        let from = rule.from.iter().map(|source| self.source(source)).collect();
        self.clause(to, &mut clauses)?;
        self.clause(from, &mut clauses)?;
        for condition in &rule.when {
            self.clause(vec![self.condition(condition)], &mut clauses)?;
        }
        Some(Rule { clauses })
    }

    /// Adds a clause, if it restricts. Nothing if the rule cannot match.
    fn clause(&self, alternatives: Vec<Alternative>, clauses: &mut Vec<Clause>) -> Option<()> {
        if alternatives.is_empty() {
            return Some(());
        }
        let unseen = |one: &Alternative| one.unseen;
        match (self.semantics, self.action) {
            // Even if another alternative could be seen: as where streams are enforced.
            (_, Action::Allow) if alternatives.iter().any(unseen) => return None,
            // An alternative of which nothing is left matches, and with it the clause.
            (Semantics::Strict, Action::Deny)
                if alternatives.iter().any(|one| one.unseen && one.found.is_empty()) => {}
            _ => clauses.push(Clause { matches: alternatives.into_iter().map(|one| one.found).collect() }),
        }
        Some(())
    }

    fn operation(&self, operation: &Operation) -> Alternative {
        let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } =
            operation;
        let mut found = Match::default();
        let mut unseen =
            [hosts, not_hosts, methods, not_methods, paths, not_paths].iter().any(|field| !field.is_empty());
        unseen |= self.positive(ports, port, &mut found.destination_ports);
        unseen |= self.negative(not_ports, port, &mut found.not_destination_ports);
        Alternative { found, unseen }
    }

    fn source(&self, source: &Source) -> Alternative {
        let mut found = Match::default();
        let http = [
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &source.request_principals,
            &source.not_request_principals,
        ];
        let mut unseen = http.iter().any(|field| !field.is_empty());
        found.principals = all(&source.principals, text);
        found.not_principals = all(&source.not_principals, text);
        unseen |= self.namespaces(&source.namespaces, &source.not_namespaces, &mut found);
        found.service_accounts = all(&source.service_accounts, |text| self.account(text));
        found.not_service_accounts = all(&source.not_service_accounts, |text| self.account(text));
        unseen |= self.positive(&source.ip_blocks, range, &mut found.source_ips);
        unseen |= self.negative(&source.not_ip_blocks, range, &mut found.not_source_ips);
        unseen |= self.trust_domains(&source.trust_domains, &source.not_trust_domains, &mut found);
        Alternative { found, unseen }
    }

    fn condition(&self, condition: &Condition) -> Alternative {
        let Condition { key, values, not_values } = condition;
        let mut found = Match::default();
        let unseen = match Attribute::parse(key) {
            Ok(Attribute::DestinationIp) => {
                self.positive(values, range, &mut found.destination_ips)
                    | self.negative(not_values, range, &mut found.not_destination_ips)
            }
            Ok(Attribute::DestinationPort) => {
                self.positive(values, port, &mut found.destination_ports)
                    | self.negative(not_values, port, &mut found.not_destination_ports)
            }
            Ok(Attribute::SourceIp) => {
                self.positive(values, range, &mut found.source_ips)
                    | self.negative(not_values, range, &mut found.not_source_ips)
            }
            Ok(Attribute::Namespace) => self.namespaces(values, not_values, &mut found),
            Ok(Attribute::Principal) => {
                (found.principals, found.not_principals) = (all(values, text), all(not_values, text));
                false
            }
            // Istio takes these for attributes of HTTP.
            Ok(Attribute::ServiceAccount) if self.semantics == Semantics::Strict => {
                found.service_accounts = all(values, |text| self.account(text));
                found.not_service_accounts = all(not_values, |text| self.account(text));
                false
            }
            Ok(Attribute::TrustDomain) if self.semantics == Semantics::Strict => {
                self.trust_domains(values, not_values, &mut found)
            }
            _ => true,
        };
        Alternative { found, unseen }
    }

    /// Adds what can be said of values of which one has to match. If one cannot be said, none is, in the strict
    /// reading: without it the others would match less than all do. Then true.
    fn positive<T>(&self, values: &[String], parse: impl Fn(&str) -> Option<T>, into: &mut Vec<T>) -> bool {
        let before = into.len();
        into.extend(values.iter().filter_map(|text| parse(text)));
        let is_whole = into.len() - before == values.len();
        if is_whole || self.semantics == Semantics::Istio {
            return false;
        }
        into.truncate(before);
        true
    }

    /// Adds what can be said of values of which none may match; true if one cannot be said and that matters. Without
    /// it the others match more, which a DENY may.
    fn negative<T>(&self, values: &[String], parse: impl Fn(&str) -> Option<T>, into: &mut Vec<T>) -> bool {
        let before = into.len();
        into.extend(values.iter().filter_map(|text| parse(text)));
        into.len() - before != values.len() && self.semantics == Semantics::Strict
    }

    /// Waypoints take every `*` in a namespace for a wildcard, the form has them at an end only.
    fn namespaces(&self, values: &[String], not_values: &[String], found: &mut Match) -> bool {
        let pattern = |value: &str| {
            (self.semantics == Semantics::Istio || !has_inner_wildcard(value)).then(|| text(value))
        };
        self.positive(values, pattern, &mut found.namespaces)
            | self.negative(not_values, pattern, &mut found.not_namespaces)
    }

    /// Istio leaves trust domains out without a word, so that what else the source says decides. The form knows
    /// them only as the beginning of principals; true if that does not say it.
    fn trust_domains(&self, values: &[String], not_values: &[String], found: &mut Match) -> bool {
        if self.semantics == Semantics::Istio {
            return false;
        }
        let mut unseen = !values.is_empty() && !found.principals.is_empty();
        if !unseen {
            unseen |= self.positive(values, trust_domain, &mut found.principals);
        }
        unseen | self.negative(not_values, trust_domain, &mut found.not_principals)
    }

    fn account(&self, text: &str) -> ServiceAccountMatch {
        let (namespace, name) = text.split_once('/').unwrap_or((self.namespace, text));
        ServiceAccountMatch { namespace: namespace.into(), name: name.into() }
    }
}

fn all<T>(values: &[String], read: impl Fn(&str) -> T) -> Vec<T> {
    values.iter().map(|text| read(text)).collect()
}

/// Principals of a trust domain. Those of all that end alike, or have a wildcard within, cannot be said.
fn trust_domain(value: &str) -> Option<StringMatch> {
    match text(value) {
        _ if has_inner_wildcard(value) => None,
        StringMatch::Exact(exact) => Some(StringMatch::Prefix(format!("{exact}/").into())),
        StringMatch::Prefix(prefix) => Some(StringMatch::Prefix(prefix)),
        StringMatch::Presence => Some(StringMatch::Presence),
        StringMatch::Suffix(_) => None,
    }
}
