//! Metrics as Istio's dashboards read them.

#![cfg(feature = "telemetry")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/telemetry.rs"]
mod support;

use std::{io, sync::Arc};

use mesh_proxy::{
    state::Workload,
    telemetry::{
        ConnectionRecord, Direction, Event, HboneFailure, Observer, ResponseFlag, SocketRecord, Telemetry,
    },
};

use support::{baggage, plaintext, sample, samples, total, tunnel, workload};

/// telemetry#12: the labels of every connection, in this order.
const LABELS: [&str; 27] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

// telemetry#5, telemetry#15
#[test]
fn outbound_tunnel_is_counted_with_both_principals() {
    let telemetry = Telemetry::builder().build();
    ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound)).close(ResponseFlag::None, None);
    for metric in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
        let sample = sample(&telemetry, metric);
        assert_eq!(sample.value, 1);
        assert_eq!(sample.labels.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), LABELS);
        for (label, value) in [
            ("reporter", "source"),
            ("source_workload", "web"),
            ("source_canonical_revision", "v1"),
            ("source_app", "web"),
            ("source_principal", "spiffe://example.org/ns/shop/sa/web"),
            ("source_cluster", "cluster1"),
            ("destination_service", "cart.shop.svc.cluster.local"),
            ("destination_service_namespace", "shop"),
            ("destination_service_name", "cart"),
            ("destination_workload", "cart"),
            ("destination_principal", "spiffe://example.org/ns/shop/sa/cart"),
            ("request_protocol", "tcp"),
            ("response_flags", "-"),
            ("connection_security_policy", "mutual_tls"),
        ] {
            assert_eq!(sample.label(label), value, "{label}");
        }
    }
    assert_eq!(total(&telemetry, "istio_tcp_connections_failed_total"), 0);
}

#[test]
fn what_tunnels_hold_and_how_connections_fail_is_shown() {
    let settings = mesh_proxy::Settings::default().budget(hbone::Budget::new(4096));
    let telemetry = Telemetry::builder().tunnels(&settings).build();
    for (metric, value) in [
        ("mesh_hbone_over_budget_total", 0),
        ("mesh_hbone_refused_requests_total", 0),
        ("mesh_hbone_unread_bytes", 0),
        ("mesh_hbone_unread_bytes_limit", 4096),
    ] {
        assert_eq!(sample(&telemetry, metric).value, value, "{metric}");
    }
    for failure in [HboneFailure::Flood, HboneFailure::Flood, HboneFailure::Io] {
        let source = "192.0.2.1:45378".parse().unwrap();
        telemetry.event(&Event::HboneConnectionFailed { source, failure, error: &"cause" });
    }
    let failures = samples(&telemetry, "mesh_hbone_connection_failures_total");
    let seen: Vec<_> =
        failures.iter().filter(|kind| kind.value > 0).map(|kind| (kind.label("kind"), kind.value)).collect();
    assert_eq!(seen, [("flood", 2), ("io", 1)]);
    assert_eq!(failures.len(), HboneFailure::ALL.len());
}

// telemetry#6
#[test]
fn inbound_source_principal_is_what_was_proved() {
    let telemetry = Telemetry::builder().build();
    let mut meta = tunnel(Direction::Inbound);
    meta.source_identity = Some("spiffe://example.org/ns/shop/sa/proved".parse().unwrap());
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_opened_total");
    assert_eq!(sample.label("reporter"), "destination");
    assert_eq!(sample.label("source_principal"), "spiffe://example.org/ns/shop/sa/proved");
}

// telemetry#7
#[test]
fn plaintext_proves_nothing_about_its_source() {
    let telemetry = Telemetry::builder().build();
    let mut meta = plaintext(Direction::Inbound);
    meta.source_workload = Some(workload("web"));
    meta.destination_workload = Some(workload("cart"));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_opened_total");
    assert_eq!(sample.label("connection_security_policy"), "unknown");
    assert_eq!(sample.label("source_principal"), "unknown");
    assert_eq!(sample.label("source_workload"), "web");
    assert_eq!(sample.label("destination_principal"), "spiffe://example.org/ns/shop/sa/cart");
}

