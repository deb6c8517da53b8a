//! Values that match nothing, or not what they seem to.

use ipnet::IpNet;

use super::About;
use crate::{
    Code, Semantics,
    finding::{Path, Report},
    object::{Action, Condition, Operation, Source},
    waypoint::{Attribute, has_inner_wildcard, text::has_more_parts},
};

pub(super) fn check(about: About<'_>, report: &mut Report<'_>) {
    about.for_each_rule(|rule, path| {
        let from = path.field("from");
        for (index, source) in rule.from.iter().enumerate() {
            check_source(about, source, from.index(index).field("source"), report);
        }
        let to = path.field("to");
        for (index, operation) in rule.to.iter().enumerate() {
            check_operation(about, operation, to.index(index).field("operation"), report);
        }
        let when = path.field("when");
        for (index, condition) in rule.when.iter().enumerate() {
            check_condition(about, condition, when.index(index), report);
        }
    });
}

/// Calls with each value and its path.
fn each(values: &[String], path: Path<'_>, mut visit: impl FnMut(&str, Path<'_>)) {
    values.iter().enumerate().for_each(|(index, text)| visit(text, path.index(index)));
}

fn check_source(about: About<'_>, source: &Source, path: Path<'_>, report: &mut Report<'_>) {
    for (name, values) in [("principals", &source.principals), ("notPrincipals", &source.not_principals)] {
        each(values, path.field(name), |text, path| principal(about, text, path, report));
    }
    for (name, values) in [("namespaces", &source.namespaces), ("notNamespaces", &source.not_namespaces)] {
        each(values, path.field(name), |text, path| namespace(text, path, report));
    }
    for (name, values) in [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ] {
        each(values, path.field(name), |text, path| address(text, path, report));
    }
}

fn check_operation(about: About<'_>, operation: &Operation, path: Path<'_>, report: &mut Report<'_>) {
    let denies = about.policy.action == Action::Deny;
    // What a rule fails to match is let through: of a DENY by a value, of others by a negated one.
    for (name, values, evadable) in
        [("hosts", &operation.hosts, denies), ("notHosts", &operation.not_hosts, !denies)]
    {
        // Strictly, none of these ways leads around it.
        let evadable = evadable && about.surroundings.semantics == Semantics::Istio;
        each(values, path.field(name), |text, path| {
            if text.contains('/') {
                report.value(Code::HostForm, path, text);
            } else if !text.is_ascii() {
                let instead = "write the name as it is sent, in ASCII: `xn--…`".to_owned();
                report.value_with(Code::HostForm, path, text, instead);
            } else if evadable && !text.contains(':') && !text.ends_with('*') {
                let listed = |rest: &str| values.iter().any(|other| other.strip_prefix(text) == Some(rest));
                match text.starts_with('*') {
                    true => report.value(Code::HostPort, path, text),
                    false if listed(":*") && listed(".*") => {}
                    false => {
                        let instead = format!("list `{text}:*` and `{text}.*` as well");
                        report.value_with(Code::HostPort, path, text, instead);
                    }
                }
            }
        });
    }
    for (name, values) in [("ports", &operation.ports), ("notPorts", &operation.not_ports)] {
        each(values, path.field(name), |text, path| port(about, text, path, report));
    }
    for (name, values) in [("methods", &operation.methods), ("notMethods", &operation.not_methods)] {
        each(values, path.field(name), |text, path| {
            wildcard(text, path, report);
            if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
                report.value_with(
                    Code::MethodCase,
                    path,
                    text,
                    format!("write `{}`", text.to_ascii_uppercase()),
                );
            }
        });
    }
    for (name, values, evadable) in
        [("paths", &operation.paths, denies), ("notPaths", &operation.not_paths, !denies)]
    {
        each(values, path.field(name), |text, path| {
            request_path(about, values, text, evadable, path, report)
        });
    }
}

