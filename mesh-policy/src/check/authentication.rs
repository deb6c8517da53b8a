//! What nothing can act on in a PeerAuthentication or a RequestAuthentication.

use super::target;
use crate::{
    Code,
    finding::{Path, Report},
    object::{JwtRule, PeerAuthentication, RequestAuthentication},
};

pub(super) fn check_peer(policy: &PeerAuthentication, report: &mut Report<'_>) {
    if let Some(selector) = &policy.selector {
        target::check_selector(selector, report);
    }
    let spec = Path::Root.field("spec");
    let ports = spec.field("portLevelMtls");
    let selects = policy.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    if !selects && !policy.port_level_mtls.is_empty() {
        report.add(Code::PortLevelWithoutSelector, ports);
    }
    for port in policy.port_level_mtls.keys() {
        if *port == 0 || *port > u32::from(u16::MAX) {
            report.value(Code::PeerPort, ports, &port.to_string());
        }
    }
}

pub(super) fn check_root(policy: &PeerAuthentication, root_namespace: &str, report: &mut Report<'_>) {
    let selects = policy.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    if selects && policy.metadata.namespace == root_namespace {
        report.add(Code::RootSelector, Path::Root.field("spec").field("selector"));
    }
}

pub(super) fn check_request(policy: &RequestAuthentication, report: &mut Report<'_>) {
    let RequestAuthentication { metadata, selector, target_ref, target_refs, jwt_rules } = policy;
    target::check(metadata, selector.as_ref(), target_ref.as_ref(), target_refs, report);
    let spec = Path::Root.field("spec");
    let rules = spec.field("jwtRules");
    for (index, rule) in jwt_rules.iter().enumerate() {
        check_rule(rule, rules.index(index), report);
    }
}

fn check_rule(rule: &JwtRule, path: Path<'_>, report: &mut Report<'_>) {
    if rule.issuer.is_empty() {
        report.add(Code::IssuerMissing, path.field("issuer"));
    }
    if rule.jwks.is_some() && rule.jwks_uri.is_some() {
        report.add(Code::KeysTwice, path);
    }
    if let Some(uri) = rule.jwks_uri.as_deref().filter(|uri| !is_http(uri)) {
        report.value(Code::KeysUri, path.field("jwksUri"), uri);
    }
    if let Some(timeout) = rule.timeout.as_deref().filter(|text| !is_timeout(text)) {
        report.value(Code::Timeout, path.field("timeout"), timeout);
    }
    for (name, values) in [
        ("audiences", &rule.audiences),
        ("fromParams", &rule.from_params),
        ("fromCookies", &rule.from_cookies),
        ("spaceDelimitedClaims", &rule.space_delimited_claims),
    ] {
        let path = path.field(name);
        for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            report.add(Code::EmptyValue, path.index(index));
        }
    }
    let headers = path.field("fromHeaders");
    for (index, header) in rule.from_headers.iter().enumerate() {
        check_header(&header.name, headers.index(index).field("name"), report);
    }
    let claims = path.field("outputClaimToHeaders");
    for (index, output) in rule.output_claim_to_headers.iter().enumerate() {
        let path = claims.index(index);
        check_header(&output.header, path.field("header"), report);
        if output.claim.is_empty() {
            report.add(Code::EmptyValue, path.field("claim"));
        }
    }
    if let Some(name) = &rule.output_payload_to_header {
        check_header(name, path.field("outputPayloadToHeader"), report);
    }
}

fn check_header(name: &str, path: Path<'_>, report: &mut Report<'_>) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        report.value(Code::HeaderName, path, name);
    }
}

fn is_http(uri: &str) -> bool {
    let host = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace))
}

/// A duration as Go writes it, with one unit.
fn is_timeout(text: &str) -> bool {
    ["ms", "s", "m", "h"].iter().filter_map(|unit| text.strip_suffix(unit)).any(|number| {
        let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        digits && number.parse::<f64>().is_ok_and(|number| number > 0.0)
    })
}
