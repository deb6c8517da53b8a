//! Reads manifests.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use mesh_policy::{
    crd::{Reading, cut, read_file},
    object::ObjectError,
    waypoint::{ExtensionProvider, PathNormalization, ProviderProtocol},
};
use mesh_proxy::{config::local::LocalConfig, state::Change};
use serde_json::Value;
use thiserror::Error;

use super::{
    options::{Job, Options},
    world::{Gateway, GatewayName, Service, ServicePort, WaypointUse, Workload, World, listed},
};

/// Reads everything that the command line names.
pub(super) fn load(options: &Options) -> Result<World, LoadError> {
    let mut world = World::default();
    let mut reading = Reading::default();
    for path in &options.files {
        for file in files(path).map_err(|source| LoadError::Read { path: path.clone(), source })? {
            let text =
                fs::read_to_string(&file).map_err(|source| LoadError::Read { path: file.clone(), source })?;
            world
                .add(&file, &text, &mut reading)
                .map_err(|problem| LoadError::Local { path: file, problem })?;
        }
    }
    match options.job {
        // Lint shows everything; what cannot be read is shown with it, and the rest is looked at.
        Job::Lint if !options.fail_closed => world.keep_readable(&reading),
        _ => {
            world.set_objects(reading, options.semantics, options.fail_closed).map_err(LoadError::Policies)?
        }
    }
    if let Some(domain) = &options.trust_domain {
        world.settings.mesh.trust_domain.clone_from(domain);
    }
    if let Some(namespace) = &options.root_namespace {
        world.settings.mesh.root_namespace.clone_from(namespace);
    }
    Ok(world)
}

/// Why a mesh cannot be read.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    #[error("{}: {problem}", path.display())]
    Local { path: PathBuf, problem: String },
    #[error("{}", listed(.0.findings()))]
    Policies(ObjectError),
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// The file, or those of a folder and the folders in it, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        // Mounted volumes keep what they had, and version control its own, under such names.
        if entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let manifest =
            entry.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json");
        // Links are not followed: a folder may link to itself.
        if fs::symlink_metadata(&entry)?.is_dir() {
            found.extend(files(&entry)?);
        } else if manifest {
            found.push(entry);
        }
    }
    Ok(found)
}

impl World {
    /// Adds what a text holds; the policies among it go into the reading.
    pub(super) fn add(&mut self, file: &Path, text: &str, reading: &mut Reading) -> Result<(), String> {
        let documents = values(text);
        // A local configuration has no kind, and is one document.
        if let [only] = documents.as_slice()
            && only.get("kind").is_none()
            && ["workloads", "services", "policies"].iter().any(|name| only.get(name).is_some())
        {
            return self.add_local(text, Some(file));
        }
        for document in &documents {
            self.add_object(document);
        }
        reading.extend(read_file(file.to_string_lossy(), text));
        Ok(())
    }