fn check_condition(about: About<'_>, condition: &Condition, path: Path<'_>, report: &mut Report<'_>) {
    let Ok(attribute) = Attribute::parse(&condition.key) else { return };
    if matches!(&attribute, Attribute::Claim(names) if names.iter().any(|name| name.contains(['[', ']']))) {
        report.value(Code::ClaimBrackets, path.field("key"), &condition.key);
    }
    for (name, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        each(values, path.field(name), |text, path| match &attribute {
            Attribute::DestinationIp | Attribute::RemoteIp | Attribute::SourceIp => {
                address(text, path, report);
            }
            Attribute::DestinationPort => port(about, text, path, report),
            Attribute::Sni => {
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    let instead = format!("write `{}`", text.to_ascii_lowercase());
                    report.value_with(Code::ServerNameCase, path, text, instead);
                }
            }
            Attribute::Namespace => namespace(text, path, report),
            Attribute::Principal => principal(about, text, path, report),
            Attribute::Claim(_) => {
                wildcard(text, path, report);
                if text == "true" || text == "false" || text.parse::<f64>().is_ok() {
                    report.value(Code::ClaimNotText, path, text);
                }
            }
            Attribute::Header(_) => {
                wildcard(text, path, report);
                if text.contains(',') {
                    report.value(Code::HeaderComma, path, text);
                }
            }
            Attribute::Audience | Attribute::Metadata { .. } | Attribute::Presenter => {
                wildcard(text, path, report);
            }
            Attribute::Host
            | Attribute::Method
            | Attribute::Path
            | Attribute::RequestPrincipal
            | Attribute::ServiceAccount
            | Attribute::TrustDomain => {}
        });
    }
}

/// A star that is neither alone nor at one end.
fn wildcard(text: &str, path: Path<'_>, report: &mut Report<'_>) {
    if has_inner_wildcard(text) {
        report.value(Code::LiteralWildcard, path, text);
    }
}

fn principal(about: About<'_>, text: &str, path: Path<'_>, report: &mut Report<'_>) {
    if text.contains("://") {
        let instead = format!("write `{}`", text.split_once("://").map_or(text, |(_, rest)| rest));
        return report.value_with(Code::PrincipalScheme, path, text, instead);
    }
    if has_inner_wildcard(text) || has_more_parts(text) {
        // Refused.
        return;
    }
    let parts: Vec<_> = text.split('/').collect();
    let [domain, rest @ ..] = parts.as_slice() else { return };
    if !text.contains('*')
        && !matches!(rest, ["ns", namespace, "sa", account] if !namespace.is_empty() && !account.is_empty())
    {
        return report.value(Code::PrincipalForm, path, text);
    }
    if text.contains('*') && !may_be_istios(text) {
        return report.value(Code::PrincipalForm, path, text);
    }
    if rest.is_empty() || domain.contains('*') {
        return;
    }
    let mesh = &about.surroundings.mesh;
    if *domain == "cluster.local" && mesh.trust_domain != "cluster.local" {
        return report.value(Code::ClusterLocal, path, text);
    }
    let known =
        [&mesh.trust_domain].into_iter().chain(&mesh.trust_domain_aliases).any(|known| known == domain);
    if !known && *domain != "cluster.local" {
        report.value(Code::PrincipalForeign, path, text);
    }
}

/// Whether some principal of Istio's form begins, or ends, as one with a wildcard says.
fn may_be_istios(text: &str) -> bool {
    let form = ["", "ns", "", "sa", ""];
    let fits = |part: &str, named: &str, is_cut: bool| match (named, is_cut) {
        ("", false) => !part.is_empty(),
        ("", true) => true,
        (named, false) => part == named,
        (named, true) => named.starts_with(part),
    };
    if let Some(prefix) = text.strip_suffix('*') {
        let parts: Vec<_> = prefix.split('/').collect();
        let last = parts.len() - 1;
        return parts.len() <= form.len()
            && parts
                .iter()
                .zip(form)
                .enumerate()
                .all(|(index, (part, named))| fits(part, named, index == last));
    }
    let suffix = text.strip_prefix('*').unwrap_or(text);
    let parts: Vec<_> = suffix.rsplit('/').collect();
    let last = parts.len() - 1;
    let cut = |part: &str, named: &str| named.is_empty() || named.ends_with(part);
    parts.len() <= form.len()
        && parts.iter().zip(form.iter().rev()).enumerate().all(|(index, (part, named))| match index == last {
            true => cut(part, named),
            false => fits(part, named, false),
        })
}

