//! Whether a policy applies to anything.

use super::About;
use crate::{
    Code, Semantics,
    finding::{Path, Report},
    object::{Source, TargetRef},
};

pub(super) fn check(about: About<'_>, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    if let Some(selector) = about.policy.selector.as_ref().filter(|_| about.is_at_node()) {
        let path = spec.field("selector");
        let nobody = about.selected().is_some_and(|mut selected| selected.next().is_none());
        if selector.match_labels.is_empty() {
            // Refused.
        } else if selector.match_labels.contains_key("gateway.networking.k8s.io/gateway-name") {
            report.add(Code::SelectsWaypoint, path);
        } else if nobody {
            report.add(Code::SelectsNobody, path);
        }
        let mut workloads = about.surroundings.workloads.iter().flatten();
        let namespace = &about.policy.metadata.namespace;
        let unlabelled =
            workloads.any(|workload| workload.labels.is_empty() && workload.namespace == *namespace);
        if unlabelled && about.surroundings.semantics == Semantics::Istio {
            report.add(Code::Unlabelled, path);
        }
    }
    if about.is_at_node() {
        check_hidden(about, report);
    }
    if let Some(target) = &about.policy.target_ref {
        check_target(about, target, spec.field("targetRef"), report);
    }
    let list = spec.field("targetRefs");
    for (index, target) in about.policy.target_refs.iter().enumerate() {
        check_target(about, target, list.index(index), report);
    }
}

/// A rule that names clients where the node proxy sees their waypoint.
fn check_hidden(about: About<'_>, report: &mut Report<'_>) {
    let hidden =
        about.selected().is_some_and(|mut selected| selected.any(|workload| workload.behind_waypoint));
    if !hidden {
        return;
    }
    let gateways = about.surroundings.gateways.iter().flatten();
    let waypoints: Vec<_> = gateways.map(|(namespace, name)| format!("/ns/{namespace}/sa/{name}")).collect();
    let names_waypoint = |source: &Source| {
        let named =
            |principal: &String| waypoints.iter().any(|waypoint| principal.ends_with(waypoint.as_str()));
        source.principals.iter().any(named)
    };
    about.for_each_rule(|rule, path| {
        let names_clients = |source: &Source| {
            let Source { principals, namespaces, service_accounts, ip_blocks, .. } = source;
            [principals, namespaces, service_accounts, ip_blocks].iter().any(|all| !all.is_empty())
        };
        if rule.from.iter().any(|source| names_clients(source) && !names_waypoint(source))
            || rule.when.iter().any(|condition| condition.key.starts_with("source."))
        {
            report.add(Code::WaypointHidesClient, path);
        }
    });
}

fn check_target(about: About<'_>, target: &TargetRef, path: Path<'_>, report: &mut Report<'_>) {
    let namespace = &about.policy.metadata.namespace;
    let surroundings = about.surroundings;
    match target.kind.as_str() {
        "Gateway" => {
            let Some(gateways) = &surroundings.gateways else { return };
            if !gateways.iter().any(|(own, name)| own == namespace && *name == target.name) {
                report.value(Code::TargetMissing, path.field("name"), &target.name);
            }
        }
        "Service" | "ServiceEntry" => {
            let Some(services) = &surroundings.services else { return };
            let is_entry = target.kind == "ServiceEntry";
            let mut named = services
                .iter()
                .filter(|service| service.namespace == *namespace && service.name == target.name);
            match named.find(|service| service.is_entry == is_entry) {
                None => report.value(Code::TargetMissing, path.field("name"), &target.name),
                Some(service) if !service.has_waypoint => {
                    report.value(Code::NeedsWaypoint, path, &target.name)
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
}
