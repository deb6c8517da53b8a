//! The boolean algebra of rules: any rule, all clauses, any match, all fields.

use crate::{
    Clause, Expected, Field, Match, MatchMiss, Mismatch, Policy, Rule, ServiceAccountMatch, StringMatch,
    attributes::{Attributes, Identity},
};

impl Policy {
    /// The first rule that matches.
    pub(crate) fn matching_rule(&self, attributes: &Attributes<'_>) -> Option<usize> {
        self.rules.iter().position(|rule| rule.matches(attributes))
    }
}

impl Rule {
    pub(crate) fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(attributes))
    }
}

impl Clause {
    pub(crate) fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.miss(attributes).is_none())
    }
}

impl Match {
    /// Why this does not match, or nothing if it does. Explanations and decisions ask the same question.
    pub(crate) fn miss<'a>(&'a self, attributes: &Attributes<'a>) -> Option<MatchMiss<'a>> {
        let Attributes { source, destination, destination_port, identity } = *attributes;
        let namespace = attributes.namespace();
        // Cheap comparisons first.
        let missing =
            check(Field::DestinationPort, &self.destination_ports, &self.not_destination_ports, |port| {
                *port == destination_port
            })
            .or_else(|| {
                check(Field::DestinationIp, &self.destination_ips, &self.not_destination_ips, |range| {
                    range.contains(&destination)
                })
            })
            .or_else(|| {
                check(Field::SourceIp, &self.source_ips, &self.not_source_ips, |range| {
                    range.contains(&source)
                })
            })
            .or_else(|| {
                check(Field::Namespace, &self.namespaces, &self.not_namespaces, |pattern| {
                    pattern.matches(namespace)
                })
            })
            .or_else(|| {
                check(Field::ServiceAccount, &self.service_accounts, &self.not_service_accounts, |account| {
                    has_service_account(identity, account)
                })
            })
            .or_else(|| {
                check(Field::Principal, &self.principals, &self.not_principals, |pattern| {
                    has_principal(identity, pattern)
                })
            });
        match missing {
            Some((field, negated, expected)) => {
                let actual = attributes.value(field);
                Some(MatchMiss::Field(Mismatch { field, negated, expected, actual }))
            }
            None => self.is_empty().then_some(MatchMiss::Empty),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            namespaces,
            not_namespaces,
            principals,
            not_principals,
            service_accounts,
            not_service_accounts,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
        } = self;
        [namespaces, not_namespaces, principals, not_principals].iter().all(|all| all.is_empty())
            && [service_accounts, not_service_accounts].iter().all(|all| all.is_empty())
            && [source_ips, not_source_ips, destination_ips, not_destination_ips]
                .iter()
                .all(|all| all.is_empty())
            && [destination_ports, not_destination_ports].iter().all(|all| all.is_empty())
    }
}

/// Whether the field or its negation misses, and against which values.
fn check<'a, T>(
    field: Field,
    values: &'a [T],
    not_values: &'a [T],
    fits: impl Fn(&T) -> bool,
) -> Option<(Field, bool, Expected<'a>)>
where
    Expected<'a>: From<&'a [T]>,
{
    if !values.is_empty() && !values.iter().any(&fits) {
        return Some((field, false, values.into()));
    }
    not_values.iter().any(fits).then(|| (field, true, not_values.into()))
}

fn has_service_account(identity: Option<Identity<'_>>, account: &ServiceAccountMatch) -> bool {
    identity.is_some_and(|id| id.namespace == &*account.namespace && id.service_account == &*account.name)
}

fn has_principal(identity: Option<Identity<'_>>, pattern: &StringMatch) -> bool {
    identity.is_some_and(|id| pattern.matches(id.principal))
}
