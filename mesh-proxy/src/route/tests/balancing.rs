use super::*;
use crate::state::Locality;

const VIP: &str = "198.51.100.1:80";

fn at(name: &str, region: &str, zone: &str, node: &str) -> Workload {
    let address = format!("192.0.2.{}", 10 + name.bytes().map(u32::from).sum::<u32>() % 200);
    let mut workload = endpoint(name, &[&address], "cart");
    workload.locality = Locality { region: region.into(), zone: zone.into(), subzone: "".into() };
    workload.node = node.into();
    workload
}

fn located_client() -> Workload {
    let mut client = at("client", "r1", "z1", "n1");
    client.services.clear();
    client
}

/// Which endpoints the located client is ever sent to.
fn chosen(mode: LoadBalancerMode, preferences: &[Scope], endpoints: &[Workload]) -> Vec<String> {
    let mut cart = service("cart", &["198.51.100.1"]);
    cart.load_balancer = balancer(mode, preferences);
    let mesh = endpoints.iter().cloned().fold(Mesh::default(), Mesh::workload);
    let snapshot = mesh.service(cart).snapshot();
    let mut names: Vec<String> = (0..100)
        .map(|seed| match resolve_from(&located_client(), &snapshot, VIP, seed) {
            Ok(Route::Hbone(route)) => route.workload.name.to_string(),
            other => shown(&other),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

// routing#28
#[test]
fn strict_takes_full_matches_or_nothing() {
    let (same, other) = (at("same", "r1", "z1", "n1"), at("other", "r1", "z1", "n2"));
    let strict = |endpoints: &[Workload]| chosen(LoadBalancerMode::Strict, &[Scope::Node], endpoints);
    assert_eq!(strict(&[same, other.clone()]), ["same"]);
    assert_eq!(strict(&[other]), ["no healthy upstream: 198.51.100.1:80"]);
}

// routing#29 for endpoints within reach
#[test]
fn failover_prefers_the_highest_rank() {
    let preferences = [Scope::Network, Scope::Region, Scope::Zone];
    let failover = |endpoints: &[Workload]| chosen(LoadBalancerMode::Failover, &preferences, endpoints);
    let (zone, region, network) =
        (at("zone", "r1", "z1", ""), at("region", "r1", "z2", ""), at("network", "r2", "z1", ""));
    assert_eq!(failover(&[zone.clone(), region.clone(), network.clone()]), ["zone"]);
    assert_eq!(failover(&[region.clone(), network.clone()]), ["region"]);
    assert_eq!(failover(&[network]), ["network"]);
}

// routing#29
#[test]
fn ranks_are_those_of_the_reference() {
    let preferences = [Scope::Network, Scope::Region, Scope::Zone];
    let rank = |network: &str, region: &str, zone: &str| {
        let mut candidate = at("a", region, zone, "");
        candidate.network = network.into();
        super::super::balance::rank(&preferences, &located_client(), &candidate)
    };
    assert_eq!(rank("", "r1", "z1"), 5);
    assert_eq!(rank("", "r1", "z2"), 4);
    assert_eq!(rank("", "r2", "z1"), 3);
    assert_eq!(rank("net-b", "r1", "z1"), 2);
    assert_eq!(rank("net-b", "r1", "z2"), 1);
    assert_eq!(rank("net-b", "r2", "z1"), 0);
}

// routing#30, routing#31
#[test]
fn later_preferences_count_only_after_earlier_ones() {
    let preferences = [Scope::Region, Scope::Zone];
    let rank = |client: &Workload, region: &str, zone: &str| {
        super::super::balance::rank(&preferences, client, &at("a", region, zone, ""))
    };
    assert_eq!(rank(&located_client(), "r2", "z1"), 0);
    // Nothing known on either side counts as agreement.
    assert_eq!(rank(&client(), "", ""), 2);
}

// routing#32; once by scanning and once by drawing, which larger services use
#[test]
fn capacity_decides_the_share() {
    for copies in [1, 10] {
        let mut mesh = Mesh::default().service(service("cart", &["198.51.100.1"]));
        for (kind, capacity) in [("large", 3), ("small", 1), ("none", 0)] {
            for copy in 0..copies {
                let address = format!("192.0.2.{}", 10 + capacity * 20 + copy);
                let mut endpoint = endpoint(&format!("{kind}{copy}"), &[&address], "cart");
                (endpoint.capacity, endpoint.name) = (capacity, kind.into());
                mesh = mesh.workload(endpoint);
            }
        }
        let shares = shares(&mesh.snapshot(), VIP, 4000);
        assert!((2850..3150).contains(&shares["large"]), "{copies}: {shares:?}");
        assert_eq!(shares.get("none"), None);
    }
}

// control-plane#44, routing §3
#[test]
fn endpoints_without_capacity_are_no_endpoints() {
    let mut idle = endpoint("idle", &["192.0.2.10"], "cart");
    idle.capacity = 0;
    let snapshot = Mesh::default().workload(idle).service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&snapshot, VIP, "no healthy upstream: 198.51.100.1:80");
}

#[test]
fn choice_depends_on_the_generator_alone() {
    let mut mesh = Mesh::default().service(service("cart", &["198.51.100.1"]));
    for index in 0..30 {
        mesh = mesh.workload(endpoint(&format!("e{index}"), &[&format!("192.0.2.{}", 10 + index)], "cart"));
    }
    let snapshot = mesh.snapshot();
    for seed in 0..20 {
        let again = || shown(&resolve_from(&client(), &snapshot, VIP, seed));
        assert_eq!(again(), again());
    }
}
