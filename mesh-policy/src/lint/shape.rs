//! What rules amount to.

use super::{About, subsume};
use crate::{
    Code,
    finding::{Path, Report},
    object::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source},
};

pub(super) fn check(about: About<'_>, report: &mut Report<'_>) {
    let policy = about.policy;
    if policy.rules.is_empty() && policy.action == Action::Allow {
        report.add(Code::AllowsNothing, Path::Root.field("spec"));
    }
    about.for_each_rule(|rule, path| {
        if *rule == Rule::default() {
            return report.add(Code::MatchesEverything, path);
        }
        if policy.action == Action::Allow {
            check_negative(rule, path, report);
        }
        check_contradictions(rule, path, report);
        if !narrows(rule) {
            report.add(Code::DefeatsIndex, path);
        }
    });
    check_shadows(about, report);
}

/// An ALLOW that excludes some and asks nothing of the others.
fn check_negative(rule: &Rule, path: Path<'_>, report: &mut Report<'_>) {
    let keys = |wanted: &[&str], values: fn(&Condition) -> &[String]| {
        rule.when
            .iter()
            .any(|condition| wanted.contains(&condition.key.as_str()) && !values(condition).is_empty())
    };
    let positive: fn(&Condition) -> &[String] = |condition| &condition.values;
    let negative: fn(&Condition) -> &[String] = |condition| &condition.not_values;
    let (asks_identity, asks_token) = (keys(IDENTITY, positive), keys(TOKEN, positive));
    if keys(IDENTITY, negative) && !asks_identity && !rule.from.iter().any(names_identity) {
        report.add(Code::NegativeOnly, path.field("when"));
    }
    if keys(TOKEN, negative)
        && !asks_token
        && !rule.from.iter().any(|source| !source.request_principals.is_empty())
    {
        report.add(Code::NegativeOnlyToken, path.field("when"));
    }
    let from = path.field("from");
    for (index, source) in rule.from.iter().enumerate() {
        let path = from.index(index);
        let path = path.field("source");
        let Source { not_principals, not_namespaces, not_service_accounts, not_trust_domains, .. } = source;
        let excludes = [not_principals, not_namespaces, not_service_accounts, not_trust_domains];
        // A token is asked for instead of an identity: that excludes plaintext without one.
        let asks =
            asks_identity || names_identity(source) || !source.request_principals.is_empty() || asks_token;
        if excludes.iter().any(|all| !all.is_empty()) && !asks {
            report.add(Code::NegativeOnly, path);
        }
        if !source.not_request_principals.is_empty() && source.request_principals.is_empty() && !asks_token {
            report.add(Code::NegativeOnlyToken, path);
        }
    }
}

fn names_identity(source: &Source) -> bool {
    let Source { principals, namespaces, service_accounts, trust_domains, .. } = source;
    [principals, namespaces, service_accounts, trust_domains].iter().any(|all| !all.is_empty())
}

fn check_contradictions(rule: &Rule, path: Path<'_>, report: &mut Report<'_>) {
    let excluded = |values: &[String], not_values: &[String]| {
        let none_left = |value: &String| not_values.iter().any(|not| subsume::covers(not, value));
        !values.is_empty() && values.iter().all(none_left)
    };
    let from = path.field("from");
    for (index, source) in rule.from.iter().enumerate() {
        let path = from.index(index);
        let path = path.field("source");
        for (name, values, not_values) in [
            ("principals", &source.principals, &source.not_principals),
            ("requestPrincipals", &source.request_principals, &source.not_request_principals),
            ("namespaces", &source.namespaces, &source.not_namespaces),
            ("serviceAccounts", &source.service_accounts, &source.not_service_accounts),
            ("trustDomains", &source.trust_domains, &source.not_trust_domains),
            ("ipBlocks", &source.ip_blocks, &source.not_ip_blocks),
            ("remoteIpBlocks", &source.remote_ip_blocks, &source.not_remote_ip_blocks),
        ] {
            if excluded(values, not_values) {
                report.add(Code::Contradiction, path.field(name));
            }
        }
    }
    let to = path.field("to");
    for (index, operation) in rule.to.iter().enumerate() {
        let path = to.index(index);
        let path = path.field("operation");
        for (name, values, not_values) in [
            ("hosts", &operation.hosts, &operation.not_hosts),
            ("ports", &operation.ports, &operation.not_ports),
            ("methods", &operation.methods, &operation.not_methods),
            ("paths", &operation.paths, &operation.not_paths),
        ] {
            if excluded(values, not_values) {
                report.add(Code::Contradiction, path.field(name));
            }
        }
    }
    let when = path.field("when");
    for (index, condition) in rule.when.iter().enumerate() {
        let earlier = rule.when.iter().take(index);
        let mut same = earlier.filter(|other| other.key == condition.key && has_one_value(&other.key));
        let disjoint = same.any(|other| are_disjoint(&other.values, &condition.values));
        if excluded(&condition.values, &condition.not_values) || disjoint {
            report.add(Code::Contradiction, when.index(index));
        }
    }
}