// telemetry#8
#[test]
fn passthrough_knows_nothing_of_its_destination() {
    let telemetry = Telemetry::builder().build();
    let mut meta = plaintext(Direction::Outbound);
    meta.source_workload = Some(workload("web"));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_closed_total");
    assert_eq!(sample.label("response_flags"), "-");
    for (label, value) in sample.labels.iter().filter(|(label, _)| label.starts_with("destination_")) {
        assert_eq!(value, "unknown", "{label}");
    }
}

// telemetry#11
#[test]
fn bytes_are_counted_while_the_connection_is_open() {
    let telemetry = Telemetry::builder().build();
    let record = ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound));
    record.received(5);
    assert_eq!(sample(&telemetry, "istio_tcp_received_bytes_total").value, 5);
    record.received(6);
    assert_eq!(sample(&telemetry, "istio_tcp_received_bytes_total").value, 11);
    assert_eq!(total(&telemetry, "istio_tcp_connections_closed_total"), 0);
    record.close(ResponseFlag::None, None);
}

// telemetry#13
#[test]
fn locality_is_absent_only_where_neither_side_is_known() {
    let telemetry = Telemetry::builder().build();
    ConnectionRecord::open(&telemetry, plaintext(Direction::Outbound)).close(ResponseFlag::None, None);
    let labels = sample(&telemetry, "istio_tcp_connections_opened_total").labels;
    assert!(!labels.iter().any(|(label, _)| label.ends_with("_region") || label.ends_with("_zone")));

    let telemetry = Telemetry::builder().build();
    let mut web = Workload::clone(&workload("web"));
    web.locality.region = "region1".into();
    let mut meta = plaintext(Direction::Outbound);
    meta.source_workload = Some(Arc::new(web));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_opened_total");
    assert_eq!(sample.label("source_region"), "region1");
    assert_eq!(sample.label("source_zone"), "unknown");
    assert_eq!(sample.label("destination_region"), "unknown");
}

// telemetry#14
#[test]
fn empty_names_are_unknown() {
    let telemetry = Telemetry::builder().build();
    let mut meta = plaintext(Direction::Outbound);
    meta.source_workload = Some(Arc::new(Workload::new("uid", "", "shop", "web").unwrap()));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_opened_total");
    assert_eq!(sample.label("source_workload"), "unknown");
    assert_eq!(sample.label("source_version"), "unknown");
}

// telemetry#17, telemetry#18: whoever decides leaves out what must not count; baggage names only unknown sources.
#[test]
fn baggage_describes_only_sources_that_discovery_does_not_know() {
    let said = "k8s.cluster.name=c2,k8s.namespace.name=far,k8s.deployment.name=web-v2,service.name=web,\
                service.version=v2,cloud.region=r2,cloud.availability_zone=z2";
    let telemetry = Telemetry::builder().build();
    let mut meta = tunnel(Direction::Inbound);
    meta.source_baggage = Some(baggage(said));
    ConnectionRecord::open(&telemetry, meta.clone()).close(ResponseFlag::None, None);
    assert_eq!(sample(&telemetry, "istio_tcp_connections_opened_total").label("source_cluster"), "cluster1");

    let telemetry = Telemetry::builder().build();
    meta.source_workload = None;
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let sample = sample(&telemetry, "istio_tcp_connections_opened_total");
    for (label, value) in [
        ("source_workload", "web-v2"),
        ("source_canonical_service", "web"),
        ("source_app", "web-v2"),
        ("source_canonical_revision", "v2"),
        ("source_version", "v2"),
        ("source_workload_namespace", "far"),
        ("source_cluster", "c2"),
        ("source_region", "r2"),
        ("source_zone", "z2"),
        ("source_principal", "spiffe://example.org/ns/shop/sa/web"),
    ] {
        assert_eq!(sample.label(label), value, "{label}");
    }
}

// telemetry#66
#[test]
fn peers_cannot_grow_the_series_without_bound() {
    let telemetry = Telemetry::builder().baggage_limit(10).build();
    for number in 0..10_000 {
        let mut meta = tunnel(Direction::Inbound);
        meta.source_workload = None;
        meta.source_baggage = Some(baggage(&format!("service.name=web-{number}")));
        meta.destination_workload = None;
        meta.destination_service = None;
        ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    }
    let opened = samples(&telemetry, "istio_tcp_connections_opened_total");
    assert_eq!(opened.len(), 11);
    assert_eq!(opened.iter().map(|sample| sample.value).sum::<u64>(), 10_000);
    assert_eq!(total(&telemetry, "mesh_folded_sources_total"), 9_990);
}

