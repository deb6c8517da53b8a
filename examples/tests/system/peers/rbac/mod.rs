//! Envoy decides about real requests and streams by the rules that Istio would give it, and our `Istio` semantics decide
//! the same.

mod bootstrap;
mod claims;
mod requests;
mod streams;
mod translate;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use examples::lab::{Host, Network, Process, Workspace};
use mesh_policy::{
    Semantics,
    crd::read,
    object::AuthorizationPolicy,
    waypoint::{ExtensionProvider, Mesh, PathNormalization, ProviderProtocol},
};
use serde_json::Value;

use super::program;
use crate::runner::{Family, cases};

cases![istio_semantics_are_envoys];

/// Where the identity of the peer is noted, in a waypoint.
const PEER: &str = "io.istio.peer_principal";
/// Where the claims of tokens are noted.
const TOKENS: &str = "envoy.filters.http.jwt_authn";

const PATIENCE: Duration = Duration::from_secs(30);

// policy#61 to policy#75, policy#77 to policy#87, policy#89 to policy#95, policy#100, and part D of the facts.
fn istio_semantics_are_envoys(workspace: &Workspace, _family: Family) {
    let Some(envoy) = program::envoy() else { return };
    let network = Network::new(workspace).unwrap();
    let [client, server] =
        [("client", 10), ("server", 20)].map(|(name, number)| network.host(name, number).unwrap());
    let plain = Mesh::new("cluster.local");
    let mut aliased = Mesh::new("mesh.example.org");
    aliased.trust_domain_aliases = vec!["old.example.org".to_owned()];
    let mut asking = plain.clone();
    let asks = ExtensionProvider { protocol: ProviderProtocol::Http, fail_open: false };
    asking.providers.insert("asks".to_owned(), asks);
    let mut several = asking.clone();
    several.providers.insert("also".to_owned(), asks);
    several.multiple_providers = true;
    // As Istio is unless told otherwise.
    let one_of_them = Mesh { multiple_providers: false, ..several.clone() };
    let base = PathNormalization::Base;
    let http = [
        (requests::POLICIES, &plain, base),
        (requests::ALIASED_POLICIES, &aliased, base),
        (requests::CUSTOM_POLICIES, &asking, base),
        (requests::SEVERAL_PROVIDERS, &several, base),
        (requests::SEVERAL_PROVIDERS, &one_of_them, base),
        (requests::DRY_RUN_POLICIES, &asking, base),
        (requests::PATH_POLICIES, &plain, PathNormalization::MergeSlashes),
        (requests::PATH_POLICIES, &plain, PathNormalization::DecodeAndMergeSlashes),
        (requests::PATH_POLICIES, &plain, PathNormalization::None),
    ];
    let http: Vec<_> = http
        .iter()
        .flat_map(|(specs, mesh, paths)| specs.iter().map(|spec| Set::new(spec, mesh).normalized(*paths)))
        .collect();
    let tcp: Vec<_> = streams::POLICIES
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            bootstrap::stream_ports(index)
                .map(|port| Set::new(&spec.replace("@PORT", &port.to_string()), &plain))
        })
        .collect();
    let named: Vec<_> = streams::NAMED_POLICIES.iter().map(|spec| Set::new(spec, &plain)).collect();
    let config = bootstrap::bootstrap(&http, &tcp, &named, streams::PEER_ID);
    let _envoy = start(&envoy, &server, &config, workspace);
    wait_until_listening(&client, &server);
    let mut differences = requests::compare(&client, &server, &http);
    differences.extend(streams::compare(&client, &server, &tcp));
    differences.extend(streams::compare_named(&client, &server, &named));
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Policies in a mesh.
struct Set {
    spec: String,
    policies: Vec<AuthorizationPolicy>,
    mesh: Mesh,
    paths: PathNormalization,
}

impl Set {
    fn new(specs: &str, mesh: &Mesh) -> Self {
        let (policies, paths) = (policies(specs), PathNormalization::Base);
        Self { spec: specs.to_owned(), policies, mesh: mesh.clone(), paths }
    }

    fn normalized(self, paths: PathNormalization) -> Self {
        Self { paths, ..self }
    }
}

/// The policies of a text: a spec on each line, in the namespace `foo`, in dry run if that stands before it.
fn policies(specs: &str) -> Vec<AuthorizationPolicy> {
    let text: String = specs
        .lines()
        .enumerate()
        .map(|(index, spec)| {
            let (spec, is_dry_run) = match spec.strip_prefix("dry run ") {
                Some(spec) => (spec, true),
                None => (spec, false),
            };
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{namespace: foo, name: policy-{index}, \
                 annotations: {{istio.io/dry-run: '{is_dry_run}'}}}}\nspec: {spec}\n"
            )
        })
        .collect();
    let objects = read(&text).into_objects(Semantics::Istio);
    objects.unwrap_or_else(|error| panic!("{specs}: {error}")).authorization
}

/// It says that its workers start before they listen.
fn wait_until_listening(client: &Host, server: &Host) {
    let start = Instant::now();
    let port = bootstrap::http_port(PathNormalization::Base);
    while let Err(error) = client.connect((server.v4(), port).into()) {
        assert!(start.elapsed() < PATIENCE, "{error}");
        thread::yield_now();
    }
}

fn start(program: &Path, host: &Host, config: &Value, workspace: &Workspace) -> Process {
    let file = program::file(workspace, config.to_string().as_bytes());
    let named = file.with_extension("json");
    std::fs::rename(file, &named).unwrap();
    let mut command = host.command(program).unwrap();
    command.args(["--disable-hot-restart", "--log-format", "%L %v", "--concurrency", "1", "-c"]).arg(named);
    let process = host.spawn(command).unwrap();
    let started = process.output().wait_for(PATIENCE, |line| line.contains("starting workers").then_some(()));
    started.unwrap_or_else(|| panic!("Envoy does not start: {:?}", process.output().lines()));
    process
}
