//! From a rule to the clauses that it consists of.

use super::{
    Compiler, Failure, Point, Refusal,
    text::{has_inner_wildcard, has_more_parts, path_match, port, range, text, with_aliases},
};
use crate::{
    Semantics,
    object::{Action, Operation, Problem, Rule, Source},
    waypoint::{
        attribute::Attribute,
        condition::{Condition, Values},
        policy::{Alternative, Clause, DroppedRule, RulePart},
        value::{Account, Glob, RequestPrincipal},
    },
};

/// A field of a source or an operation: what it is about, its name, its values and those of its negation.
type Field<'a> = (Attribute, &'static str, &'a [String], &'a [String]);

/// What the rules of a policy have in common.
pub(super) struct RuleContext<'a> {
    pub(super) compiler: &'a Compiler,
    pub(super) action: Action,
    pub(super) namespace: &'a str,
}

impl RuleContext<'_> {
    pub(super) fn rule(&self, rule: &Rule) -> Result<Box<[Clause]>, Failure> {
        let mut clauses = Vec::new();
        let from = rule.from.iter().enumerate().map(|(index, source)| self.source(source, index));
        let from = from.collect::<Result<Box<_>, _>>()?;
        if !from.is_empty() {
            clauses.push(Clause { part: RulePart::From, alternatives: from });
        }
        let to = rule.to.iter().enumerate().map(|(index, operation)| self.operation(operation, index));
        let to = to.collect::<Result<Box<_>, _>>()?;
        if !to.is_empty() {
            clauses.push(Clause { part: RulePart::To, alternatives: to });
        }
        // An unknown key is looked for first: it takes out the rule, whatever else is in it.
        let attributes = rule.when.iter().enumerate().map(|(index, condition)| {
            Attribute::of_condition(condition).ok_or_else(|| {
                let path = || format!("when[{index}].key");
                self.drop(DroppedRule::UnknownKey, Problem::UnknownKey, path, &condition.key)
            })
        });
        let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
        for (index, (condition, attribute)) in rule.when.iter().zip(attributes).enumerate() {
            let path = format!("when[{index}]");
            if condition.values.is_empty() && condition.not_values.is_empty() {
                self.refuse(Problem::MissingValues, || path, "")?;
                continue;
            }
            let attribute = match attribute {
                Ok(attribute) => attribute,
                Err(problem) => {
                    self.unusable(problem, || format!("{path}.key"), &condition.key)?;
                    continue;
                }
            };
            if matches!(&attribute, Attribute::Header(header) if !header.is_possible()) {
                self.refuse(Problem::HeaderName, || format!("{path}.key"), &condition.key)?;
            }
            let mut conditions = Vec::new();
            self.field(&mut conditions, attribute.clone(), false, &condition.values, || {
                format!("{path}.values")
            })?;
            self.field(&mut conditions, attribute, true, &condition.not_values, || {
                format!("{path}.notValues")
            })?;
            let alternatives = Box::new([Alternative { conditions: conditions.into() }]);
            clauses.push(Clause { part: RulePart::When(index), alternatives });
        }
        Ok(clauses.into())
    }

    fn source(&self, source: &Source, index: usize) -> Result<Alternative, Failure> {
        let fields: [Field<'_>; 7] = [
            (Attribute::Principal, "principals", &source.principals, &source.not_principals),
            (
                Attribute::ServiceAccount,
                "serviceAccounts",
                &source.service_accounts,
                &source.not_service_accounts,
            ),
            (Attribute::Namespace, "namespaces", &source.namespaces, &source.not_namespaces),
            (Attribute::TrustDomain, "trustDomains", &source.trust_domains, &source.not_trust_domains),
            (Attribute::SourceIp, "ipBlocks", &source.ip_blocks, &source.not_ip_blocks),
            (Attribute::RemoteIp, "remoteIpBlocks", &source.remote_ip_blocks, &source.not_remote_ip_blocks),
            (
                Attribute::RequestPrincipal,
                "requestPrincipals",
                &source.request_principals,
                &source.not_request_principals,
            ),
        ];
        self.alternative(fields, &format!("from[{index}].source"))
    }

    fn operation(&self, operation: &Operation, index: usize) -> Result<Alternative, Failure> {
        let fields: [Field<'_>; 4] = [
            (Attribute::DestinationPort, "ports", &operation.ports, &operation.not_ports),
            (Attribute::Method, "methods", &operation.methods, &operation.not_methods),
            (Attribute::Path, "paths", &operation.paths, &operation.not_paths),
            (Attribute::Host, "hosts", &operation.hosts, &operation.not_hosts),
        ];
        self.alternative(fields, &format!("to[{index}].operation"))
    }

    fn alternative<const N: usize>(
        &self,
        fields: [Field<'_>; N],
        path: &str,
    ) -> Result<Alternative, Failure> {
        if fields.iter().all(|(_, _, values, not_values)| values.is_empty() && not_values.is_empty()) {
            self.refuse(Problem::EmptyAlternative, || path.to_owned(), "")?;
        }
        let mut conditions = Vec::new();
        for (attribute, name, values, not_values) in fields {
            self.field(&mut conditions, attribute.clone(), false, values, || format!("{path}.{name}"))?;
            self.field(&mut conditions, attribute, true, not_values, || {
                let (initial, rest) = name.split_at(1);
                format!("{path}.not{}{rest}", initial.to_ascii_uppercase())
            })?;
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
        path: impl Fn() -> String,
    ) -> Result<(), Failure> {
        if values.is_empty() {
            return Ok(());
        }
        if self.action == Action::Custom && attribute.is_about_identity() {
            self.refuse(Problem::CustomAttribute, &path, attribute.to_string())?;
        }
        let values = self.values(&attribute, values, &path)?;
        if self.compiler.point == Point::Stream && attribute.is_of_requests() {
            // What a stream does not have cannot allow it, and does not keep the rest from denying it.
            return match self.action {
                Action::Allow => Err(Failure::Dropped(DroppedRule::Unseen)),
                Action::Audit | Action::Custom | Action::Deny => Ok(()),
            };
        }
        if !values.is_empty() {
            conditions.push(Condition { attribute, negated, values });
        }
        Ok(())
    }

    fn values(
        &self,
        attribute: &Attribute,
        values: &[String],
        path: &impl Fn() -> String,
    ) -> Result<Values, Failure> {
        let is_strict = self.compiler.is_strict();
        Ok(match attribute {
            Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => {
                Values::Ranges(self.usable(values, path, |value| range(value, is_strict).map(one))?)
            }
            Attribute::DestinationPort => {
                Values::Ports(self.usable(values, path, |value| port(value).map(one))?)
            }
            Attribute::Metadata { .. } => Values::Metadata(self.usable(values, path, |value| {
                let list = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                Ok(one(match list {
                    Some(_) => (text(value.trim_matches(['[', ']'])), true),
                    None => (text(value), false),
                }))
            })?),
            Attribute::Namespace => {
                Values::Globs(self.usable(values, path, |value| Ok(one(Glob::new(value))))?)
            }
            Attribute::Path => Values::Paths(self.usable(values, path, |value| path_match(value).map(one))?),
            Attribute::Principal => {
                let domains = || self.compiler.mesh.trust_domains();
                Values::Texts(self.usable(values, path, |value| {
                    if is_strict && (has_inner_wildcard(value) || has_more_parts(value)) {
                        return Err(if has_more_parts(value) {
                            Problem::PrincipalParts
                        } else {
                            Problem::InnerWildcard
                        });
                    }
                    Ok(with_aliases(value, domains).iter().map(|value| text(value)).collect())
                })?)
            }
            Attribute::RequestPrincipal => Values::RequestPrincipals(self.usable(values, path, |value| {
                let principal = RequestPrincipal::new(value);
                if is_strict && principal.is_trap() {
                    Err(Problem::RequestPrincipal)
                } else {
                    Ok(one(principal))
                }
            })?),
            Attribute::ServiceAccount => Values::Accounts(self.usable(values, path, |value| {
                let is_account = !value.contains('*')
                    && value.split('/').count() < 3
                    && value.split('/').all(|part| !part.is_empty());
                if is_strict && !is_account {
                    return Err(Problem::ServiceAccount);
                }
                Ok(one(Account::new(value, self.namespace)))
            })?),
            Attribute::TrustDomain => {
                let domains = || self.compiler.mesh.trust_domains();
                Values::Globs(self.usable(values, path, |value| {
                    if is_strict && value.contains('/') {
                        return Err(Problem::TrustDomain);
                    }
                    let is_own = domains().any(|domain| domain == value);
                    Ok(if is_own { domains().map(Glob::new).collect() } else { one(Glob::new(value)) })
                })?)
            }
            Attribute::Host => Values::Texts(self.usable(values, path, |value| {
                if is_strict && has_inner_wildcard(value) {
                    Err(Problem::InnerWildcard)
                } else {
                    Ok(one(text(&value.to_ascii_lowercase())))
                }
            })?),
            Attribute::Sni => Values::Texts(self.usable(values, path, |value| {
                if is_strict && has_inner_wildcard(value) {
                    return Err(Problem::InnerWildcard);
                }
                // Names reach this in lower case: a value in another never fits, by Istio's reading.
                Ok(one(if is_strict { text(&value.to_ascii_lowercase()) } else { text(value) }))
            })?),
            Attribute::Audience
            | Attribute::Claim(_)
            | Attribute::Header(_)
            | Attribute::Method
            | Attribute::Presenter => Values::Texts(self.usable(values, path, |value| Ok(one(text(value))))?),
        })
    }

    /// The values that can be used. One that cannot takes the rule out of an ALLOW; elsewhere it only counts
    /// for nothing.
    fn usable<T>(
        &self,
        values: &[String],
        path: &impl Fn() -> String,
        parse: impl Fn(&str) -> Result<Vec<T>, Problem>,
    ) -> Result<Box<[T]>, Failure> {
        let mut usable = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let path = || format!("{}[{index}]", path());
            if value.is_empty() {
                self.refuse(Problem::EmptyText, path, "")?;
            }
            match parse(value) {
                Ok(parsed) => usable.extend(parsed),
                Err(problem) => self.unusable(problem, path, value)?,
            }
        }
        Ok(usable.into())
    }

    fn unusable(&self, problem: Problem, path: impl Fn() -> String, value: &str) -> Result<(), Failure> {
        match (self.compiler.semantics, self.action) {
            (Semantics::Strict, _) | (_, Action::Allow) => {
                Err(self.drop(DroppedRule::UnusableValue, problem, path, value))
            }
            (Semantics::Istio, _) => Ok(()),
        }
    }

    /// A problem that only strict semantics knows.
    fn refuse(
        &self,
        problem: Problem,
        path: impl FnOnce() -> String,
        value: impl Into<String>,
    ) -> Result<(), Failure> {
        match self.compiler.semantics {
            Semantics::Istio => Ok(()),
            Semantics::Strict => Err(Failure::Refused(Refusal::new(problem, path(), value))),
        }
    }

    fn drop(
        &self,
        dropped: DroppedRule,
        problem: Problem,
        path: impl Fn() -> String,
        value: &str,
    ) -> Failure {
        match self.compiler.semantics {
            Semantics::Istio => Failure::Dropped(dropped),
            Semantics::Strict => Failure::Refused(Refusal::new(problem, path(), value)),
        }
    }
}

fn one<T>(value: T) -> Vec<T> {
    vec![value]
}
