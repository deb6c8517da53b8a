//! What PeerAuthentications and RequestAuthentications do not do.

use super::Surroundings;
use crate::{
    Code, Finding, ObjectRef,
    finding::{Path, Report},
    object::{
        AuthorizationPolicy, MutualTlsMode, PeerAuthentication, PolicyObjects, RequestAuthentication, Source,
    },
};

pub(super) fn check(objects: &PolicyObjects, surroundings: &Surroundings, findings: &mut Vec<Finding>) {
    for policy in &objects.peer {
        let object = ObjectRef::new(PeerAuthentication::KIND, &policy.metadata);
        check_peer(policy, objects, &mut Report::new(&object, findings));
    }
    for policy in &objects.request {
        let object = ObjectRef::new(RequestAuthentication::KIND, &policy.metadata);
        check_request(policy, objects, &mut Report::new(&object, findings));
    }
    for policy in &objects.authorization {
        let root = &surroundings.mesh.root_namespace;
        let validated = objects.request.iter().any(|request| {
            let namespace = &request.metadata.namespace;
            *namespace == policy.metadata.namespace || namespace == root
        });
        if !validated && uses_tokens(policy) {
            let object = ObjectRef::new(AuthorizationPolicy::KIND, &policy.metadata);
            Report::new(&object, findings)
                .add(Code::TokenNeverValidated, Path::Root.field("spec").field("rules"));
        }
    }
}

fn check_peer(policy: &PeerAuthentication, objects: &PolicyObjects, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    let selector = policy.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
    if policy.mtls == MutualTlsMode::Disable {
        report.add(Code::DisableIsPermissive, spec.field("mtls").field("mode"));
    }
    let older = objects.peer.iter().find(|other| {
        let both = other.selector.as_ref().filter(|selector| !selector.match_labels.is_empty()) == selector;
        let age =
            |one: &PeerAuthentication| (one.metadata.creation_timestamp.clone(), one.metadata.name.clone());
        other.metadata.namespace == policy.metadata.namespace && both && age(other) < age(policy)
    });
    if let Some(older) = older {
        report.add_with(Code::Younger, spec, format!("keep one of this and {}", older.metadata));
    }
    let ports = spec.field("portLevelMtls");
    for (port, mode) in &policy.port_level_mtls {
        let same = match (policy.mtls, mode) {
            (_, MutualTlsMode::Unset) | (MutualTlsMode::Strict, MutualTlsMode::Strict) => true,
            (MutualTlsMode::Permissive | MutualTlsMode::Disable, mode) => *mode != MutualTlsMode::Strict,
            // Not an exception from what is inherited.
            (MutualTlsMode::Unset, MutualTlsMode::Disable) => true,
            _ => false,
        };
        if same {
            report.add(Code::PortModeRedundant, ports.field(&port.to_string()));
        }
    }
}

fn check_request(policy: &RequestAuthentication, objects: &PolicyObjects, report: &mut Report<'_>) {
    let spec = Path::Root.field("spec");
    let required = objects
        .authorization
        .iter()
        .any(|other| other.metadata.namespace == policy.metadata.namespace && uses_tokens(other));
    if !required {
        report.add(Code::TokenOptional, spec);
    }
    let rules = spec.field("jwtRules");
    for (index, rule) in policy.jwt_rules.iter().enumerate() {
        let path = rules.index(index);
        match (&rule.jwks, &rule.jwks_uri) {
            (None, None) => report.add(Code::KeysMissing, path),
            (_, Some(uri)) if uri.starts_with("http://") => {
                report.value(Code::KeysPlaintext, path.field("jwksUri"), uri)
            }
            _ => {}
        }
    }
}

fn uses_tokens(policy: &AuthorizationPolicy) -> bool {
    let source =
        |source: &Source| !source.request_principals.is_empty() || !source.not_request_principals.is_empty();
    policy.rules.iter().any(|rule| {
        rule.from.iter().any(source)
            || rule.when.iter().any(|condition| condition.key.starts_with("request.auth."))
    })
}
