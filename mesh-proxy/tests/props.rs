//! What holds for any mesh, any request and any text.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use mesh_policy::MissingPolicy;
use mesh_proxy::{
    route::{
        ListenerPorts, Route,
        inbound::{self, InboundRequest},
        outbound::{self, OutboundRequest},
    },
    state::{
        ApplicationTunnel, ApplicationTunnelProtocol, Change, CidrVip, GatewayDestination, GatewayReference,
        Health, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode, NetworkAddress, NetworkMode,
        PortMap, Protocol, Scope, Service, ServiceName, Snapshot, StateStore, Visibility, WeightedWaypoint,
        Workload,
    },
};
use proptest::{prelude::*, sample::select};

// Few values for everything, so that objects meet: the interesting meshes are those in which they refer to
// each other.

fn network() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", "net-b"][..])
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"][..])
        .prop_map(|text| text.parse().unwrap())
}

fn service_name() -> impl Strategy<Value = ServiceName> {
    (select(&["shop", "web"][..]), select(&["a.example.org", "b.example.org"][..]))
        .prop_map(|(namespace, hostname)| ServiceName::new(namespace, hostname))
}

fn port() -> impl Strategy<Value = u16> {
    select(&[0, 80, 8080, 15001, 15008][..])
}

fn ports() -> impl Strategy<Value = PortMap> {
    prop::collection::vec((port(), port()), 0..3).prop_map(PortMap::from_iter)
}

fn gateway() -> impl Strategy<Value = GatewayReference> {
    let destination = prop_oneof![
        (network(), address())
            .prop_map(|(network, ip)| GatewayDestination::Address(NetworkAddress::new(network, ip))),
        service_name().prop_map(GatewayDestination::Hostname),
    ];
    (destination, port()).prop_map(|(destination, port)| GatewayReference { destination, port })
}

fn workload() -> impl Strategy<Value = Workload> {
    let tunnel = (
        select(&[ApplicationTunnelProtocol::None, ApplicationTunnelProtocol::Proxy][..]),
        prop::option::of(port()),
    )
        .prop_map(|(protocol, port)| ApplicationTunnel { protocol, port });
    (
        (
            select(&["u0", "u1", "c//Pod/u2", "c//Pod/u3"][..]),
            select(&["shop", "web"][..]),
            select(&["x", "y"][..]),
        ),
        (network(), prop::collection::vec(address(), 0..3), select(&["", "a.example.org"][..])),
        (
            select(&[Protocol::Hbone, Protocol::Tcp][..]),
            select(&[NetworkMode::Standard, NetworkMode::HostNetwork][..]),
            select(&[Health::Healthy, Health::Unhealthy][..]),
            0_u32..3,
        ),
        (prop::option::of(tunnel), prop::option::of(gateway()), prop::option::of(gateway())),
        prop::collection::btree_map(service_name(), ports(), 0..3),
    )
        .prop_map(
            |((uid, namespace, account), (network, addresses, hostname), kind, gateways, services)| {
                let mut workload = Workload::new(uid, "example.org", namespace, account).unwrap();
                (workload.network, workload.addresses, workload.hostname) =
                    (network.into(), addresses, hostname.into());
                (workload.protocol, workload.network_mode, workload.status, workload.capacity) = kind;
                (workload.application_tunnel, workload.waypoint, workload.network_gateway) = gateways;
                workload.services = services.into_iter().collect();
                workload
            },
        )
}

