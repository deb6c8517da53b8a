//! The policies of a line.

use mesh_policy::{
    Finding, MissingPolicy, Scope, Semantics,
    crd::{Reading, read},
    object::Extent,
    waypoint::{ExtensionProvider, ProviderProtocol},
};
use serde_json::{Value, json};

use super::{
    Fault,
    line::{Line, ProviderLine},
};
use crate::explain::{
    manifests::parse_normalization,
    world::{CompileError, Compiled, Settings, World},
};

/// All that the policies of a line are compiled from: equal for lines that can share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    /// As they are in the line; those of the folder if nothing.
    text: Option<String>,
    mesh: String,
    providers: Vec<String>,
    semantics: Semantics,
    fail_closed: bool,
    /// Whether the line says nothing of what is reached, so that all policies are taken to apply to it.
    pub(super) all_apply: bool,
}

/// Policies in use for some lines.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) world: Option<World>,
    pub(super) compiled: Compiled,
    pub(super) settings: Settings,
    pub(super) semantics: Semantics,
    pub(super) all_apply: bool,
    /// What of the policies is not used as it is written, in Istio's reading, or stands closed.
    pub(super) problems: Vec<Value>,
    /// What stands for objects that are refused.
    pub(super) stand_ins: Vec<Value>,
}

impl Source {
    pub(super) fn new(line: &Line, semantics: Semantics, fail_closed: bool) -> Result<Self, Fault> {
        let text = line.policies.as_ref().map(Value::to_string);
        // Providers that answer exist.
        let providers = line.answers.keys().cloned().collect();
        let nothing = line.workload.is_none() && line.namespace.is_none() && line.labels.is_none();
        let nowhere = line.service.is_none() && line.waypoint.is_none() && line.gateway.is_none();
        let mesh = format!("{:?}", line.mesh);
        Ok(Self { text, mesh, providers, semantics, fail_closed, all_apply: nothing && nowhere })
    }
}

impl Used {
    pub(super) fn new(world: &World, source: &Source, line: &Line) -> Result<Self, Fault> {
        let settings = settings(&world.settings, line)?;
        let own = line.policies.as_ref().map(|policies| inline(world, policies, source)).transpose()?;
        let mut used = own;
        if source.all_apply {
            let mut applied = used.take().unwrap_or_else(|| world.clone());
            apply_to_all(&mut applied);
            used = Some(applied);
        }
        let compiled =
            used.as_ref().unwrap_or(world).compile(&settings, source.semantics, source.fail_closed);
        let mut compiled = compiled.map_err(|error| match error {
            error @ CompileError::Duplicate { .. } => Fault::new(error.to_string()),
            CompileError::Refused(findings) => refused(&findings),
        })?;
        if let Some(missing) = &line.mesh.missing_policy {
            let missing = match missing.to_ascii_lowercase().as_str() {
                "deny" => MissingPolicy::Deny,
                "skip" => MissingPolicy::Skip,
                _ => return Err(Fault::new(format!("missingPolicy `{missing}`: write deny or skip"))),
            };
            let policies = compiled.node.iter().cloned();
            let node = mesh_policy::PolicySet::builder().missing(missing).policies(policies).build();
            compiled.node = node.map_err(|error| Fault::new(error.to_string()))?;
        }
        let Source { semantics, all_apply, .. } = *source;
        let of = used.as_ref().unwrap_or(world);
        let problems = of.findings.iter().map(|finding| json!(finding)).collect();
        let stand_ins = if source.fail_closed { of.stand_ins(&settings, semantics) } else { Vec::new() };
        let stand_ins = stand_ins.iter().map(|one| json!(one)).collect();
        Ok(Self { world: used, compiled, settings, semantics, all_apply, problems, stand_ins })
    }
}

/// The policies in a line: a text, an object, or a list of either.
fn inline(world: &World, policies: &Value, source: &Source) -> Result<World, Fault> {
    let mut own = world.without_policies();
    let mut reading = Reading::default();
    let one;
    let parts = match policies {
        Value::Array(parts) => parts.as_slice(),
        _ => {
            one = [policies.clone()];
            &one
        }
    };
    let mut wire = Vec::new();
    for part in parts {
        match part {
            Value::String(text) => reading.extend(read(text)),
            // Only the form of the wire has no kind.
            Value::Object(fields) if !fields.contains_key("kind") && fields.contains_key("scope") => {
                wire.push(part.clone())
            }
            Value::Null => {}
            _ => reading.extend(read(&part.to_string())),
        }
    }
    if !wire.is_empty() {
        own.add_local(&json!({ "policies": wire }).to_string(), None).map_err(Fault::new)?;
    }
    let set = own.set_objects(reading, source.semantics, source.fail_closed);
    set.map_err(|error| refused(error.findings()))?;
    Ok(own)
}

fn refused(findings: &[Finding]) -> Fault {
    let problems = findings.iter().map(|finding| json!(finding)).collect();
    let first = findings.first().map(Finding::to_string).unwrap_or_default();
    let error = match findings.len() {
        0 | 1 => first,
        several => format!("{first} (and {} more)", several - 1),
    };
    Fault { error, problems }
}

fn settings(base: &Settings, line: &Line) -> Result<Settings, Fault> {
    let mut settings = base.clone();
    let mesh = &mut settings.mesh;
    let line_mesh = &line.mesh;
    mesh.trust_domain = line_mesh.trust_domain.clone().unwrap_or_else(|| mesh.trust_domain.clone());
    mesh.root_namespace = line_mesh.root_namespace.clone().unwrap_or_else(|| mesh.root_namespace.clone());
    if let Some(aliases) = &line_mesh.trust_domain_aliases {
        mesh.trust_domain_aliases.clone_from(aliases);
    }
    mesh.multiple_providers = line_mesh.multiple_providers.unwrap_or(mesh.multiple_providers);
    for (name, provider) in line_mesh.providers.iter().flatten() {
        let (protocol, fail_open) = match provider {
            ProviderLine::Protocol(protocol) => (protocol, false),
            ProviderLine::Settings(settings) => (&settings.protocol, settings.fail_open),
        };
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "grpc" => ProviderProtocol::Grpc,
            "http" => ProviderProtocol::Http,
            _ => return Err(Fault::new(format!("provider protocol `{protocol}`: write http or grpc"))),
        };
        mesh.providers.insert(name.clone(), ExtensionProvider { protocol, fail_open });
    }
    for name in line.answers.keys() {
        let grpc = ExtensionProvider { protocol: ProviderProtocol::Grpc, fail_open: false };
        mesh.providers.entry(name.clone()).or_insert(grpc);
    }
    if let Some(name) = &line_mesh.path_normalization {
        settings.normalization = parse_normalization(name)
            .ok_or_else(|| Fault::new(format!("pathNormalization `{name}` is none of Istio's")))?;
    }
    let forwarded_for = &mut settings.forwarded_for;
    forwarded_for.trusted_hops = line_mesh.trusted_hops.unwrap_or(forwarded_for.trusted_hops);
    forwarded_for.use_remote_address =
        line_mesh.use_remote_address.unwrap_or(forwarded_for.use_remote_address);
    Ok(settings)
}

/// Makes all policies apply to everything: those of the folder or the line are meant, and what they apply to was not
/// said.
fn apply_to_all(world: &mut World) {
    world.objects.authorization.iter_mut().for_each(|policy| policy.extent = Extent::Mesh);
    world.objects.peer.iter_mut().for_each(|policy| policy.extent = Extent::Mesh);
    world.wire.iter_mut().for_each(|policy| policy.scope = Scope::Global);
}
