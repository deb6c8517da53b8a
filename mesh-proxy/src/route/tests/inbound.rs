use hbone::Refusal;

use super::*;
use crate::{
    route::{
        InboundError,
        inbound::{self, InboundRequest, InboundRoute},
    },
    state::{ApplicationTunnel, ApplicationTunnelProtocol, WeightedWaypoint},
};

fn resolve_at(
    snapshot: &Snapshot,
    workload: &Workload,
    authority: &str,
    forwarded_host: Option<&str>,
) -> Result<InboundRoute, InboundError> {
    inbound::resolve(
        snapshot,
        &InboundRequest {
            workload,
            local_address: workload.addresses[0],
            authority: &authority.parse().unwrap(),
            forwarded_host,
            ports: &ListenerPorts::default(),
        },
    )
}

/// The target and service, or the status of the refusal.
fn shown_at(snapshot: &Snapshot, workload: &Workload, authority: &str) -> String {
    match resolve_at(snapshot, workload, authority, None) {
        Ok(route) => {
            let service = route.service.map_or_else(|| "-".to_owned(), |service| service.name.to_string());
            format!("{} {service}", route.target)
        }
        Err(error) => format!("{:?}", error.refusal()),
    }
}

fn cart() -> Workload {
    let mut cart = endpoint("a", &["192.0.2.10"], "cart");
    cart.services[0].1 = [(81, 8181)].into_iter().collect();
    cart
}

fn mesh() -> Mesh {
    let mut cart_service = service("cart", &["198.51.100.1"]);
    cart_service.ports = [(80, 8080), (81, 1), (82, 0)].into_iter().collect();
    Mesh::default().workload(cart()).service(cart_service).service(service("other", &["198.51.100.2"]))
}

#[test]
fn own_address_leads_to_the_port_it_names() {
    let snapshot = mesh().snapshot();
    assert_eq!(shown_at(&snapshot, &cart(), "192.0.2.10:8080"), "192.0.2.10:8080 cart");
    assert_eq!(shown_at(&snapshot, &cart(), "192.0.2.10:8181"), "192.0.2.10:8181 cart");
    assert_eq!(shown_at(&snapshot, &cart(), "192.0.2.10:9"), "192.0.2.10:9 -");
}

// hbone#49
#[test]
fn mapped_addresses_are_the_addresses_they_carry() {
    assert_eq!(shown_at(&mesh().snapshot(), &cart(), "[::ffff:192.0.2.10]:8080"), "192.0.2.10:8080 cart");
}

// routing#57, routing#59, hbone#36, hbone#48
#[test]
fn other_addresses_are_refused() {
    let mut guarded = service("guarded", &["198.51.100.3"]);
    guarded.waypoint = gateway("shop/other.example.org");
    let snapshot = mesh().service(guarded).snapshot();
    for authority in ["192.0.2.99:8080", "198.51.100.1:80", "198.51.100.3:80"] {
        assert_eq!(shown_at(&snapshot, &cart(), authority), "BadRequest", "{authority}");
    }
    let error = resolve_at(&snapshot, &cart(), "192.0.2.99:80", None).unwrap_err();
    assert_eq!(error.to_string(), "ip mismatch: 192.0.2.99 != 192.0.2.10");
}

// routing#58, routing#104, hbone#47
#[test]
fn waypoint_receives_for_what_it_stands_in_front_of() {
    let waypoint = endpoint("wp", &["192.0.2.40"], "wp");
    let reference = gateway("shop/wp.example.org");
    let mut primary = service("primary", &["198.51.100.3"]);
    primary.waypoint = reference.clone();
    let mut canary = service("canary", &["198.51.100.4"]);
    canary.waypoint = gateway("shop/other.example.org");
    canary.weighted_waypoints = vec![WeightedWaypoint { destination: reference.unwrap(), weight: 1 }];
    let mut direct = workload("direct", &["192.0.2.50"]);
    direct.waypoint = gateway("/192.0.2.40");
    let snapshot = mesh()
        .workload(waypoint.clone())
        .workload(direct)
        .service(service("wp", &["198.51.100.9"]))
        .service(primary)
        .service(canary)
        .snapshot();
    for authority in ["198.51.100.3:80", "198.51.100.4:80", "192.0.2.50:80"] {
        assert_eq!(shown_at(&snapshot, &waypoint, authority), "192.0.2.40:80 -", "{authority}");
    }
    assert_eq!(shown_at(&snapshot, &waypoint, "primary.example.org:80"), "192.0.2.40:8080 primary");
    assert_eq!(shown_at(&snapshot, &waypoint, "198.51.100.1:80"), "BadRequest");
}