fn service() -> impl Strategy<Value = Service> {
    use LoadBalancerMode::{Failover, Passthrough, Standard, Strict};
    let balancer = (
        prop::collection::vec(select(&[Scope::Network, Scope::Region, Scope::Node][..]), 0..3),
        select(&[Standard, Strict, Failover, Passthrough][..]),
        select(&[HealthPolicy::AllowAll, HealthPolicy::OnlyHealthy][..]),
    )
        .prop_map(|(preferences, mode, health_policy)| LoadBalancer { preferences, mode, health_policy });
    let cidr = (network(), address(), 0_u8..=32).prop_map(|(network, address, length)| CidrVip {
        network: network.into(),
        cidr: ipnet::IpNet::new(address, length).unwrap(),
    });
    let vip = (network(), address()).prop_map(|(network, address)| NetworkAddress::new(network, address));
    let weighted =
        (gateway(), 0_u32..3).prop_map(|(destination, weight)| WeightedWaypoint { destination, weight });
    (
        (service_name(), ports()),
        (prop::collection::vec(vip, 0..3), prop::collection::vec(cidr, 0..2)),
        (prop::option::of(gateway()), prop::collection::vec(weighted, 0..3), prop::option::of(balancer)),
        prop::option::of(select(&[IpFamilies::V4, IpFamilies::V6, IpFamilies::Dual][..])),
        (any::<bool>(), select(&[Visibility::Public, Visibility::Namespace][..])),
    )
        .prop_map(|((id, ports), (vips, cidr_vips), gateways, ip_families, (canonical, visibility))| {
            let mut service = Service::new(id, "name");
            (service.ports, service.vips, service.cidr_vips) = (ports, vips, cidr_vips);
            (service.waypoint, service.weighted_waypoints, service.load_balancer) = gateways;
            (service.ip_families, service.canonical, service.visibility) =
                (ip_families, canonical, visibility);
            service
        })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => workload().prop_map(|workload| Change::UpsertWorkload(Arc::new(workload))),
        4 => service().prop_map(|service| Change::UpsertService(Arc::new(service))),
        1 => workload().prop_map(|workload| Change::RemoveWorkload(workload.uid)),
        1 => service_name().prop_map(Change::RemoveService),
    ]
}

fn snapshot_of(changes: impl IntoIterator<Item = Change>) -> Arc<Snapshot> {
    let store = StateStore::new(None, MissingPolicy::Deny);
    store.apply(changes.into_iter().chain([Change::Synced]));
    store.load()
}

/// Everything that does not depend on which of two claimants came first.
fn contents(snapshot: &Snapshot) -> impl PartialEq + use<> {
    let workloads: BTreeSet<_> = snapshot.workloads().map(|workload| workload.uid.to_string()).collect();
    let services: BTreeSet<_> = snapshot.services().map(|service| service.id.clone()).collect();
    let names = services.iter().cloned().chain(snapshot.staged_endpoints().map(|(name, _)| name.clone()));
    let endpoints: BTreeMap<_, BTreeMap<_, _>> = names
        .map(|name| {
            let table = snapshot.endpoints(&name);
            assert!(table.iter().all(|e| e.workload.ports_for(&name) == Some(&e.ports)));
            assert_eq!(table.len(), table.iter().count());
            let endpoint =
                |e: &mesh_proxy::state::Endpoint| (e.workload.uid.to_string(), format!("{:?}", e.ports));
            (name.clone(), table.iter().map(endpoint).collect())
        })
        .collect();
    (workloads, services, endpoints)
}

