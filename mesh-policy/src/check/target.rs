//! What an object applies to.

use crate::{
    Code,
    finding::{Path, Report},
    object::{Metadata, Selector, TargetRef},
    waypoint::{Mesh, WAYPOINT_CLASS},
};

pub(super) fn check(
    metadata: &Metadata,
    selector: Option<&Selector>,
    target_ref: Option<&TargetRef>,
    target_refs: &[TargetRef],
    report: &mut Report<'_>,
) {
    let spec = Path::Root.field("spec");
    let fields = [selector.is_some(), target_ref.is_some(), !target_refs.is_empty()];
    if fields.into_iter().filter(|set| *set).count() > 1 {
        report.add(Code::SeveralTargets, spec);
    }
    if target_refs.len() > 16 {
        report.add_with(Code::TooMany, spec.field("targetRefs"), "list at most 16 targets".into());
    }
    if let Some(selector) = selector {
        check_selector(selector, report);
    }
    if let Some(target) = target_ref {
        check_target(metadata, target, spec.field("targetRef"), report);
    }
    let list = spec.field("targetRefs");
    for (index, target) in target_refs.iter().enumerate() {
        check_target(metadata, target, list.index(index), report);
    }
}

/// Policies for all waypoints are looked at in the root namespace only.
pub(super) fn check_classes(
    metadata: &Metadata,
    target_ref: Option<&TargetRef>,
    target_refs: &[TargetRef],
    mesh: &Mesh,
    report: &mut Report<'_>,
) {
    if metadata.namespace == mesh.root_namespace {
        return;
    }
    let is_class = |target: &TargetRef| target.kind == "GatewayClass" && target.name == WAYPOINT_CLASS;
    let spec = Path::Root.field("spec");
    if let Some(target) = target_ref.filter(|target| is_class(target)) {
        report.value(Code::TargetClass, spec.field("targetRef"), &target.name);
    }
    let list = spec.field("targetRefs");
    for (index, target) in target_refs.iter().enumerate().filter(|(_, target)| is_class(target)) {
        report.value(Code::TargetClass, list.index(index), &target.name);
    }
}

pub(super) fn check_selector(selector: &Selector, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    let selector_path = spec.field("selector");
    let labels = selector_path.field("matchLabels");
    for (key, value) in &selector.match_labels {
        if key.is_empty() || key.contains('*') || value.contains('*') {
            report.value(Code::SelectorForm, labels.field(key), value);
        }
    }
}

fn check_target(metadata: &Metadata, target: &TargetRef, path: Path<'_>, report: &mut Report<'_>) {
    let known = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("" | "core", "Service")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
            | ("networking.istio.io", "ServiceEntry")
    );
    if !known || target.name.is_empty() {
        let value = format!("{}/{} {}", target.group, target.kind, target.name);
        report.value(Code::TargetForm, path, &value);
    } else if target.kind == "GatewayClass" && target.name != WAYPOINT_CLASS {
        report.value(Code::TargetClass, path, &target.name);
    }
    if !target.namespace.is_empty() && target.namespace != metadata.namespace {
        report.value(Code::TargetNamespace, path.field("namespace"), &target.namespace);
    }
}
