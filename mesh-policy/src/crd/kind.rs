//! What each kind of object is read from.

use std::collections::BTreeMap;

use serde_yaml_ng::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::fields::{Fields, wrong_type};
use crate::{
    Code,
    finding::{Path, Report},
    object::{
        Action, AuthorizationPolicy, ClaimToHeader, Condition, JwtHeader, JwtRule, Metadata, MutualTlsMode,
        Operation, PeerAuthentication, Provider, RequestAuthentication, Rule, Selector, Source, TargetRef,
    },
};

pub(super) fn metadata(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Metadata> {
    let mut fields = Fields::open(value, path, report)?;
    let metadata = Metadata {
        namespace: fields.string("namespace", report).unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
        name: fields.string("name", report).unwrap_or_default(),
        labels: fields.texts_by_name("labels", report),
        annotations: fields.texts_by_name("annotations", report),
        creation_timestamp: fields.string("creationTimestamp", report),
    };
    if let Some(text) = metadata.creation_timestamp.as_deref().filter(|text| created(text).is_none()) {
        let path = fields.path().field("creationTimestamp");
        report.value_with(Code::WrongType, path, text, "write a time such as 2026-01-31T12:00:00Z".into());
    }
    fields.ignore(MANAGED);
    fields.close(report);
    Some(metadata)
}

/// When an object was made, if the text is a time.
pub(super) fn created(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

pub(super) fn authorization_policy(
    metadata: Metadata,
    spec: Option<&Value>,
    report: &mut Report<'_>,
) -> AuthorizationPolicy {
    let mut policy = AuthorizationPolicy { metadata, ..AuthorizationPolicy::default() };
    let Some(mut fields) = spec.and_then(|spec| Fields::open(spec, Path::Root.field("spec"), report)) else {
        return policy;
    };
    let path = *fields.path();
    policy.selector =
        fields.get("selector").and_then(|value| selector(value, path.field("selector"), report));
    policy.target_ref =
        fields.get("targetRef").and_then(|value| target(value, path.field("targetRef"), report));
    policy.target_refs = fields.each("targetRefs", report, target);
    if let Some(text) = fields.string("action", report) {
        match action(&text) {
            Some(action) => policy.action = action,
            None => {
                let instead = "write ALLOW, DENY, AUDIT or CUSTOM".into();
                report.value_with(Code::UnknownValue, path.field("action"), &text, instead);
            }
        }
    }
    policy.provider =
        fields.get("provider").and_then(|value| provider(value, path.field("provider"), report));
    policy.rules = fields.each("rules", report, rule);
    fields.close(report);
    policy
}

/// The action of that name.
pub(super) fn action(text: &str) -> Option<Action> {
    ACTIONS.into_iter().find(|action| action.to_string() == text)
}

pub(super) fn peer_authentication(
    metadata: Metadata,
    spec: Option<&Value>,
    report: &mut Report<'_>,
) -> PeerAuthentication {
    let mut policy = PeerAuthentication { metadata, ..PeerAuthentication::default() };
    let Some(mut fields) = spec.and_then(|spec| Fields::open(spec, Path::Root.field("spec"), report)) else {
        return policy;
    };
    let path = *fields.path();
    policy.selector =
        fields.get("selector").and_then(|value| selector(value, path.field("selector"), report));
    if let Some(value) = fields.get("mtls") {
        policy.mtls = mode(value, path.field("mtls"), report);
    }
    if let Some(value) = fields.get("portLevelMtls") {
        policy.port_level_mtls = port_modes(value, path.field("portLevelMtls"), report);
    }
    fields.close(report);
    policy
}

pub(super) fn request_authentication(
    metadata: Metadata,
    spec: Option<&Value>,
    report: &mut Report<'_>,
) -> RequestAuthentication {
    let mut policy = RequestAuthentication { metadata, ..RequestAuthentication::default() };
    let Some(mut fields) = spec.and_then(|spec| Fields::open(spec, Path::Root.field("spec"), report)) else {
        return policy;
    };
    let path = *fields.path();
    policy.selector =
        fields.get("selector").and_then(|value| selector(value, path.field("selector"), report));
    policy.target_ref =
        fields.get("targetRef").and_then(|value| target(value, path.field("targetRef"), report));
    policy.target_refs = fields.each("targetRefs", report, target);
    policy.jwt_rules = fields.each("jwtRules", report, jwt_rule);
    fields.close(report);
    policy
}

fn selector(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let mut fields = Fields::open(value, path, report)?;
    let selector = Selector { match_labels: fields.texts_by_name("matchLabels", report) };
    fields.close(report);
    Some(selector)
}

fn target(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<TargetRef> {
    let mut fields = Fields::open(value, path, report)?;
    let target = TargetRef {
        group: fields.string("group", report).unwrap_or_default(),
        kind: fields.string("kind", report).unwrap_or_default(),
        name: fields.string("name", report).unwrap_or_default(),
        namespace: fields.string("namespace", report).unwrap_or_default(),
    };
    fields.close(report);
    Some(target)
}

fn provider(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Provider> {
    let mut fields = Fields::open(value, path, report)?;
    let provider = Provider { name: fields.string("name", report).unwrap_or_default() };
    fields.close(report);
    Some(provider)
}

fn rule(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Rule> {
    let mut fields = Fields::open(value, path, report)?;
    for name in ["from", "to"] {
        if fields.list(name, report).is_some_and(<[Value]>::is_empty) {
            report.add(Code::EmptyList, path.field(name));
        }
    }
    let rule = Rule {
        from: fields.each("from", report, |value, path, report| inner(value, "source", path, report, source)),
        to: fields
            .each("to", report, |value, path, report| inner(value, "operation", path, report, operation)),
        when: fields.each("when", report, condition),
    };
    fields.close(report);
    Some(rule)
}

/// What is read of the one field of a map. Nothing there reads as an empty map, which is reported later.
fn inner<T: Default>(
    value: &Value,
    name: &'static str,
    path: Path<'_>,
    report: &mut Report<'_>,
    read: impl Fn(&Value, Path<'_>, &mut Report<'_>) -> Option<T>,
) -> Option<T> {
    let mut fields = Fields::open(value, path, report)?;
    let inner =
        fields.get(name).map_or_else(|| Some(T::default()), |value| read(value, path.field(name), report));
    fields.close(report);
    inner
}

fn source(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Source> {
    let mut fields = Fields::open(value, path, report)?;
    let source = Source {
        principals: fields.strings("principals", report),
        not_principals: fields.strings("notPrincipals", report),
        request_principals: fields.strings("requestPrincipals", report),
        not_request_principals: fields.strings("notRequestPrincipals", report),
        namespaces: fields.strings("namespaces", report),
        not_namespaces: fields.strings("notNamespaces", report),
        service_accounts: fields.strings("serviceAccounts", report),
        not_service_accounts: fields.strings("notServiceAccounts", report),
        trust_domains: fields.strings("trustDomains", report),
        not_trust_domains: fields.strings("notTrustDomains", report),
        ip_blocks: fields.strings("ipBlocks", report),
        not_ip_blocks: fields.strings("notIpBlocks", report),
        remote_ip_blocks: fields.strings("remoteIpBlocks", report),
        not_remote_ip_blocks: fields.strings("notRemoteIpBlocks", report),
    };
    fields.close(report);
    Some(source)
}

fn operation(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Operation> {
    let mut fields = Fields::open(value, path, report)?;
    let operation = Operation {
        hosts: fields.strings("hosts", report),
        not_hosts: fields.strings("notHosts", report),
        ports: fields.strings("ports", report),
        not_ports: fields.strings("notPorts", report),
        methods: fields.strings("methods", report),
        not_methods: fields.strings("notMethods", report),
        paths: fields.strings("paths", report),
        not_paths: fields.strings("notPaths", report),
    };
    fields.close(report);
    Some(operation)
}

fn condition(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<Condition> {
    let mut fields = Fields::open(value, path, report)?;
    let condition = Condition {
        key: fields.string("key", report).unwrap_or_default(),
        values: fields.strings("values", report),
        not_values: fields.strings("notValues", report),
    };
    fields.close(report);
    Some(condition)
}

/// The mode in a map that holds nothing else.
fn mode(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> MutualTlsMode {
    let Some(mut fields) = Fields::open(value, path, report) else { return MutualTlsMode::Unset };
    let mut mode = MutualTlsMode::Unset;
    if let Some(text) = fields.string("mode", report) {
        match MODES.into_iter().find(|mode| mode.to_string() == text) {
            Some(known) => mode = known,
            None => {
                let instead = "write STRICT, PERMISSIVE, DISABLE or UNSET".into();
                report.value_with(Code::UnknownValue, path.field("mode"), &text, instead);
            }
        }
    }
    fields.close(report);
    mode
}

fn port_modes(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> BTreeMap<u32, MutualTlsMode> {
    let Value::Mapping(map) = value else {
        wrong_type(value, "a map", path, report);
        return BTreeMap::new();
    };
    let mut modes = BTreeMap::new();
    for (key, value) in map {
        // A number in YAML, a text in JSON.
        let port = match key {
            Value::Number(number) => number.as_u64().and_then(|port| u32::try_from(port).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match port {
            Some(port) => {
                let name = port.to_string();
                if modes.insert(port, mode(value, path.field(&name), report)).is_some() {
                    report.value(Code::Duplicate, path, &name);
                }
            }
            None => wrong_type(key, "the number of a port", path, report),
        }
    }
    modes
}

fn jwt_rule(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<JwtRule> {
    let mut fields = Fields::open(value, path, report)?;
    let rule = JwtRule {
        issuer: fields.string("issuer", report).unwrap_or_default(),
        audiences: fields.strings("audiences", report),
        // Both spellings are in use: the first releases wrote the name in snake case.
        jwks_uri: fields.string("jwksUri", report).or_else(|| fields.string("jwks_uri", report)),
        jwks: fields.string("jwks", report),
        from_headers: fields.each("fromHeaders", report, jwt_header),
        from_params: fields.strings("fromParams", report),
        from_cookies: fields.strings("fromCookies", report),
        output_payload_to_header: fields.string("outputPayloadToHeader", report),
        output_claim_to_headers: fields.each("outputClaimToHeaders", report, claim_to_header),
        forward_original_token: fields.flag("forwardOriginalToken", report),
        timeout: fields.string("timeout", report),
        space_delimited_claims: fields.strings("spaceDelimitedClaims", report),
    };
    fields.close(report);
    Some(rule)
}

fn jwt_header(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<JwtHeader> {
    let mut fields = Fields::open(value, path, report)?;
    let header = JwtHeader {
        name: fields.string("name", report).unwrap_or_default(),
        prefix: fields.string("prefix", report).unwrap_or_default(),
    };
    fields.close(report);
    Some(header)
}

fn claim_to_header(value: &Value, path: Path<'_>, report: &mut Report<'_>) -> Option<ClaimToHeader> {
    let mut fields = Fields::open(value, path, report)?;
    let output = ClaimToHeader {
        header: fields.string("header", report).unwrap_or_default(),
        claim: fields.string("claim", report).unwrap_or_default(),
    };
    fields.close(report);
    Some(output)
}

/// Where an object without a namespace goes, as without a context that says otherwise.
const DEFAULT_NAMESPACE: &str = "default";

/// Metadata that a cluster keeps and that means nothing here.
const MANAGED: &[&str] = &[
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

const ACTIONS: [Action; 4] = [Action::Allow, Action::Audit, Action::Custom, Action::Deny];
const MODES: [MutualTlsMode; 4] =
    [MutualTlsMode::Disable, MutualTlsMode::Permissive, MutualTlsMode::Strict, MutualTlsMode::Unset];