proptest! {
    // design §7.11: no input makes a decision panic, and routes keep their promises
    #[test]
    fn resolving_never_panics_and_never_sends_plaintext_to_hbone(
        changes in prop::collection::vec(change(), 0..12),
        source in workload(),
        (ip, port) in (address(), port()),
        seed in any::<u64>(),
    ) {
        let snapshot = snapshot_of(changes);
        let (ports, destination) = (ListenerPorts::default(), SocketAddr::new(ip, port));
        let request = OutboundRequest {
            source: &source,
            source_address: source.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            original_destination: destination,
            own_addresses: &[],
            ports: &ports,
        };
        let route = outbound::resolve(&snapshot, &request, seed);
        let owner = snapshot.workload_at(&NetworkAddress::new(Arc::clone(&source.network), ip));
        match route {
            Ok(Route::Passthrough { address }) => {
                prop_assert_eq!(address, destination);
                prop_assert!(owner.is_none_or(|owner| owner.protocol != Protocol::Hbone));
            }
            Ok(Route::Tcp(route)) => {
                prop_assert_eq!(route.workload.protocol, Protocol::Tcp);
                prop_assert!(route.workload.addresses.contains(&route.address.ip()));
                prop_assert_eq!(&route.workload.network, &source.network);
            }
            Ok(Route::Hbone(route)) => {
                prop_assert!(route.expected_peer.matches(route.workload.identity()));
                prop_assert!(route.workload.addresses.contains(&route.next_hop.ip()));
                prop_assert_eq!(&route.workload.network, &source.network);
            }
            Ok(_) | Err(_) => {}
        }
    }

    #[test]
    fn inbound_targets_are_the_local_address_and_never_an_own_port(
        changes in prop::collection::vec(change(), 0..12),
        workload in workload(),
        authority in prop_oneof![
            (address(), port()).prop_map(|(ip, port)| SocketAddr::new(ip, port.max(1)).to_string()),
            (service_name(), port()).prop_map(|(name, port)| format!("{}:{}", name.hostname(), port.max(1))),
        ],
        local_address in address(),
    ) {
        let snapshot = snapshot_of(changes);
        let ports = ListenerPorts::default();
        let request = InboundRequest {
            workload: &workload,
            local_address,
            authority: &authority.parse().unwrap(),
            forwarded_host: Some("a.example.org"),
            ports: &ports,
        };
        if let Ok(route) = inbound::resolve(&snapshot, &request) {
            prop_assert_eq!(route.target.ip(), local_address);
            prop_assert!(!ports.contains(route.target.port()));
        }
    }

    // control-plane#45, control-plane §7.7
    #[test]
    fn order_of_additions_does_not_matter(
        workloads in prop::collection::btree_map("[a-d]", workload(), 0..5),
        services in prop::collection::vec(service(), 0..4),
        seed in any::<u64>(),
    ) {
        let services: BTreeMap<_, _> = services.into_iter().map(|service| (service.id.clone(), service)).collect();
        let workloads = workloads.into_iter().map(|(uid, mut workload)| {
            workload.uid = uid.into();
            Change::UpsertWorkload(Arc::new(workload))
        });
        let services = services.into_values().map(|service| Change::UpsertService(Arc::new(service)));
        let mut changes: Vec<Change> = workloads.chain(services).collect();
        let in_order = contents(&snapshot_of(changes.clone()));
        fastrand::Rng::with_seed(seed).shuffle(&mut changes);
        prop_assert!(in_order == contents(&snapshot_of(changes)));
    }

    // What a history leaves behind is what its last words say, however they are batched.
    #[test]
    fn batching_does_not_matter_and_removing_all_leaves_nothing(
        changes in prop::collection::vec(change(), 0..16),
    ) {
        let store = StateStore::new(None, MissingPolicy::Deny);
        for change in changes.clone() {
            store.apply([change]);
        }
        prop_assert!(contents(&store.load()) == contents(&snapshot_of(changes)));
        let snapshot = store.load();
        store.apply(snapshot.workloads().map(|workload| Change::RemoveWorkload(Arc::clone(&workload.uid))));
        store.apply(snapshot.services().map(|service| Change::RemoveService(service.id.clone())));
        let (empty, addresses) = (store.load(), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]);
        prop_assert_eq!(empty.staged_endpoints().count(), 0);
        for address in addresses {
            let address = NetworkAddress::new("", address.parse().unwrap());
            prop_assert!(empty.owner_of(&address, None).is_none());
        }
    }

    #[test]
    fn names_and_addresses_survive_being_written(name in service_name(), network in network(), address in address()) {
        prop_assert_eq!(name.to_string().parse::<ServiceName>().unwrap(), name);
        let address = NetworkAddress::new(network, address);
        prop_assert_eq!(address.to_string().parse::<NetworkAddress>().unwrap(), address);
    }
}

#[cfg(feature = "local-config")]
mod local {
    use mesh_proxy::config::local::LocalConfig;

    use super::*;

    const SAMPLE: &str = include_str!("data/every-key.yaml");

    proptest! {
        #[test]
        fn reading_any_text_never_panics(text in "\\PC*") {
            drop(text.parse::<LocalConfig>());
        }

        // Damaged samples reach further into the reader than arbitrary text.
        #[test]
        fn reading_damaged_configurations_never_panics(
            at in 0..SAMPLE.len(),
            removed in 0_usize..40,
            inserted in select(&["", ":", "- ", "{", "]", "!Exact ", "\n", "0", "é"][..]),
        ) {
            let end = (at + removed).min(SAMPLE.len());
            let text = format!("{}{inserted}{}", &SAMPLE[..at], &SAMPLE[end..]);
            drop(text.parse::<LocalConfig>());
        }
    }
}
