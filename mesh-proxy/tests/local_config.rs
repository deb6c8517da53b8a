//! The local configuration file: its format, its errors, and re-reading it.

#![cfg(feature = "local-config")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, io::ErrorKind, path::PathBuf, sync::Arc, time::Duration};

use mesh_policy::{MissingPolicy, StringMatch};
use mesh_proxy::{
    config::local::{
        LocalConfig, LocalConfigError, LocalConfigFile, PolicyDocument, ServiceDocument, WorkloadDocument,
    },
    state::{
        ApplicationTunnelProtocol, GatewayDestination, Health, IpFamilies, LoadBalancerMode, NetworkMode,
        Protocol, Scope, Snapshot, StateStore, Visibility, WorkloadKey, WorkloadType,
    },
};
use serde_json::{Value, json};

const TWO_PODS: &str = include_str!("data/two-pods.yaml");
const EVERY_KEY: &str = include_str!("data/every-key.yaml");

fn read(yaml: &str) -> Arc<Snapshot> {
    let store = StateStore::new(None, MissingPolicy::Deny);
    store.apply(yaml.parse::<LocalConfig>().unwrap().into_changes());
    store.load()
}

fn problem(yaml: &str) -> String {
    yaml.parse::<LocalConfig>().unwrap_err().to_string()
}

// control-plane#63, control-plane#81
#[test]
fn sample_links_its_service_to_its_endpoint() {
    let snapshot = read(TWO_PODS);
    assert!(snapshot.is_synced());
    let service = snapshot.service_at(&"/198.51.100.10".parse().unwrap(), Some("default")).unwrap();
    let endpoint = snapshot.endpoints(&service.id).get("cluster1//v1/Pod/default/server").unwrap();
    assert_eq!(endpoint.ports.get(80), Some(8080));
    let server = snapshot.workload("cluster1//v1/Pod/default/server").unwrap();
    assert_eq!(server.identity().as_str(), "spiffe://cluster.local/ns/default/sa/server");
    assert_eq!(server.services[0].0, service.id);
    let key =
        WorkloadKey { name: "client".into(), namespace: "default".into(), service_account: "client".into() };
    assert_eq!(snapshot.local_workload(&key).unwrap().protocol, Protocol::Hbone);
    assert_eq!(snapshot.policies().iter().count(), 1);
}

