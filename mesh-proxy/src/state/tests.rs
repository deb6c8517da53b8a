//! How snapshots look things up, and how changes become snapshots.

use std::{sync::Arc, time::Duration};

use mesh_policy::MissingPolicy;

use super::*;

fn store() -> StateStore {
    StateStore::new(Some("n1".into()), MissingPolicy::Deny)
}

fn workload(uid: &str, address: &str) -> Workload {
    let mut workload = Workload::new(uid, "example.org", "shop", "cart").unwrap();
    workload.name = uid.into();
    workload.node = "n1".into();
    workload.addresses = vec![address.parse().unwrap()];
    workload
}

fn member(uid: &str, services: &[&str]) -> Workload {
    let mut workload = workload(uid, "192.0.2.1");
    workload.services = services.iter().map(|name| (name.parse().unwrap(), PortMap::default())).collect();
    workload
}

fn service(name: &str, vips: &[&str]) -> Service {
    let mut service = Service::new(name.parse().unwrap(), name);
    service.vips = vips.iter().map(|vip| vip.parse().unwrap()).collect();
    service
}

fn with_range(name: &str, cidr: &str) -> Service {
    let mut service = service(name, &[]);
    service.cidr_vips = vec![CidrVip { network: "".into(), cidr: cidr.parse().unwrap() }];
    service
}

fn add_workload(workload: Workload) -> Change {
    Change::UpsertWorkload(Arc::new(workload))
}

fn add_service(service: Service) -> Change {
    Change::UpsertService(Arc::new(service))
}

fn owner(store: &StateStore, address: &str) -> Option<String> {
    store.load().workload_at(&address.parse().unwrap()).map(|workload| workload.uid.to_string())
}

fn service_at(store: &StateStore, address: &str, namespace: Option<&str>) -> Option<String> {
    store.load().service_at(&address.parse().unwrap(), namespace).map(|service| service.id.to_string())
}

fn endpoints(store: &StateStore, service: &str) -> Vec<String> {
    let snapshot = store.load();
    let table = snapshot.endpoints(&service.parse().unwrap());
    let mut uids: Vec<String> = table.iter().map(|endpoint| endpoint.workload.uid.to_string()).collect();
    for uid in &uids {
        assert_eq!(&*table.get(uid).unwrap().workload.uid, uid.as_str());
    }
    uids.sort();
    uids
}

// control-plane#51
#[test]
fn pods_that_speak_hbone_win_an_address_and_others_get_it_back() {
    let store = store();
    let mut hbone_pod = workload("c//Pod/shop/hbone", "192.0.2.1");
    hbone_pod.protocol = Protocol::Hbone;
    let mut hbone = workload("hbone", "192.0.2.1");
    hbone.protocol = Protocol::Hbone;
    let plain_pod = workload("c//Pod/shop/plain", "192.0.2.1");
    let all = [hbone_pod, workload("other", "192.0.2.1"), plain_pod, hbone];
    store.apply(all.map(add_workload));
    for uid in ["c//Pod/shop/hbone", "c//Pod/shop/plain", "hbone", "other"] {
        assert_eq!(owner(&store, "/192.0.2.1").as_deref(), Some(uid));
        store.apply([Change::RemoveWorkload(uid.into())]);
    }
    assert_eq!(owner(&store, "/192.0.2.1"), None);
}

#[test]
fn last_newcomer_owns_a_reused_address_whatever_becomes_of_the_former_owner() {
    let store = store();
    store.apply([add_workload(workload("old", "192.0.2.1")), add_workload(workload("new", "192.0.2.1"))]);
    let mut ending = workload("old", "192.0.2.1");
    ending.status = Health::Unhealthy;
    store.apply([add_workload(ending)]);
    assert_eq!(owner(&store, "/192.0.2.1").as_deref(), Some("new"));
    // Either order of the two within a push works (control-plane §7.7).
    store.apply([add_workload(workload("newer", "192.0.2.1")), Change::RemoveWorkload("new".into())]);
    assert_eq!(owner(&store, "/192.0.2.1").as_deref(), Some("newer"));
}

