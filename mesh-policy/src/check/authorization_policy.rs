//! What nothing can act on in an AuthorizationPolicy.

use super::{DRY_RUN, Key, target, value};
use crate::{
    Code,
    finding::{Path, Report},
    object::{Action, AuthorizationPolicy, Condition, Operation, Source},
};

pub(super) fn check(policy: &AuthorizationPolicy, report: &mut Report<'_>) {
    let AuthorizationPolicy { metadata, selector, target_ref, target_refs, action, provider, rules } = policy;
    if let Some(text) = metadata.annotations.get(DRY_RUN).filter(|text| value::parse_bool(text).is_none()) {
        let metadata = Path::Root.field("metadata");
        report.value(Code::DryRunForm, metadata.field("annotations").field(DRY_RUN), text);
    }
    target::check(metadata, selector.as_ref(), target_ref.as_ref(), target_refs, report);

    let spec = Path::Root.field("spec");
    let provider_path = spec.field("provider");
    match (action, provider) {
        (Action::Custom, None) => report.add(Code::CustomWithoutProvider, spec),
        (Action::Custom, Some(provider)) if !value::is_dns_label(&provider.name) => {
            report.value(Code::ProviderName, provider_path.field("name"), &provider.name);
        }
        (Action::Custom, Some(_)) | (_, None) => {}
        (_, Some(provider)) => {
            report.value(Code::ProviderWithoutCustom, provider_path.field("name"), &provider.name);
        }
    }
    let rules_path = spec.field("rules");
    match action {
        Action::Custom if rules.is_empty() => report.add(Code::CustomWithoutRules, spec),
        Action::Deny if rules.is_empty() => report.add(Code::DenyWithoutRules, spec),
        _ => {}
    }
    if rules.len() > MOST_RULES {
        report.add_with(Code::TooMany, rules_path, format!("list at most {MOST_RULES} rules"));
    }
    let custom = *action == Action::Custom;
    for (index, rule) in rules.iter().enumerate() {
        let path = rules_path.index(index);
        let from = path.field("from");
        if rule.from.len() > MOST_RULES {
            report.add_with(Code::TooMany, from, format!("list at most {MOST_RULES} sources"));
        }
        for (index, source) in rule.from.iter().enumerate() {
            check_source(source, custom, from.index(index).field("source"), report);
        }
        let to = path.field("to");
        for (index, operation) in rule.to.iter().enumerate() {
            check_operation(operation, to.index(index).field("operation"), report);
        }
        let when = path.field("when");
        for (index, condition) in rule.when.iter().enumerate() {
            check_condition(condition, custom, when.index(index), report);
        }
    }
}

fn check_source(source: &Source, custom: bool, path: Path<'_>, report: &mut Report<'_>) {
    if *source == Source::default() {
        report.add(Code::EmptySource, path);
    }
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if accounts && others.iter().any(|values| !values.is_empty()) {
        report.add(Code::ServiceAccountsMixed, path);
    }
    for (name, values, kind) in source.fields() {
        let path = path.field(name);
        let late = matches!(kind, Kind::Identity | Kind::Account | Kind::TrustDomain | Kind::Token);
        if custom && late && !values.is_empty() {
            report.add(Code::CustomAttribute, path);
        }
        check_values(values, kind, path, report);
    }
}

fn check_operation(operation: &Operation, path: Path<'_>, report: &mut Report<'_>) {
    if *operation == Operation::default() {
        report.add(Code::EmptyOperation, path);
    }
    for (name, values, kind) in operation.fields() {
        check_values(values, kind, path.field(name), report);
    }
}

fn check_condition(condition: &Condition, custom: bool, path: Path<'_>, report: &mut Report<'_>) {
    let kind = match Key::parse(&condition.key) {
        None => {
            report.value_with(Code::UnknownKey, path.field("key"), &condition.key, nearest(&condition.key));
            Kind::Text
        }
        Some(key) => {
            if custom && !key.is_early() {
                report.value(Code::CustomAttribute, path.field("key"), &condition.key);
            }
            Kind::of(key)
        }
    };
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.add(Code::WithoutValues, path);
    }
    check_values(&condition.values, kind, path.field("values"), report);
    check_values(&condition.not_values, kind, path.field("notValues"), report);
}