    pub(super) fn add_local(&mut self, text: &str, file: Option<&Path>) -> Result<(), String> {
        let config: LocalConfig = text.parse().map_err(|error| format!("{error}"))?;
        for change in config.into_changes() {
            match change {
                Change::UpsertPolicy(policy) => {
                    if let Some(file) = file {
                        self.wire_files.push((policy.name.clone(), file.to_owned()));
                    }
                    self.wire.push(policy);
                }
                Change::UpsertWorkload(workload) => {
                    let waypoint = WaypointUse::Inherited;
                    self.workloads.push(Workload {
                        namespace: workload.namespace().to_string(),
                        name: workload.name.to_string(),
                        service_account: workload.service_account().to_string(),
                        addresses: workload.addresses.clone(),
                        listed: workload.authorization_policies.clone(),
                        labels: BTreeMap::new(),
                        ports: BTreeMap::new(),
                        waypoint,
                    });
                }
                Change::UpsertService(service) => {
                    let name = service.id.hostname().split('.').next().unwrap_or_default();
                    self.services.push(Service {
                        namespace: service.id.namespace().to_string(),
                        name: name.to_owned(),
                        ..Service::default()
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn add_object(&mut self, object: &Value) {
        if let Some(items) = object.get("items").and_then(Value::as_array) {
            return items.iter().for_each(|item| self.add_object(item));
        }
        let kind = text(object, "/kind");
        let (namespace, name) = (namespace(object), text(object, "/metadata/name").to_owned());
        match kind {
            "Namespace" => {
                let use_of = waypoint_use(object.pointer("/metadata/labels"), &name);
                self.namespaces.insert(name, use_of);
            }
            "Pod" => self.workloads.push(workload(object, object, namespace, name)),
            "Deployment" | "DaemonSet" | "ReplicaSet" | "StatefulSet" | "Job" => {
                if let Some(template) = object.pointer("/spec/template") {
                    self.workloads.push(workload(object, template, namespace, name));
                }
            }
            "CronJob" => {
                if let Some(template) = object.pointer("/spec/jobTemplate/spec/template") {
                    self.workloads.push(workload(object, template, namespace, name));
                }
            }
            "WorkloadEntry" => {
                let mut found = Workload { namespace, name, ..Workload::default() };
                found.labels = labels(object.pointer("/spec/labels"));
                found.labels.extend(labels(object.pointer("/metadata/labels")));
                found.service_account = text(object, "/spec/serviceAccount").to_owned();
                found.addresses.extend(text(object, "/spec/address").parse::<IpAddr>());
                self.workloads.push(found);
            }
            "Service" => self.services.push(service(object, namespace, name)),
            "ServiceEntry" => {
                let mut found = service(object, namespace, name);
                found.is_entry = true;
                found.selector = labels(object.pointer("/spec/workloadSelector/labels"));
                self.services.push(found);
            }
            "Gateway" if text(object, "/apiVersion").starts_with("gateway.networking.k8s.io/") => {
                let class = text(object, "/spec/gatewayClassName");
                let is_waypoint = class.ends_with("waypoint");
                self.gateways.push(Gateway { name: GatewayName { namespace, name }, is_waypoint });
            }
            "ConfigMap" if name == "istio" || name.starts_with("istio-") => {
                let mesh: Option<Value> = serde_yaml_ng::from_str(text(object, "/data/mesh")).ok();
                if let Some(mesh) = mesh.filter(Value::is_object) {
                    self.set_mesh(&mesh);
                }
            }
            _ => {}
        }
    }

    /// Takes what a mesh configuration says.
    fn set_mesh(&mut self, config: &Value) {
        let mesh = &mut self.settings.mesh;
        for (field, pointer) in
            [(&mut mesh.trust_domain, "/trustDomain"), (&mut mesh.root_namespace, "/rootNamespace")]
        {
            if !text(config, pointer).is_empty() {
                *field = text(config, pointer).to_owned();
            }
        }
        let aliases = config.pointer("/trustDomainAliases").and_then(Value::as_array);
        mesh.trust_domain_aliases
            .extend(aliases.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        let providers = config.pointer("/extensionProviders").and_then(Value::as_array);
        for provider in providers.into_iter().flatten() {
            for (field, protocol) in [
                ("/envoyExtAuthzGrpc", ProviderProtocol::Grpc),
                ("/envoyExtAuthzHttp", ProviderProtocol::Http),
            ] {
                if let Some(asked) = provider.pointer(field) {
                    let fail_open = asked.get("failOpen").and_then(Value::as_bool).unwrap_or(false);
                    let settings = ExtensionProvider { protocol, fail_open };
                    mesh.providers.insert(text(provider, "/name").to_owned(), settings);
                }
            }
        }
        if let Some(normalization) = parse_normalization(text(config, "/pathNormalization/normalization")) {
            self.settings.normalization = normalization;
        }
        let hops = config.pointer("/defaultConfig/gatewayTopology/numTrustedProxies").and_then(Value::as_u64);
        if let Some(hops) = hops.and_then(|hops| usize::try_from(hops).ok()) {
            self.settings.forwarded_for.trusted_hops = hops;
        }
    }
}

/// As mesh configurations write it.
pub(super) fn parse_normalization(name: &str) -> Option<PathNormalization> {
    match name.to_ascii_uppercase().as_str() {
        "BASE" | "DEFAULT" => Some(PathNormalization::Base),
        "DECODE_AND_MERGE_SLASHES" => Some(PathNormalization::DecodeAndMergeSlashes),
        "MERGE_SLASHES" => Some(PathNormalization::MergeSlashes),
        "NONE" => Some(PathNormalization::None),
        _ => None,
    }
}

fn workload(object: &Value, template: &Value, namespace: String, name: String) -> Workload {
    let labels = labels(template.pointer("/metadata/labels"));
    let mut ports = BTreeMap::new();
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    for port in containers.into_iter().flatten().filter_map(|one| one.get("ports")?.as_array()).flatten() {
        let number =
            port.get("containerPort").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        if let (name, Some(number)) = (text(port, "/name"), number) {
            ports.entry(name.to_owned()).or_insert(number);
        }
    }
    let waypoint = waypoint_use(template.pointer("/metadata/labels"), &namespace);
    Workload {
        service_account: text(template, "/spec/serviceAccountName").to_owned(),
        addresses: text(object, "/status/podIP").parse().into_iter().collect(),
        listed: Vec::new(),
        namespace,
        name,
        labels,
        ports,
        waypoint,
    }
}

fn service(object: &Value, namespace: String, name: String) -> Service {
    let ports = object.pointer("/spec/ports").and_then(Value::as_array);
    let ports = ports.into_iter().flatten().filter_map(|port| {
        let number = ["port", "number"].iter().find_map(|name| port.get(name)?.as_u64())?;
        let target = port
            .get("targetPort")
            .map(|target| target.as_str().map_or_else(|| target.to_string(), str::to_owned));
        let protocol = [text(port, "/appProtocol"), text(port, "/protocol"), text(port, "/name")];
        Some(ServicePort {
            port: u16::try_from(number).ok()?,
            target: target.unwrap_or_default(),
            is_http: is_http(protocol),
        })
    });
    let addresses = object.pointer("/spec/addresses").and_then(Value::as_array);
    let addresses = addresses.into_iter().flatten().filter_map(|address| address.as_str()?.parse().ok());
    Service {
        ports: ports.collect(),
        addresses: text(object, "/spec/clusterIP").parse().into_iter().chain(addresses).collect(),
        selector: labels(object.pointer("/spec/selector")),
        is_entry: false,
        waypoint: waypoint_use(object.pointer("/metadata/labels"), &namespace),
        namespace,
        name,
    }
}

/// What the protocol of a port, or the name that may hold it, says: `http`, `http-web`, `kubernetes.io/h2c`, `tcp`.
fn is_http(texts: [&str; 3]) -> Option<bool> {
    texts.into_iter().find_map(|text| {
        let last = text.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        match last.split('-').next().unwrap_or_default() {
            "http" | "http2" | "grpc" | "h2c" | "ws" => Some(true),
            // That is the transport, and the default, in a Service; an entry's says more.
            "tcp" if text == "TCP" => None,
            "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" | "wss" => Some(false),
            _ => None,
        }
    })
}

/// What the labels that name a waypoint say.
fn waypoint_use(all: Option<&Value>, namespace: &str) -> WaypointUse {
    let all = labels(all);
    match all.get("istio.io/use-waypoint").map(String::as_str) {
        None | Some("") => WaypointUse::Inherited,
        Some("none") => WaypointUse::None,
        Some(name) => {
            let elsewhere = all.get("istio.io/use-waypoint-namespace").map_or(namespace, String::as_str);
            WaypointUse::Named(GatewayName { namespace: elsewhere.to_owned(), name: name.to_owned() })
        }
    }
}

fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let map = value.and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn namespace(object: &Value) -> String {
    match text(object, "/metadata/namespace") {
        "" => "default".to_owned(),
        namespace => namespace.to_owned(),
    }
}

/// The documents of a text that can be read, whatever else is in it; policies are read elsewhere, with what is wrong with
/// them.
fn values(text: &str) -> Vec<Value> {
    let json = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>();
    json.unwrap_or_else(|_| cut(text).filter_map(value).collect())
}

fn value(document: &str) -> Option<Value> {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(document).ok()?;
    value.apply_merge().ok()?;
    serde_json::to_value(value).ok().filter(|value| !value.is_null())
}
