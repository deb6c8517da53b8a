use std::sync::Arc;

use ipnet::IpNet;
use mesh_policy::{Action, Clause, Match, Policy, PolicyName, Rule, Scope, ServiceAccountMatch};
use serde::{Deserialize, Serialize};

use super::{string_match::StringMatchDocument, text::Text};

/// A policy as written in a file or shown in a dump.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDocument {
    name: Arc<str>,
    namespace: Arc<str>,
    scope: ScopeDocument,
    action: ActionDocument,
    rules: Vec<Vec<Vec<MatchDocument>>>,
    dry_run: bool,
}

impl PolicyDocument {
    pub(super) fn build(&self) -> Policy {
        let clause = |matches: &Vec<MatchDocument>| Clause {
            matches: matches.iter().map(MatchDocument::build).collect(),
        };
        Policy {
            name: PolicyName::new(Arc::clone(&self.namespace), Arc::clone(&self.name)),
            scope: match self.scope {
                ScopeDocument::Global => Scope::Global,
                ScopeDocument::Namespace => Scope::Namespace,
                ScopeDocument::WorkloadSelector => Scope::WorkloadSelector,
            },
            action: match self.action {
                ActionDocument::Allow => Action::Allow,
                ActionDocument::Deny => Action::Deny,
            },
            rules: self
                .rules
                .iter()
                .map(|rule| Rule { clauses: rule.iter().map(clause).collect() })
                .collect(),
            dry_run: self.dry_run,
        }
    }
}

impl From<&Policy> for PolicyDocument {
    fn from(policy: &Policy) -> Self {
        let clause = |clause: &Clause| clause.matches.iter().map(MatchDocument::from).collect();
        Self {
            name: policy.name.name().into(),
            namespace: policy.name.namespace().into(),
            scope: match policy.scope {
                Scope::Global => ScopeDocument::Global,
                Scope::Namespace => ScopeDocument::Namespace,
                Scope::WorkloadSelector => ScopeDocument::WorkloadSelector,
            },
            action: match policy.action {
                Action::Allow => ActionDocument::Allow,
                Action::Deny => ActionDocument::Deny,
            },
            rules: policy.rules.iter().map(|rule| rule.clauses.iter().map(clause).collect()).collect(),
            dry_run: policy.dry_run,
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ScopeDocument {
    Global,
    Namespace,
    WorkloadSelector,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum ActionDocument {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MatchDocument {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<StringMatchDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_namespaces: Vec<StringMatchDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    principals: Vec<StringMatchDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_principals: Vec<StringMatchDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<ServiceAccountDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_service_accounts: Vec<ServiceAccountDocument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<Text<IpNet>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_source_ips: Vec<Text<IpNet>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ips: Vec<Text<IpNet>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_destination_ips: Vec<Text<IpNet>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_destination_ports: Vec<u16>,
}

impl MatchDocument {
    fn build(&self) -> Match {
        let strings = |all: &[StringMatchDocument]| all.iter().map(|one| one.0.clone()).collect();
        let accounts =
            |all: &[ServiceAccountDocument]| all.iter().map(ServiceAccountDocument::build).collect();
        let ranges = |all: &[Text<IpNet>]| all.iter().map(|one| one.0).collect();
        Match {
            namespaces: strings(&self.namespaces),
            not_namespaces: strings(&self.not_namespaces),
            principals: strings(&self.principals),
            not_principals: strings(&self.not_principals),
            service_accounts: accounts(&self.service_accounts),
            not_service_accounts: accounts(&self.not_service_accounts),
            source_ips: ranges(&self.source_ips),
            not_source_ips: ranges(&self.not_source_ips),
            destination_ips: ranges(&self.destination_ips),
            not_destination_ips: ranges(&self.not_destination_ips),
            destination_ports: self.destination_ports.clone(),
            not_destination_ports: self.not_destination_ports.clone(),
        }
    }
}

impl From<&Match> for MatchDocument {
    fn from(one: &Match) -> Self {
        let strings =
            |all: &[mesh_policy::StringMatch]| all.iter().cloned().map(StringMatchDocument).collect();
        let accounts = |all: &[ServiceAccountMatch]| all.iter().map(ServiceAccountDocument::from).collect();
        let ranges = |all: &[IpNet]| all.iter().copied().map(Text).collect();
        Self {
            namespaces: strings(&one.namespaces),
            not_namespaces: strings(&one.not_namespaces),
            principals: strings(&one.principals),
            not_principals: strings(&one.not_principals),
            service_accounts: accounts(&one.service_accounts),
            not_service_accounts: accounts(&one.not_service_accounts),
            source_ips: ranges(&one.source_ips),
            not_source_ips: ranges(&one.not_source_ips),
            destination_ips: ranges(&one.destination_ips),
            not_destination_ips: ranges(&one.not_destination_ips),
            destination_ports: one.destination_ports.clone(),
            not_destination_ports: one.not_destination_ports.clone(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceAccountDocument {
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl ServiceAccountDocument {
    fn build(&self) -> ServiceAccountMatch {
        ServiceAccountMatch {
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.service_account),
        }
    }
}

impl From<&ServiceAccountMatch> for ServiceAccountDocument {
    fn from(account: &ServiceAccountMatch) -> Self {
        Self { namespace: Arc::clone(&account.namespace), service_account: Arc::clone(&account.name) }
    }
}