// control-plane#64
#[test]
fn every_key_of_a_workload_is_read() {
    let snapshot = read(EVERY_KEY);
    let cart = snapshot.workload("c1//Pod/shop/cart-0").unwrap();
    assert_eq!(
        cart.addresses,
        ["192.0.2.11", "2001:db8::11"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!((cart.workload_type, cart.status, cart.capacity), (WorkloadType::Pod, Health::Unhealthy, 3));
    assert_eq!(
        (&*cart.locality.region, &*cart.locality.zone, &*cart.locality.subzone),
        ("eu", "eu-1", "rack7")
    );
    assert!(cart.native_tunnel);
    assert!(matches!(cart.waypoint.as_ref().unwrap().destination, GatewayDestination::Address(_)));
    assert_eq!(cart.authorization_policies[0].to_string(), "shop/cart-callers");
    let waypoint = snapshot.workload("c1//Pod/shop/wp-0").unwrap();
    let tunnel = waypoint.application_tunnel.unwrap();
    assert_eq!((tunnel.protocol, tunnel.port), (ApplicationTunnelProtocol::Proxy, Some(15088)));
    let remote = snapshot.workload("net-b/SplitHorizonWorkload/gw/shop/cart.example.org").unwrap();
    assert_eq!((&*remote.network, &*remote.hostname), ("net-b", "remote.example.org"));
    assert_eq!(remote.network_gateway.as_ref().unwrap().to_string(), "net-b/203.0.113.77:15008");
}

// control-plane#43
#[test]
fn what_is_left_out_has_friendly_defaults() {
    let snapshot = read(EVERY_KEY);
    let legacy = snapshot.workload("Kubernetes//Pod/shop/legacy-0").unwrap();
    assert_eq!(legacy.identity().as_str(), "spiffe://cluster.local/ns/shop/sa/default");
    assert_eq!((&*legacy.cluster_id, legacy.capacity, legacy.protocol), ("Kubernetes", 1, Protocol::Tcp));
    assert_eq!(
        (legacy.network_mode, legacy.application_tunnel.unwrap().port),
        (NetworkMode::HostNetwork, None)
    );
}

#[test]
fn every_key_of_a_service_is_read() {
    let snapshot = read(EVERY_KEY);
    let cart = snapshot.service(&"shop/cart.example.org".parse().unwrap()).unwrap();
    assert_eq!(cart.vips.len(), 2);
    assert_eq!(cart.subject_alt_names[0].as_str(), "spiffe://example.org/ns/shop/sa/cart");
    assert!(matches!(cart.waypoint.as_ref().unwrap().destination, GatewayDestination::Hostname(_)));
    assert_eq!(
        cart.weighted_waypoints.iter().map(|w| (w.destination.port, w.weight)).collect::<Vec<_>>(),
        [(15008, 90), (15009, 10)]
    );
    let balancer = cart.load_balancer.as_ref().unwrap();
    assert_eq!(balancer.preferences, [Scope::Network, Scope::Region, Scope::Zone]);
    assert_eq!((cart.ip_families, cart.canonical), (Some(IpFamilies::Dual), true));
    let range = snapshot.service_at(&"/203.0.113.5".parse().unwrap(), Some("shop")).unwrap();
    assert_eq!((range.mode(), range.visibility), (LoadBalancerMode::Passthrough, Visibility::Namespace));
    let endpoint = snapshot.endpoints(&range.id).get("Kubernetes//Pod/shop/legacy-0").unwrap();
    assert_eq!(endpoint.ports.get(5432), Some(15432));
}

// control-plane#74
#[test]
fn matches_are_read_as_tags_and_as_maps() {
    let snapshot = read(EVERY_KEY);
    let policy = snapshot.policies().iter().find(|policy| policy.name.name() == "cart-callers").unwrap();
    let [ports, callers] = &policy.rules[0].clauses[..] else { panic!("two clauses") };
    assert_eq!(
        (&ports.matches[0].destination_ports[..], &ports.matches[0].not_destination_ports[..]),
        (&[8080][..], &[9090][..])
    );
    assert_eq!(
        callers.matches[0].principals,
        [
            StringMatch::Exact("example.org/ns/web/sa/frontend".into()),
            StringMatch::Suffix("/sa/admin".into())
        ]
    );
    let strict = snapshot.policies().iter().find(|policy| policy.name.name() == "strict").unwrap();
    assert!(strict.dry_run);
    assert_eq!(strict.rules[0].clauses[0].matches[0].not_principals, [StringMatch::Presence]);
}

// control-plane#62
#[test]
fn unknown_keys_are_errors_everywhere() {
    let objects = [
        "workload: []",
        "workloads: [{namespace: a, name: b, workloadIps: [], services: {}, ip: 1}]",
        "workloads: [{namespace: a, name: b, workloadIps: [], services: {}, locality: {region: a, zone: b, subzone: c, rack: d}}]",
        "workloads: [{namespace: a, name: b, workloadIps: [], services: {}, applicationTunnel: {protocol: NONE, ports: 1}}]",
        "services: [{name: a, namespace: b, hostname: c, vips: [], ports: {}, vip: d}]",
        "services: [{name: a, namespace: b, hostname: c, vips: [], ports: {}, cidrVips: [{network: '', cidr: 192.0.2.0/24, net: x}]}]",
        "services: [{name: a, namespace: b, hostname: c, vips: [], ports: {}, waypoint: {destination: /192.0.2.1, hboneMtlsPort: 1, port: 1}}]",
        "policies: [{name: a, namespace: b, scope: Global, action: Deny, dryRun: false, rules: [], rule: []}]",
        "policies: [{name: a, namespace: b, scope: Global, action: Deny, dryRun: false, rules: [[[{principal: []}]]]}]",
        "policies: [{name: a, namespace: b, scope: Global, action: Deny, dryRun: false, rules: [[[{serviceAccounts: [{namespace: a, serviceAccount: b, x: c}]}]]]}]",
    ];
    for yaml in objects {
        assert!(problem(yaml).contains("unknown field"), "{yaml}: {}", problem(yaml));
    }
}

#[test]
fn errors_name_field_and_value() {
    let workload = |fields: &str| format!("workloads: [{{namespace: a, name: b, services: {{}}, {fields}}}]");
    let service =
        |fields: &str| format!("services: [{{name: a, namespace: b, hostname: c, ports: {{}}, {fields}}}]");
    let cases = [
        (workload("workloadIps: [192.0.2.300]"), "workloads[0].workloadIps[0]", "192.0.2.300"),
        (workload("workloadIps: [], protocol: QUIC"), "workloads[0].protocol", "QUIC"),
        (workload("workloadIps: [], authorizationPolicies: [x]"), "workloads[0].authorizationPolicies[0]", "`x`"),
        (workload("workloadIps: [], waypoint: {destination: wp, hboneMtlsPort: 1}"), "workloads[0].waypoint.destination", "`wp`"),
        (service("vips: [192.0.2.1]"), "services[0].vips[0]", "192.0.2.1"),
        (service("vips: [], subjectAltNames: [cart]"), "services[0].subjectAltNames[0]", "`cart`"),
        // policy#39: nothing is made of what a later version may mean.
        ("policies: [{name: a, namespace: b, scope: Galaxy, action: Deny, dryRun: false, rules: []}]".to_owned(), "policies[0].scope", "Galaxy"),
        ("policies: [{name: a, namespace: b, scope: Global, action: Perhaps, dryRun: false, rules: []}]".to_owned(), "policies[0].action", "Perhaps"),
        // control-plane#73
        ("services: [{name: a, namespace: b, hostname: c, vips: [], ports: {70000: 1}}]".to_owned(), "services[0].ports", "70000"),
        ("policies: [{name: a, namespace: b, scope: Global, action: Deny, dryRun: false, rules: [[[{sourceIps: [192.0.2.1]}]]]}]".to_owned(), "policies[0].rules[0][0][0].sourceIps[0]", "192.0.2.1"),
    ];
    for (yaml, field, value) in cases {
        let problem = problem(&yaml);
        assert!(problem.contains(field) && problem.contains(value), "{problem}");
    }
}

#[test]
fn contradictions_are_errors() {
    let twice = "workloads: [{uid: u, namespace: a, workloadIps: [], services: {}}, {uid: u, namespace: b, workloadIps: [], services: {}}]";
    assert!(matches!(
        twice.parse::<LocalConfig>(),
        Err(LocalConfigError::Duplicate { kind: "workload", .. })
    ));
    let nameless = "workloads: [{namespace: a, workloadIps: [], services: {}}]";
    assert!(matches!(nameless.parse::<LocalConfig>(), Err(LocalConfigError::Nameless { .. })));
    let invalid = "workloads: [{uid: u, namespace: 'a b', workloadIps: [], services: {}}]";
    assert!(matches!(invalid.parse::<LocalConfig>(), Err(LocalConfigError::Workload { .. })));
    let stranger = "services: [{name: a, namespace: b, hostname: c, vips: [], ports: {}, endpoints: {u: {workloadUid: u, port: {}, status: Healthy}}}]";
    assert!(matches!(stranger.parse::<LocalConfig>(), Err(LocalConfigError::Endpoint { .. })));
}

#[test]
fn empty_text_is_an_empty_mesh() {
    for yaml in ["", "{}", "# nothing\n", "workloads: []"] {
        assert_eq!(read(yaml).workloads().count(), 0, "{yaml}");
    }
}

#[test]
fn documents_show_the_dump_format() {
    let snapshot = read(TWO_PODS);
    let server = snapshot.workload("cluster1//v1/Pod/default/server").unwrap();
    assert_eq!(
        serde_json::to_value(WorkloadDocument::from(&**server)).unwrap(),
        json!({
            "canonicalName": "server",
            "canonicalRevision": "v1",
            "capacity": 1,
            "clusterId": "cluster1",
            "name": "server",
            "namespace": "default",
            "networkMode": "Standard",
            "node": "node-s",
            "protocol": "HBONE",
            "serviceAccount": "server",
            "services": ["default/server.default.svc.cluster.local"],
            "status": "Healthy",
            "trustDomain": "cluster.local",
            "uid": "cluster1//v1/Pod/default/server",
            "workloadIps": ["192.0.2.2"],
            "workloadName": "server",
            "workloadType": "deployment"
        })
    );
    let service = snapshot.services().next().unwrap();
    assert_eq!(
        serde_json::to_value(ServiceDocument::new(service, snapshot.endpoints(&service.id))).unwrap(),
        json!({
            "canonical": false,
            "endpoints": {
                "cluster1//v1/Pod/default/server": {
                    "port": {"80": 8080},
                    "status": "Healthy",
                    "workloadUid": "cluster1//v1/Pod/default/server"
                }
            },
            "hostname": "server.default.svc.cluster.local",
            "name": "server",
            "namespace": "default",
            "ports": {"80": 8080},
            "subjectAltNames": [],
            "vips": ["/198.51.100.10"],
            "visibility": "Public"
        })
    );
    let policy = snapshot.policies().iter().next().unwrap();
    assert_eq!(
        serde_json::to_value(PolicyDocument::from(policy)).unwrap(),
        json!({
            "action": "Deny",
            "dryRun": false,
            "name": "deny-9999",
            "namespace": "default",
            "rules": [[[{"destinationPorts": [9999]}]]],
            "scope": "Namespace"
        })
    );
}

#[test]
fn configuration_survives_being_written_and_read_again() {
    let once: LocalConfig = EVERY_KEY.parse().unwrap();
    let yaml = serde_yaml_ng::to_string(&**once.document()).unwrap();
    let again: LocalConfig = yaml.parse().unwrap();
    let shown = |config: &LocalConfig| serde_json::to_value(&**config.document()).unwrap();
    assert_eq!(shown(&once), shown(&again));
    let dump = |yaml: &str| -> Vec<Value> {
        let snapshot = read(yaml);
        let workloads = snapshot.workloads().map(|workload| WorkloadDocument::from(&**workload));
        let mut workloads: Vec<Value> =
            workloads.map(|document| serde_json::to_value(document).unwrap()).collect();
        workloads.sort_by_key(|workload| workload["uid"].to_string());
        let policies = snapshot
            .policies()
            .iter()
            .map(|policy| serde_json::to_value(PolicyDocument::from(policy)).unwrap());
        workloads.extend(policies);
        workloads
    };
    assert_eq!(dump(EVERY_KEY), dump(&yaml));
}

/// A directory of its own that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mesh-proxy-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn with_workloads(count: usize) -> String {
    let workload =
        |index| format!("- {{name: w{index}, namespace: shop, workloadIps: [], services: {{}}}}\n");
    format!("workloads:\n{}", (0..count).map(workload).collect::<String>())
}

async fn next_count(file: &mut LocalConfigFile) -> Result<usize, LocalConfigError> {
    let store = StateStore::new(None, MissingPolicy::Deny);
    // Twice the promise, in the time of the test: nothing else lets it pass.
    let config = tokio::time::timeout(Duration::from_secs(2), file.next()).await.expect("noticed in time")?;
    store.apply(config.into_changes());
    Ok(store.load().workloads().count())
}

async fn is_quiet(file: &mut LocalConfigFile) -> bool {
    tokio::time::timeout(Duration::from_secs(5), file.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn rewritten_file_is_read_again_and_unchanged_content_is_not() {
    let directory = Directory::new("rewritten");
    let path = directory.write("mesh.yaml", &with_workloads(1));
    let mut file = LocalConfigFile::new(&path);
    assert_eq!(next_count(&mut file).await.unwrap(), 1);
    assert!(is_quiet(&mut file).await);
    directory.write("mesh.yaml", &with_workloads(2));
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
    directory.write("mesh.yaml", &with_workloads(2));
    assert!(is_quiet(&mut file).await);
    fs::rename(directory.write("next.yaml", &with_workloads(3)), &path).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn swapped_symbolic_link_is_noticed() {
    let directory = Directory::new("swapped");
    directory.write("1/mesh.yaml", &with_workloads(1));
    directory.write("2/mesh.yaml", &with_workloads(2));
    let (current, next) = (directory.0.join("current"), directory.0.join("next"));
    std::os::unix::fs::symlink("1", &current).unwrap();
    let mut file = LocalConfigFile::new(current.join("mesh.yaml"));
    assert_eq!(next_count(&mut file).await.unwrap(), 1);
    std::os::unix::fs::symlink("2", &next).unwrap();
    fs::rename(&next, &current).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn bad_file_is_reported_once_and_recovered_from() {
    let directory = Directory::new("bad");
    let path = directory.write("mesh.yaml", "workloads: 7");
    let mut file = LocalConfigFile::new(&path);
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Syntax { .. })));
    assert!(is_quiet(&mut file).await);
    fs::remove_file(&path).unwrap();
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Read { .. })));
    assert!(is_quiet(&mut file).await);
    directory.write("mesh.yaml", &with_workloads(1));
    assert_eq!(next_count(&mut file).await.unwrap(), 1);
}

