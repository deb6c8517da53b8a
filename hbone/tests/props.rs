//! What holds for any input.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use hbone::{Baggage, Destination, Forwarded, TraceParent, WorkloadKind};
use proptest::prelude::*;

fn destination() -> impl Strategy<Value = Destination> {
    let name = "[a-z0-9_-]{1,20}(\\.[a-z0-9_-]{1,20}){0,4}\\.[a-z]{1,10}";
    prop_oneof![
        any::<(std::net::Ipv4Addr, u16)>().prop_map(|(ip, port)| std::net::SocketAddr::from((
            ip,
            port.max(1)
        ))
        .into()),
        any::<(std::net::Ipv6Addr, u16)>().prop_map(|(ip, port)| std::net::SocketAddr::from((
            ip,
            port.max(1)
        ))
        .into()),
        (name, 1..=u16::MAX).prop_map(|(name, port)| Destination::from_name(&name, port).unwrap()),
    ]
}

fn baggage() -> impl Strategy<Value = Baggage> {
    let kind = prop_oneof![
        Just(WorkloadKind::CronJob),
        Just(WorkloadKind::Deployment),
        Just(WorkloadKind::Job),
        Just(WorkloadKind::Pod)
    ];
    // Any text but control characters, which are not decoded.
    let text = || "\\PC{0,40}";
    (text(), text(), kind, text(), text(), text(), text(), text()).prop_map(
        |(cluster, namespace, kind, workload, name, version, region, zone)| {
            Baggage::new()
                .with_cluster(cluster)
                .with_namespace(namespace)
                .with_workload(kind, workload)
                .with_service_name(name)
                .with_service_version(version)
                .with_region(region)
                .with_zone(zone)
        },
    )
}

proptest! {
    // hbone#24
    #[test]
    fn destinations_round_trip(destination in destination()) {
        prop_assert_eq!(destination.to_string().parse(), Ok(destination));
    }

    #[test]
    fn any_destination_that_parses_is_normal(text in ".{0,60}") {
        if let Ok(destination) = text.parse::<Destination>() {
            prop_assert_eq!(destination.to_string().parse(), Ok(destination));
        }
    }

    #[test]
    fn case_and_a_trailing_dot_do_not_matter(name in "[A-Za-z]{1,20}(\\.[A-Za-z]{1,20}){0,3}", port in 1..=u16::MAX) {
        let plain: Destination = format!("{name}:{port}").parse().unwrap();
        let dotted: Destination = format!("{}.:{port}", name.to_ascii_uppercase()).parse().unwrap();
        prop_assert_eq!(plain, dotted);
    }

    // hbone#29
    #[test]
    fn baggage_round_trips(baggage in baggage()) {
        let value = baggage.to_header_value();
        prop_assert_eq!(Baggage::from_lines([value.to_str().unwrap()]), baggage);
    }

    // hbone#32
    #[test]
    fn any_baggage_is_read_to_something_that_can_be_written(lines in proptest::collection::vec(".{0,100}", 0..5)) {
        let baggage = Baggage::from_lines(lines.iter().map(String::as_str));
        let value = baggage.to_header_value();
        prop_assert_eq!(Baggage::from_lines([value.to_str().unwrap()]), baggage);
    }

    // hbone#27
    #[test]
    fn forwarded_round_trips(source: std::net::SocketAddr, host in "[!-~]{0,40}") {
        let forwarded = Forwarded::new(source).with_host(host);
        let value = forwarded.to_header_value();
        let read = Forwarded::from_lines([value.to_str().unwrap()]);
        prop_assert_eq!(read.host(), forwarded.host());
        prop_assert_eq!(read.source().map(|address| address.to_string()), Some(source.to_string()));
    }

    // hbone#32
    #[test]
    fn any_forwarded_is_read_to_something_that_can_be_written(lines in proptest::collection::vec(".{0,100}", 0..5)) {
        let forwarded = Forwarded::from_lines(lines.iter().map(String::as_str));
        let value = forwarded.to_header_value();
        prop_assert_eq!(Forwarded::from_lines([value.to_str().unwrap()]), forwarded);
    }

    // hbone#28
    #[test]
    fn any_traceparent_that_parses_is_written_as_version_00(text in "[0-9a-f-]{50,60}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|.{0,60}") {
        if let Ok(parent) = text.parse::<TraceParent>() {
            let written = parent.to_string();
            prop_assert_eq!(written.len(), 55);
            prop_assert_eq!(written.parse(), Ok(parent));
        }
    }
}