/// Whether a request or connection has at most one value of the attribute.
fn has_one_value(key: &str) -> bool {
    !key.starts_with("request.headers")
        && !key.starts_with("request.auth.")
        && !key.starts_with("experimental.")
}

/// Only exact texts can be told apart for sure; of addresses, ranges may overlap.
fn are_disjoint(some: &[String], others: &[String]) -> bool {
    let exact = |all: &[String]| !all.is_empty() && all.iter().all(|text| !text.contains(['*', '/', '{']));
    exact(some) && exact(others) && !some.iter().any(|text| others.contains(text))
}

/// Whether some part of a rule has values that a connection must have one of.
fn narrows(rule: &Rule) -> bool {
    let has = |fields: &[&Vec<String>]| fields.iter().any(|all| !all.is_empty());
    let source = |source: &Source| {
        let Source {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
            ..
        } = source;
        has(&[
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        ])
    };
    let operation = |operation: &Operation| {
        has(&[&operation.hosts, &operation.ports, &operation.methods, &operation.paths])
    };
    (!rule.from.is_empty() && rule.from.iter().all(source))
        || (!rule.to.is_empty() && rule.to.iter().all(operation))
        || rule.when.iter().any(|condition| !condition.values.is_empty())
}

/// Rules that change nothing because of others with the same target.
fn check_shadows(about: About<'_>, report: &mut Report<'_>) {
    let policy = about.policy;
    if policy.is_dry_run() {
        return;
    }
    let is_same_target = |other: &&AuthorizationPolicy| {
        other.metadata.namespace == policy.metadata.namespace
            && other.selector == policy.selector
            && other.targets().eq(policy.targets())
            && !other.is_dry_run()
    };
    let others: Vec<_> = about.objects.authorization.iter().filter(is_same_target).collect();
    about.for_each_rule(|rule, path| {
        let index = policy.rules.iter().position(|other| std::ptr::eq(other, rule)).unwrap_or(0);
        let shadow = others.iter().filter(|other| other.action == policy.action).find_map(|other| {
            let own = other.metadata == policy.metadata;
            // Of two equal rules the one that comes later is reported.
            let earlier = other.rules.iter().enumerate().filter(|(position, _)| match own {
                true => *position < index,
                false => other.metadata.policy_name() < policy.metadata.policy_name(),
            });
            let found = earlier.into_iter().find(|(_, wide)| subsume::rule(wide, rule))?;
            Some((other.metadata.to_string(), found.0))
        });
        if let Some((name, position)) = shadow.filter(|_| policy.action != Action::Custom) {
            let instead = format!("remove it: rule {position} of {name} is enough");
            report.add_with(Code::Shadowed, path, instead);
        }
        let mut denies =
            others.iter().filter(|other| other.action == Action::Deny && policy.action == Action::Allow);
        let deny = denies.find(|other| other.rules.iter().any(|wide| subsume::rule(wide, rule)));
        if let Some(deny) = deny {
            report.add_with(Code::AlwaysDenied, path, format!("remove it, or narrow {}", deny.metadata));
        }
    });
}

const IDENTITY: &[&str] =
    &["source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"];
const TOKEN: &[&str] = &["request.auth.audiences", "request.auth.presenter", "request.auth.principal"];
