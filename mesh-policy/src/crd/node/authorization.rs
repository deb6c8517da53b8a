//! AuthorizationPolicy to the layer 4 form.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NodeSettings;
use crate::{
    Action, Clause, Match, Policy, Rule, Scope, Semantics, ServiceAccountMatch, StringMatch,
    check::{is_port, key::Key},
    object::{self, AuthorizationPolicy, Condition, Operation, Source},
};

pub(super) fn convert(object: &AuthorizationPolicy, settings: &NodeSettings) -> Policy {
    let scope = match &object.selector {
        Some(_) => Scope::WorkloadSelector,
        None if object.metadata.namespace == settings.root_namespace => Scope::Global,
        None => Scope::Namespace,
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
            (Semantics::Istio, Action::Allow) if alternatives.iter().any(unseen) => return None,
            // Each alternative stands for itself: one that cannot be seen does not match, the others may.
            (Semantics::Strict, Action::Allow) => {
                let seen: Vec<_> =
                    alternatives.into_iter().filter(|one| !one.unseen).map(|one| one.found).collect();
                if seen.is_empty() {
                    return None;
                }
                clauses.push(Clause { matches: seen });
            }
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
        unseen |= self.parse(ports, port, &mut found.destination_ports);
        unseen |= self.parse(not_ports, port, &mut found.not_destination_ports);
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
        found.principals = strings(&source.principals);
        found.not_principals = strings(&source.not_principals);
        found.namespaces = strings(&source.namespaces);
        found.not_namespaces = strings(&source.not_namespaces);
        unseen |=
            self.parse(&source.service_accounts, |text| self.account(text), &mut found.service_accounts);
        unseen |= self.parse(
            &source.not_service_accounts,
            |text| self.account(text),
            &mut found.not_service_accounts,
        );
        unseen |= self.parse(&source.ip_blocks, range, &mut found.source_ips);
        unseen |= self.parse(&source.not_ip_blocks, range, &mut found.not_source_ips);
        unseen |= self.trust_domains(&source.trust_domains, &source.not_trust_domains, &mut found);
        Alternative { found, unseen }
    }

    fn condition(&self, condition: &Condition) -> Alternative {
        let Condition { key, values, not_values } = condition;
        let key = Key::parse(key);
        let mut found = Match::default();
        let unseen = match key {
            Some(Key::DestinationIp) => {
                self.parse(values, range, &mut found.destination_ips)
                    | self.parse(not_values, range, &mut found.not_destination_ips)
            }
            Some(Key::DestinationPort) => {
                self.parse(values, port, &mut found.destination_ports)
                    | self.parse(not_values, port, &mut found.not_destination_ports)
            }
            Some(Key::SourceIp) => {
                self.parse(values, range, &mut found.source_ips)
                    | self.parse(not_values, range, &mut found.not_source_ips)
            }
            Some(Key::SourceNamespace) => {
                (found.namespaces, found.not_namespaces) = (strings(values), strings(not_values));
                false
            }
            Some(Key::SourcePrincipal) => {
                (found.principals, found.not_principals) = (strings(values), strings(not_values));
                false
            }
            // Istio takes these for attributes of HTTP.
            Some(Key::SourceServiceAccount) if self.semantics == Semantics::Strict => {
                self.parse(values, |text| self.account(text), &mut found.service_accounts)
                    | self.parse(not_values, |text| self.account(text), &mut found.not_service_accounts)
            }
            Some(Key::SourceTrustDomain) if self.semantics == Semantics::Strict => {
                self.trust_domains(values, not_values, &mut found)
            }
            _ => true,
        };
        Alternative { found, unseen }
    }

    /// Adds what can be used of the values; true if one cannot and that matters.
    fn parse<T>(&self, values: &[String], parse: impl Fn(&str) -> Option<T>, into: &mut Vec<T>) -> bool {
        let before = into.len();
        into.extend(values.iter().filter_map(|text| parse(text)));
        into.len() - before != values.len() && self.semantics == Semantics::Strict
    }

    /// Istio leaves trust domains out without a word, so that what else the source says decides. The form knows
    /// them only as the beginning of principals; true if that does not say it.
    fn trust_domains(&self, values: &[String], not_values: &[String], found: &mut Match) -> bool {
        if self.semantics == Semantics::Istio {
            return false;
        }
        let mut unseen = !values.is_empty() && !found.principals.is_empty();
        if !unseen {
            unseen |= self.parse(values, trust_domain, &mut found.principals);
        }
        let mut negated = Vec::new();
        unseen |= self.parse(not_values, trust_domain, &mut negated);
        found.not_principals.extend(negated);
        unseen
    }

    fn account(&self, text: &str) -> Option<ServiceAccountMatch> {
        let (namespace, name) = text.split_once('/').unwrap_or((self.namespace, text));
        let usable = self.semantics == Semantics::Istio || !(text.contains('*') || name.contains('/'));
        usable.then(|| ServiceAccountMatch { namespace: namespace.into(), name: name.into() })
    }
}

fn strings(values: &[String]) -> Vec<StringMatch> {
    values.iter().map(|text| string(text)).collect()
}

/// The first star counts: `*x*` is any text that ends in `x*`.
fn string(text: &str) -> StringMatch {
    if text == "*" {
        return StringMatch::Presence;
    }
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (None, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        (None, None) => StringMatch::Exact(text.into()),
    }
}

fn port(text: &str) -> Option<u16> {
    is_port(text).then(|| text.parse().ok())?
}

fn range(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Principals of a trust domain. Those of all that end alike cannot be said.
fn trust_domain(text: &str) -> Option<StringMatch> {
    match string(text) {
        StringMatch::Exact(exact) => Some(StringMatch::Prefix(format!("{exact}/").into())),
        StringMatch::Prefix(prefix) => Some(StringMatch::Prefix(prefix)),
        StringMatch::Presence => Some(StringMatch::Presence),
        StringMatch::Suffix(_) => None,
    }
}