fn namespace(text: &str, path: Path<'_>, report: &mut Report<'_>) {
    if text.contains('/') {
        report.value(Code::NamespaceForm, path, text);
    } else if has_inner_wildcard(text) {
        report.value(Code::NamespaceWildcard, path, text);
    }
}

fn address(text: &str, path: Path<'_>, report: &mut Report<'_>) {
    let range = text.parse::<IpNet>().ok();
    if let Some(range) = range.filter(|range| range.trunc() != *range) {
        report.value_with(Code::HostBits, path, text, format!("write `{}`", range.trunc()));
    }
}

fn port(about: About<'_>, text: &str, path: Path<'_>, report: &mut Report<'_>) {
    let Ok(port) = text.parse::<u16>() else { return };
    if port == 0 {
        return report.value(Code::PortZero, path, text);
    }
    let Some(selected) = about.selected().filter(|_| about.is_at_node()) else { return };
    let known: Vec<_> = selected.filter(|workload| !workload.ports.is_empty()).collect();
    if !known.is_empty() && !known.iter().any(|workload| workload.ports.contains(&port)) {
        report.value(Code::ServicePort, path, text);
    }
}

fn request_path(
    about: About<'_>,
    all: &[String],
    text: &str,
    evadable: bool,
    path: Path<'_>,
    report: &mut Report<'_>,
) {
    if text.contains("{*}") || text.contains("{**}") {
        if let Some(before) = text.strip_suffix("/{**}") {
            if evadable && !before.is_empty() && !all.iter().any(|other| other == before) {
                report.value_with(Code::PathRest, path, text, format!("list `{before}` as well"));
            }
        } else if text.ends_with("{**}/") {
            report.value(Code::PathRestSlash, path, text);
        }
        return;
    }
    if has_inner_wildcard(text) {
        return report.value(Code::LiteralWildcard, path, text);
    }
    if text.contains(['?', '#']) || !text.starts_with(['/', '*']) {
        return report.value(Code::PathForm, path, text);
    }
    let fixed = text.trim_matches('*');
    let normalization = about.surroundings.normalization;
    if fixed.starts_with('/')
        && let Ok(normal) = normalization.normalize(fixed, Semantics::Istio)
        && normal != fixed
    {
        let star = if text.ends_with('*') { "*" } else { "" };
        return report.value_with(Code::PathNotNormal, path, text, format!("write `{normal}{star}`"));
    }
    let slashes_merge =
        normalization.normalize("/a%2F/b", Semantics::Istio).is_ok_and(|normal| normal == "/a/b");
    if evadable && !slashes_merge && !matches!(text, "*" | "/" | "/*") {
        report.value(Code::PathSlashes, path, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_may_stand_for_part_of_istios_form_only() {
        for text in [
            "*",
            "example*",
            "example.org/*",
            "example.org/ns/*",
            "example.org/n*",
            "example.org/ns/shop/sa/*",
            "example.org/ns/shop/sa/c*",
            "*/cart",
            "*cart",
            "*sa/cart",
            "*a/cart",
            "*/ns/shop/sa/cart",
            "*.org/ns/shop/sa/cart",
        ] {
            assert!(may_be_istios(text), "{text}");
        }
        for text in [
            "example.org/batch/*",
            "example.org/ns/a/x/*",
            "example.org//*",
            "example.org/ns//*",
            "*/shop/cart",
            "*/x/ns/shop/sa/cart",
            "*/sa/",
            "example.org/ns/shop/sa/cart/*",
        ] {
            assert!(!may_be_istios(text), "{text}");
        }
    }
}
