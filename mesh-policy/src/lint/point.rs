//! What an enforcement point cannot see of a rule.

use super::About;
use crate::{
    Code, Semantics,
    finding::{Path, Report},
    object::{Action, Operation, Rule, Source},
    waypoint::{Attribute, ProviderProtocol},
};

pub(super) fn check(about: About<'_>, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    let policy = about.policy;
    if policy.is_dry_run() {
        report.add(Code::DryRun, Path::Root.field("metadata").field("annotations").field("istio.io/dry-run"));
    }
    let on_tcp = is_on_tcp(about);
    match policy.action {
        Action::Audit | Action::Custom if about.is_at_node() => {
            report.add(Code::NotAtNode, spec.field("action"))
        }
        Action::Custom => check_provider(about, on_tcp, report),
        _ => {}
    }
    about.for_each_rule(|rule, path| match policy.action {
        Action::Allow if about.is_at_node() && needs_request(rule) => {
            report.add(Code::AllowNeedsRequest, path)
        }
        Action::Allow if on_tcp && needs_request(rule) => report.add(Code::AllowNeedsRequestOnTcp, path),
        Action::Deny if about.is_at_node() && needs_request(rule) => {
            let code = if is_inert_at_node(rule, about.surroundings.semantics) {
                Code::DenyNeedsRequest
            } else {
                Code::DenyWiderAtNode
            };
            report.add(code, path);
        }
        Action::Deny if on_tcp && needs_request(rule) => report.add(Code::DenyWiderOnTcp, path),
        _ => {}
    });
    if about.is_at_node() {
        check_trust_domains(about, report);
    }
}

/// Whether the policy meets streams at a waypoint: a service it targets has a port that is not HTTP.
fn is_on_tcp(about: About<'_>) -> bool {
    let services = about.surroundings.services.iter().flatten();
    services.filter(|service| service.has_tcp).any(|service| {
        let mut targets = about.targets();
        let here = service.namespace == about.policy.metadata.namespace;
        here && targets.any(|target| match target.kind.as_str() {
            "Service" => !service.is_entry && target.name == service.name,
            "ServiceEntry" => service.is_entry && target.name == service.name,
            // A gateway's services are not looked up: those of its namespace stand for them.
            _ => service.has_waypoint,
        })
    })
}

fn check_provider(about: About<'_>, on_tcp: bool, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    let provider = spec.field("provider");
    let path = provider.field("name");
    let Some(name) = about.policy.provider.as_ref().map(|provider| &provider.name) else { return };
    match about.surroundings.mesh.providers.get(name) {
        Some(known) if on_tcp && known.protocol == ProviderProtocol::Http => {
            report.value(Code::ProviderOnTcp, path, name);
        }
        // Refused, or none of those.
        None | Some(_) => {}
    }
}

fn check_trust_domains(about: About<'_>, report: &mut Report<'_>) {
    about.for_each_rule(|rule, path| {
        let from = path.field("from");
        for (index, source) in rule.from.iter().enumerate() {
            let path = from.index(index);
            let path = path.field("source");
            for (name, values) in
                [("trustDomains", &source.trust_domains), ("notTrustDomains", &source.not_trust_domains)]
            {
                if !values.is_empty() {
                    report.add(Code::TrustDomainAtNode, path.field(name));
                }
            }
        }
    });
}

/// Whether a rule asks for anything that a node proxy, in Istio's reading, takes for HTTP.
fn needs_request(rule: &Rule) -> bool {
    rule.from.iter().any(source_needs_request)
        || rule.to.iter().any(operation_needs_request)
        || rule.when.iter().any(|condition| !is_layer_4(&condition.key))
}

fn source_needs_request(source: &Source) -> bool {
    let Source { request_principals, not_request_principals, remote_ip_blocks, not_remote_ip_blocks, .. } =
        source;
    [request_principals, not_request_principals, remote_ip_blocks, not_remote_ip_blocks]
        .iter()
        .any(|all| !all.is_empty())
}

fn operation_needs_request(operation: &Operation) -> bool {
    let Operation { hosts, not_hosts, methods, not_methods, paths, not_paths, .. } = operation;
    [hosts, not_hosts, methods, not_methods, paths, not_paths].iter().any(|all| !all.is_empty())
}

fn is_layer_4(key: &str) -> bool {
    matches!(
        Attribute::parse(key),
        Ok(Attribute::DestinationIp
            | Attribute::DestinationPort
            | Attribute::Namespace
            | Attribute::Principal
            | Attribute::SourceIp)
    )
}

/// Whether some part of a DENY is left empty at a node proxy, which Istio takes for never matching.
fn is_inert_at_node(rule: &Rule, semantics: Semantics) -> bool {
    let only = |source: &Source| {
        let mut rest = source.clone();
        rest.request_principals.clear();
        rest.not_request_principals.clear();
        rest.remote_ip_blocks.clear();
        rest.not_remote_ip_blocks.clear();
        rest.trust_domains.clear();
        rest.not_trust_domains.clear();
        rest == Source::default()
    };
    let from = !rule.from.is_empty() && rule.from.iter().all(only);
    let ports = |operation: &Operation| !operation.ports.is_empty() || !operation.not_ports.is_empty();
    let to = !rule.to.is_empty() && !rule.to.iter().any(ports);
    let when = rule.when.iter().any(|condition| !is_layer_4(&condition.key));
    semantics == Semantics::Istio && (from || to || when)
}