/// The key that was likely meant.
fn nearest(key: &str) -> String {
    if key.starts_with("destination.") {
        return "`destination.ip` and `destination.port` are all there is of a destination; select it with `selector` or `targetRefs`".into();
    }
    let known = KEYS.iter().find(|known| known.eq_ignore_ascii_case(key));
    let bare = |name: &str| key.starts_with(name).then(|| format!("write `{name}[…]` with a name in it"));
    match known {
        Some(known) => format!("write `{known}`"),
        None => bare("request.headers").or_else(|| bare("request.auth.claims")).unwrap_or_else(|| {
            format!("use one of {}, `request.headers[…]`, `request.auth.claims[…]`", KEYS.join(", "))
        }),
    }
}

fn check_values(values: &[String], kind: Kind, path: Path<'_>, report: &mut Report<'_>) {
    if kind == Kind::Account && values.len() > MOST_ACCOUNTS {
        report.add_with(Code::TooMany, path, format!("list at most {MOST_ACCOUNTS} service accounts"));
    }
    for (index, text) in values.iter().enumerate() {
        let path = path.index(index);
        if text.is_empty() {
            report.add(Code::EmptyValue, path);
            continue;
        }
        let (valid, code) = match kind {
            Kind::Account => (value::is_service_account(text), Code::ServiceAccountForm),
            Kind::Address => (value::is_address(text), Code::BadAddress),
            Kind::Path => (!value::is_template(text) || value::is_valid_template(text), Code::BadTemplate),
            Kind::Port => (value::is_port(text), Code::BadPort),
            Kind::TrustDomain => (!text.contains('/'), Code::TrustDomainForm),
            Kind::Identity | Kind::Text | Kind::Token => continue,
        };
        if !valid {
            report.value(code, path, text);
        }
    }
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Account,
    Address,
    Identity,
    Path,
    Port,
    Text,
    Token,
    TrustDomain,
}

impl Kind {
    fn of(key: Key<'_>) -> Self {
        match key {
            Key::DestinationIp | Key::RemoteIp | Key::SourceIp => Self::Address,
            Key::DestinationPort => Self::Port,
            Key::SourceServiceAccount => Self::Account,
            Key::SourceTrustDomain => Self::TrustDomain,
            Key::Audiences
            | Key::Claim(_)
            | Key::Experimental
            | Key::Header(_)
            | Key::Presenter
            | Key::RequestPrincipal
            | Key::ServerName
            | Key::SourceNamespace
            | Key::SourcePrincipal => Self::Text,
        }
    }
}

impl Source {
    fn fields(&self) -> [(&'static str, &[String], Kind); 14] {
        [
            ("principals", &self.principals, Kind::Identity),
            ("notPrincipals", &self.not_principals, Kind::Identity),
            ("requestPrincipals", &self.request_principals, Kind::Token),
            ("notRequestPrincipals", &self.not_request_principals, Kind::Token),
            ("namespaces", &self.namespaces, Kind::Identity),
            ("notNamespaces", &self.not_namespaces, Kind::Identity),
            ("serviceAccounts", &self.service_accounts, Kind::Account),
            ("notServiceAccounts", &self.not_service_accounts, Kind::Account),
            ("trustDomains", &self.trust_domains, Kind::TrustDomain),
            ("notTrustDomains", &self.not_trust_domains, Kind::TrustDomain),
            ("ipBlocks", &self.ip_blocks, Kind::Address),
            ("notIpBlocks", &self.not_ip_blocks, Kind::Address),
            ("remoteIpBlocks", &self.remote_ip_blocks, Kind::Address),
            ("notRemoteIpBlocks", &self.not_remote_ip_blocks, Kind::Address),
        ]
    }
}

impl Operation {
    fn fields(&self) -> [(&'static str, &[String], Kind); 8] {
        [
            ("hosts", &self.hosts, Kind::Text),
            ("notHosts", &self.not_hosts, Kind::Text),
            ("ports", &self.ports, Kind::Port),
            ("notPorts", &self.not_ports, Kind::Port),
            ("methods", &self.methods, Kind::Text),
            ("notMethods", &self.not_methods, Kind::Text),
            ("paths", &self.paths, Kind::Path),
            ("notPaths", &self.not_paths, Kind::Path),
        ]
    }
}

/// What the schema of the API admits.
const MOST_RULES: usize = 512;
const MOST_ACCOUNTS: usize = 16;

/// The keys without brackets.
const KEYS: [&str; 12] = [
    "connection.sni",
    "destination.ip",
    "destination.port",
    "remote.ip",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.principal",
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
];