// control-plane#52
#[test]
fn workload_on_its_nodes_network_is_found_by_uid_and_as_endpoint_only() {
    let store = store();
    let mut host = member("host", &["shop/cart.example.org"]);
    host.network_mode = NetworkMode::HostNetwork;
    store.apply([add_workload(host)]);
    assert_eq!(owner(&store, "/192.0.2.1"), None);
    assert!(store.load().workload("host").is_some());
    assert_eq!(endpoints(&store, "shop/cart.example.org"), ["host"]);
}

#[test]
fn addresses_of_different_networks_are_different() {
    let store = store();
    let mut remote = workload("remote", "192.0.2.1");
    remote.network = "net-b".into();
    store.apply([add_workload(remote)]);
    assert_eq!(owner(&store, "/192.0.2.1"), None);
    assert_eq!(owner(&store, "net-b/192.0.2.1").as_deref(), Some("remote"));
}

#[test]
fn moved_workload_leaves_its_former_address() {
    let store = store();
    store.apply([add_workload(workload("a", "192.0.2.1"))]);
    store.apply([add_workload(workload("a", "192.0.2.2"))]);
    assert_eq!(owner(&store, "/192.0.2.1"), None);
    assert_eq!(owner(&store, "/192.0.2.2").as_deref(), Some("a"));
}

#[test]
fn local_workload_is_one_of_this_node_with_all_three_names() {
    let store = store();
    let mut elsewhere = workload("elsewhere", "192.0.2.2");
    elsewhere.node = "n2".into();
    store.apply([add_workload(workload("here", "192.0.2.1")), add_workload(elsewhere)]);
    let snapshot = store.load();
    let find = |name: &str, namespace: &str, service_account: &str| {
        let key = WorkloadKey {
            name: name.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        };
        snapshot.local_workload(&key).is_some()
    };
    assert!(find("here", "shop", "cart"));
    assert!(
        !find("here", "shop", "other")
            && !find("here", "other", "cart")
            && !find("elsewhere", "shop", "cart")
    );
}

// control-plane#53
#[test]
fn clients_mean_their_own_service_then_the_canonical_then_the_first() {
    let store = store();
    let mut canonical = service("b/cart.example.org", &["/198.51.100.1"]);
    canonical.canonical = true;
    store.apply([
        add_service(service("a/cart.example.org", &["/198.51.100.1"])),
        add_service(canonical),
        add_service(service("c/cart.example.org", &["/198.51.100.1"])),
    ]);
    let by_hostname = |namespace: &str| {
        let snapshot = store.load();
        snapshot
            .service_by_hostname("cart.example.org", Some(namespace))
            .map(|service| service.namespace().to_string())
    };
    for (client, expected) in [("c", "c"), ("a", "a"), ("z", "b")] {
        assert_eq!(by_hostname(client).as_deref(), Some(expected));
        let at = service_at(&store, "/198.51.100.1", Some(client)).unwrap();
        assert_eq!(at, format!("{expected}/cart.example.org"));
    }
    store.apply([Change::RemoveService("b/cart.example.org".parse().unwrap())]);
    assert_eq!(by_hostname("z").as_deref(), Some("a"));
}

