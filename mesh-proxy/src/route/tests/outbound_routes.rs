use super::*;
use crate::state::{CidrVip, Health, IpFamilies, NetworkMode};

fn tcp(mut workload: Workload) -> Workload {
    workload.protocol = Protocol::Tcp;
    workload
}

// routing#1, hbone#26
#[test]
fn service_address_leads_to_an_endpoint_and_its_target_port() {
    let mesh = Mesh::default()
        .workload(endpoint("a", &["192.0.2.10"], "cart"))
        .service(service("cart", &["198.51.100.1"]));
    assert_route(&mesh.snapshot(), "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}

// routing#2
#[test]
fn endpoint_without_hbone_is_reached_in_plaintext() {
    let mesh = Mesh::default()
        .workload(tcp(endpoint("a", &["192.0.2.10"], "cart")))
        .service(service("cart", &["198.51.100.1"]));
    assert_route(&mesh.snapshot(), "198.51.100.1:80", "tcp 192.0.2.10:8080");
}

// routing#3, routing#4
#[test]
fn unknown_address_is_passed_through() {
    let snapshot = Mesh::default().service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&snapshot, "203.0.113.9:80", "passthrough 203.0.113.9:80");
    assert_route(&snapshot, "[2001:db8:f::9]:80", "passthrough [2001:db8:f::9]:80");
    assert_route(&snapshot, "[::ffff:203.0.113.9]:80", "passthrough 203.0.113.9:80");
}

// routing#5, routing#6
#[test]
fn known_service_is_never_passed_through() {
    let snapshot = Mesh::default()
        .workload(endpoint("a", &["192.0.2.10"], "cart"))
        .service(service("cart", &["198.51.100.1"]))
        .service(service("empty", &["198.51.100.2"]))
        .snapshot();
    assert_route(&snapshot, "198.51.100.1:81", "no healthy upstream: 198.51.100.1:81");
    assert_route(&snapshot, "198.51.100.2:80", "no healthy upstream: 198.51.100.2:80");
}

// routing#7
#[test]
fn passthrough_service_goes_where_it_was_sent() {
    let mut cart = service("cart", &["198.51.100.1"]);
    cart.load_balancer = balancer(LoadBalancerMode::Passthrough, &[]);
    let snapshot = Mesh::default().workload(endpoint("a", &["192.0.2.10"], "cart")).service(cart).snapshot();
    assert_route(&snapshot, "198.51.100.1:80", "passthrough 198.51.100.1:80");
}

// routing, observed 1: never plaintext to a workload that speaks HBONE
#[test]
fn address_of_both_service_and_workload_never_travels_in_plaintext() {
    for mode in [LoadBalancerMode::Standard, LoadBalancerMode::Passthrough] {
        let mut cart = service("cart", &["192.0.2.10"]);
        cart.load_balancer = balancer(mode, &[]);
        let snapshot = Mesh::default().workload(workload("a", &["192.0.2.10"])).service(cart).snapshot();
        assert_route(&snapshot, "192.0.2.10:80", "hbone 192.0.2.10:15008 192.0.2.10:80");
        assert_route(&snapshot, "192.0.2.10:9999", "hbone 192.0.2.10:15008 192.0.2.10:9999");
    }
}

// routing, observed 2; design: nothing received is not the same as empty
#[test]
fn nothing_is_passed_through_before_the_first_sync() {
    let unsynced = StateStore::new(None, MissingPolicy::Deny).load();
    assert_eq!(resolve(&unsynced, "203.0.113.9:80").unwrap_err(), RouteError::NotSynced);
}

// routing#22, hbone#79 and crossing networks in general: an error, never a direct connection
#[test]
fn other_networks_are_never_reached_directly() {
    let mut remote = endpoint("remote", &["192.0.2.20"], "cart");
    remote.network = "net-b".into();
    let mut behind_gateway = endpoint("behind", &[], "far");
    behind_gateway.network = "net-b".into();
    behind_gateway.network_gateway = gateway("net-b/203.0.113.77");
    let snapshot = Mesh::default()
        .workload(remote)
        .workload(behind_gateway)
        .service(service("cart", &["198.51.100.1"]))
        .service(service("far", &["198.51.100.2"]))
        .snapshot();
    for destination in ["198.51.100.1:80", "198.51.100.2:80"] {
        let error = resolve(&snapshot, destination).unwrap_err();
        assert_eq!(error, RouteError::CrossNetwork { destination: destination.parse().unwrap() });
    }
    // The same address on the client's own network is somebody else's.
    assert_route(&snapshot, "192.0.2.20:80", "passthrough 192.0.2.20:80");
}

#[test]
fn endpoints_within_reach_serve_while_others_are_on_another_network() {
    let mut remote = endpoint("remote", &["192.0.2.20"], "cart");
    remote.network = "net-b".into();
    let mesh = Mesh::default().workload(remote).workload(endpoint("near", &["192.0.2.10"], "cart"));
    let snapshot = mesh.service(service("cart", &["198.51.100.1"])).snapshot();
    assert_eq!(shares(&snapshot, "198.51.100.1:80", 50), [("near".to_owned(), 50)].into());
}

// routing#23
#[test]
fn gateway_of_the_own_network_is_ignored() {
    let mut near = endpoint("near", &["192.0.2.10"], "cart");
    near.network_gateway = gateway("/203.0.113.77");
    let snapshot = Mesh::default().workload(near).service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&snapshot, "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}

// routing#24
#[test]
fn endpoint_without_any_address_is_not_chosen() {
    let mesh =
        Mesh::default().workload(endpoint("a", &[], "cart")).workload(endpoint("b", &["192.0.2.11"], "cart"));
    let snapshot = mesh.service(service("cart", &["198.51.100.1"])).snapshot();
    assert_eq!(shares(&snapshot, "198.51.100.1:80", 50), [("b".to_owned(), 50)].into());
}

#[test]
fn endpoint_known_by_name_only_is_an_error_that_says_so() {
    let mut named = endpoint("a", &[], "cart");
    named.hostname = "a.example.org".into();
    let snapshot = Mesh::default().workload(named).service(service("cart", &["198.51.100.1"])).snapshot();
    let error = resolve(&snapshot, "198.51.100.1:80").unwrap_err();
    assert_eq!(error, RouteError::UnresolvedHostname { hostname: "a.example.org".into() });
}

// routing#34, routing#35
#[test]
fn ports_of_the_endpoint_come_before_those_of_the_service() {
    let mut named_port = service("named", &["198.51.100.1"]);
    named_port.ports = [(80, 0)].into_iter().collect();
    let with_port = |name: &str, address: &str, service: &str, target| {
        let mut workload = endpoint(name, &[address], service);
        workload.services[0].1 = [(80, target)].into_iter().collect();
        workload
    };
    let snapshot = Mesh::default()
        .workload(endpoint("without", &["192.0.2.10"], "named"))
        .workload(with_port("with", "192.0.2.11", "named", 9090))
        .workload(with_port("other", "192.0.2.12", "cart", 7070))
        .service(named_port)
        .service(service("cart", &["198.51.100.2"]))
        .snapshot();
    assert_eq!(shares(&snapshot, "198.51.100.1:80", 50), [("with".to_owned(), 50)].into());
    assert_route(&snapshot, "198.51.100.1:80", "hbone 192.0.2.11:15008 192.0.2.11:9090");
    assert_route(&snapshot, "198.51.100.2:80", "hbone 192.0.2.12:15008 192.0.2.12:7070");
}

// routing#36, routing#37
#[test]
fn address_family_follows_the_call_within_what_the_service_allows() {
    let dual = |name: &str| endpoint(name, &["192.0.2.10", "2001:db8::10"], name);
    let mut restricted = service("restricted", &["198.51.100.2", "2001:db8:a::2"]);
    restricted.ip_families = Some(IpFamilies::V4);
    let snapshot = Mesh::default()
        .workload(dual("cart"))
        .workload(dual("restricted"))
        .service(service("cart", &["198.51.100.1", "2001:db8:a::1"]))
        .service(restricted)
        .snapshot();
    assert_route(&snapshot, "[2001:db8:a::1]:80", "hbone [2001:db8::10]:15008 [2001:db8::10]:8080");
    assert_route(&snapshot, "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
    assert_route(&snapshot, "[2001:db8:a::2]:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}

#[test]
fn families_that_no_address_has_are_an_error() {
    let mut v6_only = service("cart", &["198.51.100.1"]);
    v6_only.ip_families = Some(IpFamilies::V6);
    let snapshot =
        Mesh::default().workload(endpoint("a", &["192.0.2.10"], "cart")).service(v6_only).snapshot();
    let error = resolve(&snapshot, "198.51.100.1:80").unwrap_err();
    assert_eq!(error, RouteError::NoValidDestination { uid: "c1//Pod/shop/a".into() });
}

// routing#38
#[test]
fn direct_call_keeps_the_address_that_was_dialled() {
    let snapshot = Mesh::default().workload(workload("a", &["192.0.2.10", "192.0.2.11"])).snapshot();
    assert_route(&snapshot, "192.0.2.11:8080", "hbone 192.0.2.11:15008 192.0.2.11:8080");
}

// routing#41
#[test]
fn workload_on_its_nodes_network_is_an_endpoint_but_has_no_address() {
    let mut host_network = endpoint("a", &["192.0.2.10"], "cart");
    host_network.network_mode = NetworkMode::HostNetwork;
    let snapshot =
        Mesh::default().workload(host_network).service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&snapshot, "192.0.2.10:8080", "passthrough 192.0.2.10:8080");
    assert_route(&snapshot, "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}

// routing#42, routing#43
#[test]
fn own_ports_are_refused_on_own_addresses() {
    let snapshot = Mesh::default().workload(workload("a", &["192.0.2.10"])).snapshot();
    for destination in ["127.0.0.1:15001", "127.0.0.1:15006", "[::1]:15008", "192.0.2.1:15001"] {
        assert_eq!(resolve(&snapshot, destination).unwrap_err(), RouteError::SelfCall, "{destination}");
    }
    assert_route(&snapshot, "192.0.2.10:15008", "hbone 192.0.2.10:15008 192.0.2.10:15008");
    assert_route(&snapshot, "127.0.0.1:80", "passthrough 127.0.0.1:80");
}

#[test]
fn other_addresses_of_the_host_are_guarded_too() {
    let (client, ports, snapshot) = (client(), ListenerPorts::default(), Mesh::default().snapshot());
    let request = OutboundRequest {
        source: &client,
        source_address: ip("192.0.2.1"),
        original_destination: "203.0.113.1:15001".parse().unwrap(),
        own_addresses: &[ip("203.0.113.1")],
        ports: &ports,
    };
    let route = outbound::resolve(&snapshot, &request, 1);
    assert_eq!(route.unwrap_err(), RouteError::SelfCall);
}

#[test]
fn range_of_addresses_leads_to_its_service() {
    let mut range = service("range", &[]);
    range.cidr_vips = vec![CidrVip { network: "".into(), cidr: "203.0.113.0/24".parse().unwrap() }];
    let snapshot =
        Mesh::default().workload(endpoint("a", &["192.0.2.10"], "range")).service(range).snapshot();
    assert_route(&snapshot, "203.0.113.200:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
    assert_route(&snapshot, "203.0.114.1:80", "passthrough 203.0.114.1:80");
}

// hbone §11.2
#[test]
fn peers_are_the_workload_and_whoever_the_service_lists() {
    let mut listed = service("listed", &["198.51.100.2"]);
    listed.subject_alt_names = vec!["spiffe://example.org/ns/shop/sa/other".parse().unwrap()];
    let snapshot = Mesh::default()
        .workload(endpoint("a", &["192.0.2.10"], "cart"))
        .workload(endpoint("b", &["192.0.2.11"], "listed"))
        .service(service("cart", &["198.51.100.1"]))
        .service(listed)
        .snapshot();
    let expects = |destination: &str, name: &str| {
        let Ok(Route::Hbone(route)) = resolve(&snapshot, destination) else { panic!("no tunnel") };
        route.expected_peer.matches(&format!("spiffe://example.org/ns/shop/sa/{name}").parse().unwrap())
    };
    assert!(expects("198.51.100.1:80", "a") && !expects("198.51.100.1:80", "other"));
    assert!(expects("198.51.100.2:80", "b") && expects("198.51.100.2:80", "other"));
    assert!(!expects("198.51.100.2:80", "a"));
}

// routing#33
#[test]
fn unhealthy_endpoints_serve_only_where_all_are_allowed() {
    let mut sick = endpoint("a", &["192.0.2.10"], "cart");
    sick.status = Health::Unhealthy;
    let mut lenient = service("cart", &["198.51.100.1"]);
    lenient.load_balancer =
        Some(LoadBalancer { health_policy: HealthPolicy::AllowAll, ..LoadBalancer::default() });
    let strict =
        Mesh::default().workload(sick.clone()).service(service("cart", &["198.51.100.1"])).snapshot();
    assert_route(&strict, "198.51.100.1:80", "no healthy upstream: 198.51.100.1:80");
    let lenient = Mesh::default().workload(sick).service(lenient).snapshot();
    assert_route(&lenient, "198.51.100.1:80", "hbone 192.0.2.10:15008 192.0.2.10:8080");
}