// routing#60, hbone#46; hbone#50 and hbone#51 are refused, since no PROXY header is written
#[test]
fn application_that_takes_tunnels_takes_any_address_on_its_port() {
    let mut tunnelled = cart();
    let tunnel = |protocol| Some(ApplicationTunnel { protocol, port: Some(15088) });
    tunnelled.application_tunnel = tunnel(ApplicationTunnelProtocol::None);
    assert_eq!(shown_at(&mesh().snapshot(), &tunnelled, "203.0.113.7:80"), "192.0.2.10:15088 -");
    tunnelled.application_tunnel = tunnel(ApplicationTunnelProtocol::Proxy);
    let error = resolve_at(&mesh().snapshot(), &tunnelled, "203.0.113.7:80", None).unwrap_err();
    assert_eq!((error.refusal(), error), (Refusal::Unavailable, InboundError::ProxyProtocol));
}

// hbone#50, hbone#51: the application would take the first bytes of its client for a PROXY header, so it gets none, by
// whichever name it is asked for.
#[test]
fn no_application_that_waits_for_a_proxy_header_is_handed_anything() {
    let mut tunnelled = cart();
    for port in [None, Some(15088)] {
        tunnelled.application_tunnel =
            Some(ApplicationTunnel { protocol: ApplicationTunnelProtocol::Proxy, port });
        let snapshot = mesh().workload(tunnelled.clone()).snapshot();
        for authority in
            ["cart.example.org:80", "other.example.org:80", "192.0.2.10:8080", "[2001:db8::7]:80"]
        {
            let error = resolve_at(&snapshot, &tunnelled, authority, None).unwrap_err();
            assert_eq!(
                (error.refusal(), error),
                (Refusal::Unavailable, InboundError::ProxyProtocol),
                "{authority}"
            );
        }
    }
}

// routing#61, hbone#45
#[test]
fn host_name_leads_to_the_port_that_serves_it() {
    let snapshot = mesh().snapshot();
    assert_eq!(shown_at(&snapshot, &cart(), "cart.example.org:80"), "192.0.2.10:8080 cart");
    assert_eq!(shown_at(&snapshot, &cart(), "cart.example.org:81"), "192.0.2.10:8181 cart");
}

// routing, observed 7
#[test]
fn host_names_compare_without_case_and_trailing_dot() {
    assert_eq!(shown_at(&mesh().snapshot(), &cart(), "Cart.Example.org.:80"), "192.0.2.10:8080 cart");
}

// routing#62, hbone#40
#[test]
fn unknown_host_names_and_ports_are_unavailable() {
    let snapshot = mesh().snapshot();
    // `other` exists, but the local workload has no part in it.
    for authority in
        ["nowhere.example.org:80", "other.example.org:80", "cart.example.org:99", "cart.example.org:82"]
    {
        assert_eq!(shown_at(&snapshot, &cart(), authority), "Unavailable", "{authority}");
    }
}

// routing#63, hbone#39
#[test]
fn own_ports_are_never_dialled() {
    let snapshot = mesh().snapshot();
    for port in [15001, 15006, 15008] {
        let error = resolve_at(&snapshot, &cart(), &format!("192.0.2.10:{port}"), None).unwrap_err();
        assert_eq!((error.refusal(), error), (Refusal::Unavailable, InboundError::SelfCall));
    }
    let mut looping = cart();
    looping.application_tunnel =
        Some(ApplicationTunnel { protocol: ApplicationTunnelProtocol::None, port: Some(15001) });
    let error = resolve_at(&snapshot, &looping, "192.0.2.10:80", None).unwrap_err();
    assert_eq!(error, InboundError::SelfCall);
}

// routing §6
#[test]
fn forwarded_host_picks_among_own_services_only() {
    let mut both = cart();
    both.services.push((service_name("twin"), PortMap::default()));
    let snapshot = mesh().workload(both.clone()).service(service("twin", &["198.51.100.5"])).snapshot();
    let named = |host| {
        let route = resolve_at(&snapshot, &both, "192.0.2.10:8080", host).unwrap();
        route.service.map(|service| service.name.to_string())
    };
    assert_eq!(named(Some("twin.example.org")).as_deref(), Some("twin"));
    assert_eq!(named(Some("other.example.org")).as_deref(), Some("cart"));
    assert_eq!(named(None).as_deref(), Some("cart"));
}

// routing#72
#[test]
fn plaintext_goes_to_its_destination_but_not_to_own_ports() {
    let (snapshot, ports) = (mesh().snapshot(), ListenerPorts::default());
    let plaintext = |destination: &str| {
        inbound::resolve_plaintext(&snapshot, &cart(), destination.parse().unwrap(), &ports)
    };
    let route = plaintext("192.0.2.10:8080").unwrap();
    assert_eq!(
        (route.target.to_string(), route.service.unwrap().name.to_string()),
        ("192.0.2.10:8080".into(), "cart".into())
    );
    assert_eq!(plaintext("192.0.2.10:15006").unwrap_err(), InboundError::SelfCall);
}