#[test]
fn values_that_peers_choose_cannot_break_the_exposition() {
    let telemetry = Telemetry::builder().build();
    let mut web = Workload::clone(&workload("web"));
    web.workload_name = "a\"} 1\n# EOF\\".into();
    let mut meta = tunnel(Direction::Inbound);
    meta.source_workload = Some(Arc::new(web));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let body = telemetry.encode().unwrap();
    assert!(body.contains(r#"source_workload="a\"} 1\n# EOF\\","#));
    assert_eq!(body.matches("\n# EOF\n").count(), 1);
}

// telemetry#26
#[test]
fn sockets_are_open_for_as_long_as_their_record() {
    let telemetry = Arc::new(Telemetry::builder().build());
    let open = |telemetry: &Telemetry| {
        let samples = samples(telemetry, "istio_tcp_sockets_open");
        samples.iter().map(|sample| (sample.label("reporter").to_owned(), sample.value)).collect::<Vec<_>>()
    };
    let record = SocketRecord::open(telemetry.clone(), Direction::Inbound);
    assert_eq!(open(&telemetry), [("destination".to_owned(), 1), ("source".to_owned(), 0)]);
    // Another thread, so another shard.
    std::thread::spawn(move || drop(record)).join().unwrap();
    assert_eq!(open(&telemetry), [("destination".to_owned(), 0), ("source".to_owned(), 0)]);
}

// telemetry#30, telemetry#32, telemetry#2
#[test]
fn build_and_process_are_described() {
    let telemetry = Telemetry::builder().version("1.30.0").build();
    let build = sample(&telemetry, "istio_build");
    assert_eq!((build.label("component"), build.label("tag"), build.value), ("ztunnel", "1.30.0", 1));
    let (open, max) = (sample(&telemetry, "process_open_fds"), sample(&telemetry, "process_max_fds"));
    assert!(open.value > 0 && open.value <= max.value);
    assert!(telemetry.encode().unwrap().ends_with("# EOF\n"));
}

#[test]
fn events_are_counted() {
    let telemetry = Telemetry::builder().counter("mesh_elsewhere", "Kept elsewhere.", || 42).build();
    telemetry.event(&Event::LocalConfigApplied);
    telemetry.event(&Event::LocalConfigRejected { error: &"line 1: no" });
    let error = io::Error::from(io::ErrorKind::PermissionDenied);
    telemetry
        .event(&Event::SourceAddressNotPreserved { source: "192.0.2.1".parse().unwrap(), error: &error });
    for (metric, count) in [
        ("mesh_local_config_applied_total", 1),
        ("mesh_local_config_rejected_total", 1),
        ("mesh_source_address_not_preserved_total", 1),
        ("mesh_dry_run_denials_total", 0),
        ("mesh_elsewhere_total", 42),
    ] {
        assert_eq!(sample(&telemetry, metric).value, count, "{metric}");
    }
}

#[test]
fn threads_add_up_to_one_series() {
    let telemetry = Telemetry::builder().build();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let record = ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound));
                    record.received(1);
                    record.close(ResponseFlag::None, None);
                }
            });
        }
    });
    assert_eq!(sample(&telemetry, "istio_tcp_connections_opened_total").value, 400);
    assert_eq!(sample(&telemetry, "istio_tcp_received_bytes_total").value, 400);
}

