use super::*;
use crate::state::{ApplicationTunnel, ApplicationTunnelProtocol, WeightedWaypoint};

/// A service `wp` at 198.51.100.9 that serves the HBONE port.
fn waypoint_service() -> Service {
    let mut waypoint = service("wp", &["198.51.100.9"]);
    waypoint.ports = [(15008, 15008)].into_iter().collect();
    waypoint
}

fn guarded(name: &str, vip: &str, waypoint: &str) -> Service {
    let mut guarded = service(name, &[vip]);
    guarded.waypoint = gateway(waypoint);
    guarded
}

fn mesh() -> Mesh {
    Mesh::default()
        .workload(endpoint("wp", &["192.0.2.40"], "wp"))
        .service(waypoint_service())
        .workload(endpoint("a", &["192.0.2.10"], "cart"))
}

// routing#9, routing#15, hbone#25
#[test]
fn service_waypoint_is_told_what_was_dialled() {
    for waypoint in ["/198.51.100.9", "/192.0.2.40", "shop/wp.example.org"] {
        let snapshot = mesh().service(guarded("cart", "198.51.100.1", waypoint)).snapshot();
        assert_route(&snapshot, "198.51.100.1:80", "waypoint 192.0.2.40:15008 198.51.100.1:80");
    }
}

// routing#15
#[test]
fn waypoint_is_found_by_the_host_name_of_a_workload() {
    let mut named = workload("named", &["192.0.2.41"]);
    named.hostname = "waypoint.example.org".into();
    let cart = guarded("cart", "198.51.100.1", "shop/waypoint.example.org");
    let snapshot = mesh().workload(named).service(cart).snapshot();
    assert_route(&snapshot, "198.51.100.1:80", "waypoint 192.0.2.41:15008 198.51.100.1:80");
}

// routing#8
#[test]
fn passthrough_service_with_waypoint_uses_it() {
    let mut cart = guarded("cart", "198.51.100.1", "/198.51.100.9");
    cart.load_balancer = balancer(LoadBalancerMode::Passthrough, &[]);
    let snapshot = mesh().service(cart).snapshot();
    assert_route(&snapshot, "198.51.100.1:80", "waypoint 192.0.2.40:15008 198.51.100.1:80");
}

// routing#10, routing#11
#[test]
fn workload_waypoint_is_for_calls_to_its_own_addresses() {
    let mut a = endpoint("a", &["192.0.2.10"], "cart");
    a.waypoint = gateway("/198.51.100.9");
    let snapshot = mesh().workload(a).service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&snapshot, "192.0.2.10:8080", "waypoint 192.0.2.40:15008 192.0.2.10:8080");
    assert_route(&snapshot, "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}

// routing#12, routing#13, routing#14
#[test]
fn only_the_waypoint_itself_goes_direct() {
    let waypoint = endpoint("wp", &["192.0.2.40"], "wp");
    let mut same_identity = Workload::new("other", "example.org", "shop", "wp").unwrap();
    same_identity.addresses = vec![ip("192.0.2.41")];
    let mut same_address = workload("intruder", &["192.0.2.40"]);
    same_address.uid = "intruder".into();
    for reference in ["/198.51.100.9", "/192.0.2.40", "shop/wp.example.org"] {
        let mut a = workload("a", &["192.0.2.10"]);
        a.waypoint = gateway(reference);
        let snapshot = mesh().workload(a).snapshot();
        let route = |source: &Workload| shown(&resolve_from(source, &snapshot, "192.0.2.10:8080", 1));
        assert_eq!(route(&waypoint), "hbone 192.0.2.10:15008 192.0.2.10:8080");
        assert_eq!(route(&same_identity), "waypoint 192.0.2.40:15008 192.0.2.10:8080");
        assert_eq!(route(&same_address), "waypoint 192.0.2.40:15008 192.0.2.10:8080");
    }
}

// routing#16, routing#17
#[test]
fn waypoint_that_takes_tunnels_needs_no_service_port() {
    let mut portless = waypoint_service();
    portless.ports = PortMap::default();
    let mut tunnelled = endpoint("sandwich", &["192.0.2.42"], "wp");
    tunnelled.application_tunnel =
        Some(ApplicationTunnel { protocol: ApplicationTunnelProtocol::Proxy, port: Some(15088) });
    let snapshot = mesh()
        .service(portless)
        .workload(tunnelled)
        .service(guarded("cart", "198.51.100.1", "shop/wp.example.org"))
        .snapshot();
    assert_eq!(shares(&snapshot, "198.51.100.1:80", 50), [("sandwich".to_owned(), 50)].into());
    assert_route(&snapshot, "198.51.100.1:80", "waypoint 192.0.2.42:15008 198.51.100.1:80");
}

// routing#18
#[test]
fn unknown_waypoint_is_never_bypassed() {
    for waypoint in ["/203.0.113.1", "shop/nowhere.example.org"] {
        let mut a = endpoint("a", &["192.0.2.10"], "cart");
        a.waypoint = gateway(waypoint);
        let snapshot = mesh().workload(a).service(guarded("cart", "198.51.100.1", waypoint)).snapshot();
        for destination in ["198.51.100.1:80", "192.0.2.10:8080"] {
            let error = resolve(&snapshot, destination).unwrap_err();
            assert_eq!(error, RouteError::UnknownWaypoint { waypoint: gateway(waypoint).unwrap() });
            assert_eq!(error.to_string(), format!("unknown waypoint: {waypoint}:15008"));
        }
    }
}

#[test]
fn waypoint_on_another_network_is_an_error() {
    let mut far = endpoint("far", &["192.0.2.50"], "far");
    far.network = "net-b".into();
    let mut gateway_service = service("far", &["198.51.100.8"]);
    gateway_service.ports = [(15008, 15008)].into_iter().collect();
    let cart = guarded("cart", "198.51.100.1", "shop/far.example.org");
    let snapshot = mesh().workload(far).service(gateway_service).service(cart).snapshot();
    assert!(matches!(resolve(&snapshot, "198.51.100.1:80"), Err(RouteError::CrossNetwork { .. })));
}

// routing#19, routing#20
#[test]
fn weighted_waypoints_share_connections_unless_all_weigh_nothing() {
    let weighted = |weights: [u32; 3]| {
        let waypoints = ["/192.0.2.40", "/192.0.2.41", "/192.0.2.42"].into_iter().zip(weights);
        let mut cart = guarded("cart", "198.51.100.1", "/192.0.2.43");
        let weighted = |(at, weight)| WeightedWaypoint { destination: gateway(at).unwrap(), weight };
        cart.weighted_waypoints = waypoints.map(weighted).collect();
        let names = ["wp2", "wp3", "wp4"].into_iter().zip(["192.0.2.41", "192.0.2.42", "192.0.2.43"]);
        let mesh = names.fold(mesh(), |mesh, (name, address)| mesh.workload(workload(name, &[address])));
        shares(&mesh.service(cart).snapshot(), "198.51.100.1:80", 2000)
    };
    let shared = weighted([90, 10, 0]);
    assert!((1700..1900).contains(&shared["wp"]), "{shared:?}");
    assert_eq!(shared.get("wp3"), None);
    assert_eq!(weighted([0, 0, 0]), [("wp4".to_owned(), 2000)].into());
}