// control-plane#54, control-plane#55
#[test]
fn services_of_a_namespace_are_hidden_from_others() {
    let store = store();
    let mut private = service("a/cart.example.org", &["/203.0.113.1"]);
    private.visibility = Visibility::Namespace;
    let mut private_range = with_range("a/range.example.org", "203.0.113.0/25");
    private_range.visibility = Visibility::Namespace;
    let public_range = with_range("b/range.example.org", "203.0.113.0/24");
    store.apply([add_service(private), add_service(private_range), add_service(public_range)]);
    assert_eq!(service_at(&store, "/203.0.113.1", Some("a")).as_deref(), Some("a/cart.example.org"));
    assert_eq!(service_at(&store, "/203.0.113.1", Some("z")).as_deref(), Some("b/range.example.org"));
    assert_eq!(service_at(&store, "/203.0.113.1", None).as_deref(), Some("a/cart.example.org"));
    assert_eq!(service_at(&store, "/203.0.113.2", Some("a")).as_deref(), Some("a/range.example.org"));
    assert!(store.load().service_by_hostname("cart.example.org", Some("z")).is_none());
}

// control-plane#56, control-plane#57
#[test]
fn ranges_rank_by_namespace_then_length_within_network_and_family() {
    let store = store();
    let mut canonical = with_range("c/three.example.org", "203.0.113.0/24");
    canonical.canonical = true;
    store.apply([
        add_service(with_range("a/eight.example.org", "203.0.0.0/8")),
        add_service(with_range("b/two.example.org", "203.0.113.7/24")),
        add_service(canonical),
        add_service(with_range("b/six.example.org", "2001:db8::/32")),
        add_service(with_range("b/all.example.org", "::/0")),
    ]);
    let at = |address: &str, client: &str| service_at(&store, address, Some(client));
    assert_eq!(at("/203.0.113.9", "a").as_deref(), Some("a/eight.example.org"));
    assert_eq!(at("/203.0.113.9", "b").as_deref(), Some("b/two.example.org"));
    assert_eq!(at("/203.0.113.9", "z").as_deref(), Some("c/three.example.org"));
    assert_eq!(at("/203.9.9.9", "z").as_deref(), Some("a/eight.example.org"));
    assert_eq!(at("/2001:db8::1", "z").as_deref(), Some("b/six.example.org"));
    assert_eq!(at("/2001:db9::1", "z").as_deref(), Some("b/all.example.org"));
    assert_eq!(at("net-b/203.0.113.9", "b"), None);
    assert_eq!(at("/198.51.100.1", "b"), None);
}

// control-plane#50
#[test]
fn replaced_ranges_are_gone() {
    let store = store();
    for _ in 0..3 {
        store.apply([add_service(with_range("a/range.example.org", "203.0.113.0/24"))]);
    }
    store.apply([add_service(with_range("a/range.example.org", "198.51.100.0/25"))]);
    assert_eq!(service_at(&store, "/203.0.113.1", None), None);
    assert!(service_at(&store, "/198.51.100.1", None).is_some());
    store.apply([Change::RemoveService("a/range.example.org".parse().unwrap())]);
    assert_eq!(service_at(&store, "/198.51.100.1", None), None);
}

// control-plane#45, control-plane#48, control-plane#49
#[test]
fn endpoints_wait_for_their_service_and_survive_it() {
    let store = store();
    let name: ServiceName = "shop/cart.example.org".parse().unwrap();
    store.apply([add_workload(member("a", &["shop/cart.example.org"]))]);
    assert_eq!(store.load().staged_endpoints().count(), 1);
    store.apply([add_service(service("shop/cart.example.org", &[]))]);
    assert_eq!(store.load().staged_endpoints().count(), 0);
    store.apply([Change::RemoveService(name)]);
    assert_eq!(store.load().staged_endpoints().count(), 1);
    store.apply([add_service(service("shop/cart.example.org", &[]))]);
    assert_eq!(endpoints(&store, "shop/cart.example.org"), ["a"]);
}

// control-plane#20, control-plane#58
#[test]
fn workload_leaves_the_services_it_no_longer_names() {
    let store = store();
    let (one, two) = ("shop/one.example.org", "shop/two.example.org");
    store.apply(["a", "b", "c"].map(|uid| add_workload(member(uid, &[one, two]))));
    store.apply([add_workload(member("a", &[two]))]);
    assert_eq!(endpoints(&store, one), ["b", "c"]);
    assert_eq!(endpoints(&store, two), ["a", "b", "c"]);
    store.apply([Change::RemoveWorkload("b".into())]);
    assert_eq!(endpoints(&store, one), ["c"]);
    assert_eq!(endpoints(&store, two), ["a", "c"]);
}