// identity#83
#[tokio::test]
async fn certificates_and_the_calls_for_them_are_shown() {
    use mesh_identity::{IdentityManager, IdentitySource, testing::Authority};

    let shown = |source: &Arc<dyn IdentitySource>| {
        let source = Arc::clone(source);
        Telemetry::builder().identities(move || Some(Arc::clone(&source)))
    };

    let manager = IdentityManager::builder(Authority::new("example.org")).spawn();
    let cart = "spiffe://example.org/ns/shop/sa/cart".parse().unwrap();
    let telemetry = Telemetry::builder().build();
    assert!(samples(&telemetry, "mesh_identity_identities").is_empty());

    let read = manager.clone();
    let telemetry = shown(&(Arc::new(manager.clone()) as Arc<dyn IdentitySource>))
        .rotation(move || Some(read.metrics()))
        .build();
    let with = |state: &str| {
        let all = samples(&telemetry, "mesh_identity_identities");
        all.iter().find(|sample| sample.labels[0].1 == state).unwrap().value
    };
    assert_eq!((with("available"), with("unavailable")), (0, 0));
    manager.permit(&cart).unwrap();
    let svid = manager.svid(&cart).await.unwrap();
    let end = svid.not_after().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let first = sample(&telemetry, "mesh_identity_certificate_expiry_timestamp_seconds");
    assert_eq!(first.value, end);
    assert_eq!((with("available"), with("unavailable")), (1, 0));
    assert_eq!(sample(&telemetry, "mesh_identity_authority_up").value, 1);
    assert_eq!(sample(&telemetry, "mesh_identity_calls_in_flight").value, 0);
    let root = sample(&telemetry, "mesh_identity_root_expiry_timestamp_seconds");
    assert_eq!(root.labels, [("trust_domain".to_owned(), "example.org".to_owned())]);
    let results = samples(&telemetry, "mesh_identity_issuances_total");
    let succeeded = results.iter().find(|sample| sample.labels[0].1 == "success").unwrap();
    assert_eq!((succeeded.value, results.len()), (1, 6));
}

// identity#83
#[test]
fn certificates_of_any_source_are_shown() {
    use mesh_identity::{IdentitySource, IdentityStore, testing::Authority};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    let authority = Authority::new("example.org");
    let store = IdentityStore::new(authority.bundles());
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    for (account, end) in [("cart", now + hour), ("web", now + 2 * hour), ("old", now - hour)] {
        let leaf = authority.leaf(&format!("spiffe://example.org/ns/shop/sa/{account}"));
        store.insert(leaf.valid(now - 2 * hour, end).issue().svid().unwrap());
    }
    let source: Arc<dyn IdentitySource> = Arc::new(store);
    let telemetry = Telemetry::builder().identities(move || Some(Arc::clone(&source))).build();
    // What is over is not in use.
    let first = sample(&telemetry, "mesh_identity_certificate_expiry_timestamp_seconds").value;
    let end = (now + hour).duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(first, end);
    let states = samples(&telemetry, "mesh_identity_identities");
    assert_eq!(states.iter().map(|sample| sample.value).collect::<Vec<_>>(), [2, 1]);
    assert!(sample(&telemetry, "mesh_identity_root_expiry_timestamp_seconds").value > end);
    assert!(samples(&telemetry, "mesh_identity_calls_in_flight").is_empty());
}

// telemetry §1, identity#70, identity#74
#[test]
fn revocation_lists_and_what_came_of_them_are_shown() {
    use mesh_identity::{Revocation, RevocationPolicy, Role, testing::Authority};

    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let telemetry = Telemetry::builder().revocation(revocation.clone()).build();
    let of = |metric: &str, label: &str| {
        let samples = samples(&telemetry, metric);
        samples.iter().find(|sample| sample.labels[0].1 == label).unwrap().value
    };
    revocation.count_ended(Role::Client);
    revocation.count_ended(Role::Client);
    revocation.count_ended(Role::Server);
    assert_eq!(of("istio_crl_policy_rejections_total", "destination"), 2);
    assert_eq!(of("istio_crl_policy_rejections_total", "source"), 1);
    assert_eq!(total(&telemetry, "istio_crl_untracked_connections_total"), 0);
    assert!(samples(&telemetry, "mesh_revocation_next_update_timestamp_seconds").is_empty());

    let ca = Authority::new("example.org");
    let svid = ca.svid("spiffe://example.org/ns/shop/sa/cart");
    revocation.load(ca.revocation_list().revoke(&svid.chain()[0]).pem().as_bytes()).unwrap();
    assert!(revocation.load(b"nonsense").is_err());
    assert_eq!(sample(&telemetry, "mesh_revocation_lists").value, 1);
    assert_eq!(sample(&telemetry, "mesh_revocation_revoked_certificates").value, 1);
    assert!(sample(&telemetry, "mesh_revocation_next_update_timestamp_seconds").value > 0);
    let loads = ["success", "failure"].map(|result| of("mesh_revocation_loads_total", result));
    assert_eq!(loads, [1, 1]);

    let identity = "spiffe://example.org/ns/shop/sa/cart".parse().unwrap();
    telemetry.event(&Event::OwnCertificateRevoked { identity: &identity, error: &"key compromise" });
    assert_eq!(sample(&telemetry, "mesh_own_certificate_revocations_total").value, 1);
}