/// Whether one look brings no news: the one a quarter of a second after those that brought the last.
async fn is_unsettled(file: &mut LocalConfigFile) -> bool {
    tokio::time::timeout(Duration::from_millis(375), file.next()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn half_written_and_emptied_files_do_not_take_effect() {
    let directory = Directory::new("half-written");
    let path = directory.write("mesh.yaml", &with_workloads(2));
    let mut file = LocalConfigFile::new(&path);
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
    // In place, as by a shell's redirection: first a part that reads well, then all of it.
    fs::write(&path, with_workloads(1)).unwrap();
    assert!(is_unsettled(&mut file).await);
    fs::write(&path, with_workloads(3)).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 3);
    fs::write(&path, "").unwrap();
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Empty)));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_half_written_at_the_start_does_not_take_effect() {
    let directory = Directory::new("half-started");
    let path = directory.write("mesh.yaml", &with_workloads(1));
    let mut file = LocalConfigFile::new(&path);
    let first_look = tokio::time::timeout(Duration::from_millis(125), file.next()).await;
    assert!(first_look.is_err(), "{first_look:?}");
    fs::write(&path, with_workloads(2)).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
}

/// As editors, `git checkout` and `install` do it: a new file under the name, written there.
#[tokio::test(start_paused = true)]
async fn a_new_file_that_is_half_written_does_not_take_effect() {
    let directory = Directory::new("new-half");
    let path = directory.write("mesh.yaml", &with_workloads(2));
    let mut file = LocalConfigFile::new(&path);
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
    // Made before the old one goes, so that it is another file for sure.
    fs::rename(directory.write("next.yaml", &with_workloads(1)), &path).unwrap();
    assert!(is_unsettled(&mut file).await);
    fs::write(&path, with_workloads(3)).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_gone_comes_back_whole_or_not_at_all() {
    let directory = Directory::new("gone");
    let path = directory.write("mesh.yaml", &with_workloads(2));
    let mut file = LocalConfigFile::new(&path);
    assert_eq!(next_count(&mut file).await.unwrap(), 2);
    for (part, whole) in [(with_workloads(1), with_workloads(3)), (String::new(), with_workloads(4))] {
        fs::remove_file(&path).unwrap();
        assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Read { .. })));
        fs::write(&path, part).unwrap();
        assert!(is_unsettled(&mut file).await);
        fs::write(&path, &whole).unwrap();
        assert_eq!(next_count(&mut file).await.unwrap(), whole.matches("name:").count());
    }
    // Nor does an empty file that stays: it clears nothing.
    fs::remove_file(&path).unwrap();
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Read { .. })));
    fs::write(&path, " \n").unwrap();
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Empty)));
    // What is in force all the while is no news.
    fs::write(&path, with_workloads(4)).unwrap();
    assert_eq!(next_count(&mut file).await.unwrap(), 4);
    fs::remove_file(&path).unwrap();
    assert!(matches!(next_count(&mut file).await, Err(LocalConfigError::Read { .. })));
    fs::write(&path, with_workloads(4)).unwrap();
    assert!(is_quiet(&mut file).await);
}

/// Such a thing would keep its reader for ever, or fill the memory.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_configuration_is_not_read() {
    let directory = Directory::new("no-file");
    let huge = directory.write("huge.yaml", "");
    fs::File::options().write(true).open(&huge).unwrap().set_len((1 << 30) + 1).unwrap();
    for (path, kind) in [
        (directory.0.clone(), ErrorKind::InvalidInput),
        (PathBuf::from("/dev/zero"), ErrorKind::InvalidInput),
        (huge, ErrorKind::FileTooLarge),
    ] {
        let Err(LocalConfigError::Read { source, .. }) = LocalConfigFile::new(&path).next().await else {
            panic!("{} was read", path.display());
        };
        assert_eq!(source.kind(), kind);
    }
}