#[test]
fn clearing_forgets_everything_but_that_it_was_synced() {
    let store = store();
    assert!(!store.load().is_synced());
    let everything = [
        add_workload(member("a", &["shop/cart.example.org"])),
        add_service(service("shop/cart.example.org", &["/198.51.100.1"])),
    ];
    store.apply(everything.into_iter().chain([Change::Synced]));
    store.apply([Change::Clear]);
    let snapshot = store.load();
    assert!(snapshot.is_synced());
    assert_eq!((snapshot.workloads().count(), snapshot.services().count()), (0, 0));
    assert_eq!(service_at(&store, "/198.51.100.1", None), None);
    assert!(endpoints(&store, "shop/cart.example.org").is_empty());
}

#[test]
fn each_batch_is_one_epoch_and_older_snapshots_stay_as_they_were() {
    let store = store();
    let before = store.load();
    let epochs = store.subscribe();
    assert_eq!(
        store.apply([add_workload(workload("a", "192.0.2.1")), add_workload(workload("b", "192.0.2.2"))]),
        1
    );
    assert_eq!((before.epoch(), store.load().epoch(), *epochs.borrow()), (0, 1, 1));
    assert_eq!((before.workloads().count(), store.load().workloads().count()), (0, 2));
}

fn key() -> WorkloadKey {
    WorkloadKey { name: "a".into(), namespace: "shop".into(), service_account: "cart".into() }
}

// routing#44
#[tokio::test(start_paused = true)]
async fn workload_that_arrives_in_time_is_found() {
    let store = store();
    let (key, patience) = (key(), Duration::from_secs(5));
    let arrive = async {
        tokio::time::advance(Duration::from_secs(2)).await;
        store.apply([add_workload(workload("b", "192.0.2.2"))]);
        tokio::task::yield_now().await;
        store.apply([add_workload(workload("a", "192.0.2.1"))]);
        tokio::task::yield_now().await;
        store.apply([Change::Synced]);
    };
    let (found, ()) = tokio::join!(store.wait_for_local_workload(&key, patience), arrive);
    let (snapshot, workload) = found.unwrap();
    assert_eq!((&*workload.uid, snapshot.epoch()), ("a", 3));
}

// control-plane#71
#[tokio::test(start_paused = true)]
async fn workload_that_never_arrives_is_an_error_in_time() {
    let (store, start) = (store(), tokio::time::Instant::now());
    let error = store.wait_for_local_workload(&key(), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error, UnknownWorkload { key: key() });
    assert_eq!(error.to_string(), "failed to fetch information about local workload: cart.shop (a)");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_first_sync_ends_with_it() {
    let store = store();
    assert_eq!(store.wait_until_synced(Duration::from_secs(1)).await.unwrap_err(), NotSynced);
    store.apply([Change::Synced]);
    assert!(store.wait_until_synced(Duration::ZERO).await.is_ok());
}

#[test]
fn a_workload_of_another_node_is_not_local() {
    let store = store();
    let key = |name: &str| WorkloadKey {
        name: name.into(),
        namespace: "shop".into(),
        service_account: "cart".into(),
    };
    for (name, node) in [("here", "n1"), ("anywhere", ""), ("elsewhere", "n2")] {
        let mut workload = Workload::new(name, "", "shop", "cart").unwrap();
        workload.name = name.into();
        workload.node = node.into();
        store.apply([Change::UpsertWorkload(Arc::new(workload))]);
    }
    let snapshot = store.load();
    let is_local = |name| snapshot.local_workload(&key(name)).is_some();
    assert_eq!(["here", "anywhere", "elsewhere"].map(is_local), [true, true, false]);
}
