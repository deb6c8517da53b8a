//! The policies of a line.

use mesh_policy::{
    MissingPolicy, Semantics,
    crd::{Reading, read},
    object::{AuthorizationPolicy, ObjectError, PolicyObjects},
    waypoint::{ExtensionProvider, ProviderProtocol},
};
use serde_json::{Value, json};

use super::{
    Fault,
    line::{Line, ProviderLine},
};
use crate::explain::{
    manifests::parse_normalization,
    reach::{UNSAID_NAMESPACE, unsaid_labels},
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
            apply_to_all(&mut applied, &settings);
            used = Some(applied);
        }
        let compiled =
            used.as_ref().unwrap_or(world).compile(&settings, source.semantics, source.fail_closed);
        let mut compiled = compiled.map_err(|error| match error {
            CompileError::Duplicate(error) => Fault::new(error.to_string()),
            CompileError::Refused(error) => refused(&error),
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
        let problems = used.as_ref().unwrap_or(world).findings.iter().map(|finding| json!(finding)).collect();
        Ok(Self { world: used, compiled, settings, semantics, all_apply, problems })
    }
}

/// The policies in a line: a text, an object, or a list of either.
fn inline(world: &World, policies: &Value, source: &Source) -> Result<World, Fault> {
    let mut own = World { objects: PolicyObjects::default(), wire: Vec::new(), ..world.clone() };
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
        own.add_local(&json!({ "policies": wire }).to_string()).map_err(Fault::new)?;
    }
    let findings = reading.findings().cloned().collect();
    let objects = match source.fail_closed {
        true => reading.fail_closed(source.semantics),
        false => reading.into_objects(source.semantics),
    };
    own.findings = findings;
    own.objects = objects.map_err(|error| refused(&error))?;
    Ok(own)
}

fn refused(error: &ObjectError) -> Fault {
    let problems = error.findings().iter().map(|finding| json!(finding)).collect();
    Fault { error: error.to_string(), problems }
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

/// Makes all policies apply to everything: those of the folder or the line are meant, and what they apply to was
/// not said. Names keep theirs; a service account without a namespace keeps meaning that of its policy.
fn apply_to_all(world: &mut World, settings: &Settings) {
    let root = &settings.mesh.root_namespace;
    for policy in &mut world.objects.authorization {
        qualify(policy);
        policy.metadata.name = format!("{}/{}", policy.metadata.namespace, policy.metadata.name);
        policy.metadata.namespace.clone_from(root);
        policy.selector = None;
        if policy.targets().next().is_some() {
            world.not_at_node.insert(policy.metadata.policy_name());
        }
        policy.target_ref = None;
        policy.target_refs.clear();
    }
    for policy in &mut world.objects.peer {
        if policy.metadata.namespace != *root {
            policy.metadata.namespace = UNSAID_NAMESPACE.into();
        }
        if let Some(selector) = policy.selector.as_mut().filter(|selector| !selector.match_labels.is_empty())
        {
            selector.match_labels = unsaid_labels();
        }
    }
    for policy in &mut world.wire {
        policy.scope = mesh_policy::Scope::Global;
    }
}

fn qualify(policy: &mut AuthorizationPolicy) {
    let namespace = &policy.metadata.namespace;
    let accounts = policy.rules.iter_mut().flat_map(|rule| {
        let sources = rule
            .from
            .iter_mut()
            .flat_map(|source| [&mut source.service_accounts, &mut source.not_service_accounts]);
        let conditions = rule.when.iter_mut().filter(|condition| condition.key == "source.serviceAccount");
        sources
            .chain(conditions.flat_map(|condition| [&mut condition.values, &mut condition.not_values]))
            .flatten()
    });
    for account in accounts.filter(|account| !account.is_empty() && !account.contains('/')) {
        *account = format!("{namespace}/{account}");
    }
}
