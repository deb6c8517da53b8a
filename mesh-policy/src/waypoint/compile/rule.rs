//! From a rule to the clauses that it consists of.

use super::{
    Compiler, Point,
    text::{path_match, port, range, text, with_aliases},
};
use crate::{
    Semantics,
    object::{Action, Operation, Rule, Source},
    waypoint::{
        attribute::{Attribute, KeyError},
        condition::{Condition, Values},
        policy::{Alternative, Clause, DroppedRule, RulePart},
        value::{Account, Glob, KeptHost, RequestPrincipal},
    },
};

/// A field of a source or an operation: what it is about, its values and those of its negation.
type Field<'a> = (Attribute, &'a [String], &'a [String]);

/// What the rules of a policy have in common.
pub(super) struct RuleContext<'a> {
    pub(super) compiler: &'a Compiler,
    pub(super) action: Action,
    pub(super) namespace: &'a str,
}

impl RuleContext<'_> {
    pub(super) fn rule(&self, rule: &Rule) -> Result<Box<[Clause]>, DroppedRule> {
        let mut clauses = Vec::new();
        let from = rule.from.iter().map(|source| self.source(source)).collect::<Result<Box<_>, _>>()?;
        if !from.is_empty() {
            clauses.push(Clause { part: RulePart::From, alternatives: from });
        }
        let to = rule.to.iter().map(|operation| self.operation(operation)).collect::<Result<Box<_>, _>>()?;
        if !to.is_empty() {
            clauses.push(Clause { part: RulePart::To, alternatives: to });
        }
        // An unknown key is looked for first: it takes out the rule, whatever else is in it.
        let attributes: Vec<_> = rule.when.iter().map(|condition| Attribute::parse(&condition.key)).collect();
        if attributes.contains(&Err(KeyError::Unknown)) {
            return Err(DroppedRule::UnknownKey);
        }
        for (index, (condition, attribute)) in rule.when.iter().zip(attributes).enumerate() {
            if condition.values.is_empty() && condition.not_values.is_empty() {
                continue;
            }
            let Ok(attribute) = attribute else {
                self.unusable()?;
                continue;
            };
            let mut conditions = Vec::new();
            self.field(&mut conditions, attribute.clone(), false, &condition.values)?;
            self.field(&mut conditions, attribute, true, &condition.not_values)?;
            let alternatives = Box::new([Alternative { conditions: conditions.into() }]);
            clauses.push(Clause { part: RulePart::When(index), alternatives });
        }
        Ok(clauses.into())
    }

    fn source(&self, source: &Source) -> Result<Alternative, DroppedRule> {
        self.alternative([
            (Attribute::Principal, &source.principals, &source.not_principals),
            (Attribute::ServiceAccount, &source.service_accounts, &source.not_service_accounts),
            (Attribute::Namespace, &source.namespaces, &source.not_namespaces),
            (Attribute::TrustDomain, &source.trust_domains, &source.not_trust_domains),
            (Attribute::SourceIp, &source.ip_blocks, &source.not_ip_blocks),
            (Attribute::RemoteIp, &source.remote_ip_blocks, &source.not_remote_ip_blocks),
            (Attribute::RequestPrincipal, &source.request_principals, &source.not_request_principals),
        ])
    }

    fn operation(&self, operation: &Operation) -> Result<Alternative, DroppedRule> {
        self.alternative([
            (Attribute::DestinationPort, &operation.ports, &operation.not_ports),
            (Attribute::Method, &operation.methods, &operation.not_methods),
            (Attribute::Path, &operation.paths, &operation.not_paths),
            (Attribute::Host, &operation.hosts, &operation.not_hosts),
        ])
    }

    fn alternative<const N: usize>(&self, fields: [Field<'_>; N]) -> Result<Alternative, DroppedRule> {
        let mut conditions = Vec::new();
        for (attribute, values, not_values) in fields {
            self.field(&mut conditions, attribute.clone(), false, values)?;
            self.field(&mut conditions, attribute, true, not_values)?;
        }
        Ok(Alternative { conditions: conditions.into() })
    }

    /// Adds what a field restricts, if it does.
    fn field(
        &self,
        conditions: &mut Vec<Condition>,
        attribute: Attribute,
        negated: bool,
        values: &[String],
    ) -> Result<(), DroppedRule> {
        if values.is_empty() {
            return Ok(());
        }
        let values = self.values(&attribute, negated, values)?;
        if self.compiler.point == Point::Stream && attribute.is_of_requests() {
            // What a stream does not have cannot allow it, and does not keep the rest from denying it.
            return match self.action {
                Action::Allow => Err(DroppedRule::Unseen),
                Action::Audit | Action::Custom | Action::Deny => Ok(()),
            };
        }
        if !values.is_empty() {
            let holds_unseen = self.action != Action::Allow;
            conditions.push(Condition { attribute, negated, values, holds_unseen });
        }
        Ok(())
    }

    fn values(&self, attribute: &Attribute, negated: bool, values: &[String]) -> Result<Values, DroppedRule> {
        let domains = || self.compiler.mesh.trust_domains();
        Ok(match attribute {
            Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => {
                Values::Ranges(self.usable(values, range)?)
            }
            Attribute::DestinationPort => Values::Ports(self.usable(values, port)?),
            Attribute::Metadata { .. } => Values::Metadata(all(values, |value| {
                let list = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                [match list {
                    Some(_) => (text(value.trim_matches(['[', ']'])), true),
                    None => (text(value), false),
                }]
            })),
            Attribute::Namespace => Values::Globs(all(values, |value| [Glob::new(value)])),
            Attribute::Path => Values::Paths(self.usable(values, path_match)?),
            Attribute::Principal => Values::Texts(all(values, |value| {
                with_aliases(value, domains).into_iter().map(|value| text(&value))
            })),
            Attribute::RequestPrincipal => {
                Values::RequestPrincipals(all(values, |value| [RequestPrincipal::new(value)]))
            }
            Attribute::ServiceAccount => {
                Values::Accounts(all(values, |value| [Account::new(value, self.namespace)]))
            }
            Attribute::TrustDomain => Values::Globs(all(values, |value| {
                let is_own = domains().any(|domain| domain == value);
                if is_own { domains().map(Glob::new).collect() } else { vec![Glob::new(value)] }
            })),
            // Whoever is not matched passes: by a value of a DENY, or one that an ALLOW excludes.
            Attribute::Host
                if self.compiler.semantics == Semantics::Strict
                    && (self.action == Action::Allow) == negated =>
            {
                Values::Hosts(all(values, |value| [KeptHost::new(text(&value.to_ascii_lowercase()))]))
            }
            Attribute::Host => Values::Texts(all(values, |value| [text(&value.to_ascii_lowercase())])),
            // Names reach this in lower case: a value in another never fits, by Istio's reading.
            Attribute::Sni => Values::Texts(all(values, |value| {
                [match self.compiler.semantics {
                    Semantics::Istio => text(value),
                    Semantics::Strict => text(&value.to_ascii_lowercase()),
                }]
            })),
            Attribute::Audience
            | Attribute::Claim(_)
            | Attribute::Header(_)
            | Attribute::Method
            | Attribute::Presenter => Values::Texts(all(values, |value| [text(value)])),
        })
    }

    /// The values that can be used. One that cannot takes the rule out of an ALLOW; elsewhere it only counts
    /// for nothing.
    fn usable<T>(
        &self,
        values: &[String],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Box<[T]>, DroppedRule> {
        let mut usable = Vec::with_capacity(values.len());
        for value in values {
            match parse(value) {
                Some(parsed) => usable.push(parsed),
                None => self.unusable()?,
            }
        }
        Ok(usable.into())
    }

    /// Only by Istio's reading is there anything that cannot be used: strict semantics refuse it before.
    fn unusable(&self) -> Result<(), DroppedRule> {
        match self.action {
            Action::Allow => Err(DroppedRule::UnusableValue),
            Action::Audit | Action::Custom | Action::Deny => Ok(()),
        }
    }
}

fn all<T, I: IntoIterator<Item = T>>(values: &[String], read: impl Fn(&str) -> I) -> Box<[T]> {
    values.iter().flat_map(|value| read(value)).collect()
}
