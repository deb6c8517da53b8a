//! What nothing can act on in an AuthorizationPolicy.

use ipnet::IpNet;

use super::{DRY_RUN, target, value};
use crate::{
    Code,
    finding::{Path, Report},
    object::{Action, AuthorizationPolicy, Condition, Operation, Source},
    waypoint::{Attribute, KeyError, Mesh, RequestPrincipal, has_inner_wildcard, text},
};

pub(super) fn check(policy: &AuthorizationPolicy, report: &mut Report<'_>) {
    let AuthorizationPolicy {
        metadata,
        selector,
        target_ref,
        target_refs,
        action,
        provider,
        rules,
        extent: _,
    } = policy;
    if let Some(text) = metadata.annotations.get(DRY_RUN).filter(|text| value::parse_bool(text).is_none()) {
        let metadata = Path::Root.field("metadata");
        report.value(Code::DryRunForm, metadata.field("annotations").field(DRY_RUN), text);
    }
    target::check(metadata, selector.as_ref(), target_ref.as_ref(), target_refs, report);

    let spec = Path::Root.field("spec");
    let has_targets = policy.targets().next().is_some();
    if selector.as_ref().is_some_and(|selector| selector.match_labels.is_empty()) && !has_targets {
        report.add(Code::SelectorEmpty, spec.field("selector"));
    }
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
    for (name, values, attribute) in source.fields() {
        let path = path.field(name);
        if custom && attribute.is_about_identity() && !values.is_empty() {
            report.add(Code::CustomAttribute, path);
        }
        check_values(values, Some(&attribute), path, report);
    }
}

fn check_operation(operation: &Operation, path: Path<'_>, report: &mut Report<'_>) {
    if *operation == Operation::default() {
        report.add(Code::EmptyOperation, path);
    }
    for (name, values, attribute) in operation.fields() {
        check_values(values, Some(&attribute), path.field(name), report);
    }
}

fn check_condition(condition: &Condition, custom: bool, path: Path<'_>, report: &mut Report<'_>) {
    let attribute = match Attribute::parse(&condition.key) {
        Ok(attribute) => Some(attribute),
        Err(KeyError::Brackets) => {
            report.value(Code::KeyBrackets, path.field("key"), &condition.key);
            None
        }
        Err(KeyError::Unknown) => {
            report.value_with(Code::UnknownKey, path.field("key"), &condition.key, nearest(&condition.key));
            None
        }
    };
    if matches!(&attribute, Some(Attribute::Header(header)) if !header.is_possible()) {
        report.value(Code::HeaderName, path.field("key"), &condition.key);
    }
    if custom && attribute.as_ref().is_some_and(Attribute::is_about_identity) {
        report.value(Code::CustomAttribute, path.field("key"), &condition.key);
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.add(Code::WithoutValues, path);
    }
    check_values(&condition.values, attribute.as_ref(), path.field("values"), report);
    check_values(&condition.not_values, attribute.as_ref(), path.field("notValues"), report);
}

/// Whether the provider that a policy asks is one of the mesh.
pub(super) fn check_provider(policy: &AuthorizationPolicy, mesh: &Mesh, report: &mut Report<'_>) {
    let provider = policy.provider.as_ref().filter(|_| policy.action == Action::Custom);
    if let Some(provider) = provider.filter(|provider| !mesh.providers.contains_key(&provider.name)) {
        let path = Path::Root.field("spec");
        report.value(Code::ProviderUnknown, path.field("provider").field("name"), &provider.name);
    }
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

fn check_values(values: &[String], attribute: Option<&Attribute>, path: Path<'_>, report: &mut Report<'_>) {
    if attribute == Some(&Attribute::ServiceAccount) && values.len() > MOST_ACCOUNTS {
        report.add_with(Code::TooMany, path, format!("list at most {MOST_ACCOUNTS} service accounts"));
    }
    for (index, text) in values.iter().enumerate() {
        let path = path.index(index);
        if text.is_empty() {
            report.add(Code::EmptyValue, path);
        } else if let Some(code) = attribute.and_then(|attribute| problem(attribute, text)) {
            report.value(code, path, text);
        }
    }
}

/// What keeps a value from meaning what it seems to.
fn problem(attribute: &Attribute, text: &str) -> Option<Code> {
    let wildcard = |code: Code| has_inner_wildcard(text).then_some(code);
    match attribute {
        Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => match text::range(text) {
            None => Some(Code::BadAddress),
            Some(IpNet::V6(range)) if range.addr().to_ipv4_mapped().is_some() => Some(Code::MappedAddress),
            Some(_) => None,
        },
        Attribute::DestinationPort => text::port(text).is_none().then_some(Code::BadPort),
        Attribute::Host | Attribute::Sni => wildcard(Code::InnerWildcard),
        Attribute::Path => text::path_match(text).is_none().then_some(Code::BadTemplate),
        Attribute::Principal if text::has_more_parts(text) => Some(Code::PrincipalParts),
        Attribute::Principal => wildcard(Code::InnerWildcard),
        Attribute::RequestPrincipal => {
            RequestPrincipal::new(text).is_trap().then_some(Code::RequestPrincipalForm)
        }
        Attribute::ServiceAccount => (!value::is_service_account(text)).then_some(Code::ServiceAccountForm),
        Attribute::TrustDomain => text.contains('/').then_some(Code::TrustDomainForm),
        Attribute::Audience
        | Attribute::Claim(_)
        | Attribute::Header(_)
        | Attribute::Metadata { .. }
        | Attribute::Method
        | Attribute::Namespace
        | Attribute::Presenter => None,
    }
}

impl Source {
    fn fields(&self) -> [(&'static str, &[String], Attribute); 14] {
        [
            ("principals", &self.principals, Attribute::Principal),
            ("notPrincipals", &self.not_principals, Attribute::Principal),
            ("requestPrincipals", &self.request_principals, Attribute::RequestPrincipal),
            ("notRequestPrincipals", &self.not_request_principals, Attribute::RequestPrincipal),
            ("namespaces", &self.namespaces, Attribute::Namespace),
            ("notNamespaces", &self.not_namespaces, Attribute::Namespace),
            ("serviceAccounts", &self.service_accounts, Attribute::ServiceAccount),
            ("notServiceAccounts", &self.not_service_accounts, Attribute::ServiceAccount),
            ("trustDomains", &self.trust_domains, Attribute::TrustDomain),
            ("notTrustDomains", &self.not_trust_domains, Attribute::TrustDomain),
            ("ipBlocks", &self.ip_blocks, Attribute::SourceIp),
            ("notIpBlocks", &self.not_ip_blocks, Attribute::SourceIp),
            ("remoteIpBlocks", &self.remote_ip_blocks, Attribute::RemoteIp),
            ("notRemoteIpBlocks", &self.not_remote_ip_blocks, Attribute::RemoteIp),
        ]
    }
}

impl Operation {
    fn fields(&self) -> [(&'static str, &[String], Attribute); 8] {
        [
            ("hosts", &self.hosts, Attribute::Host),
            ("notHosts", &self.not_hosts, Attribute::Host),
            ("ports", &self.ports, Attribute::DestinationPort),
            ("notPorts", &self.not_ports, Attribute::DestinationPort),
            ("methods", &self.methods, Attribute::Method),
            ("notMethods", &self.not_methods, Attribute::Method),
            ("paths", &self.paths, Attribute::Path),
            ("notPaths", &self.not_paths, Attribute::Path),
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
