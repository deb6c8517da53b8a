//! The access log as Istio's tools read it.

#![cfg(feature = "telemetry")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/telemetry.rs"]
mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh_proxy::telemetry::{
    ConnectionRecord, Direction, EarlyDenial, Observer, ResetBy, ResponseFlag, Telemetry,
    log::{LogFormat, LogFormatter, LogHandle},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{fmt, layer::SubscriberExt};

use support::{baggage, plaintext, sample, samples, total, tunnel, workload};

// telemetry#9, telemetry#10: metrics count as the client sees it, the log as the local workload does.
#[tokio::test(start_paused = true)]
async fn bytes_are_counted_from_the_client_and_logged_from_the_local_workload() {
    for (direction, logged) in [
        (Direction::Outbound, "bytes_sent=11 bytes_recv=22"),
        (Direction::Inbound, "bytes_sent=22 bytes_recv=11"),
    ] {
        let telemetry = Telemetry::builder().build();
        let log = Log::capture("info");
        let record = ConnectionRecord::open(&telemetry, tunnel(direction));
        record.received(11);
        record.sent(22);
        record.close(ResponseFlag::None, None);
        assert_eq!(sample(&telemetry, "istio_tcp_received_bytes_total").value, 11);
        assert_eq!(sample(&telemetry, "istio_tcp_sent_bytes_total").value, 22);
        assert!(log.only_line().contains(logged));
    }
}

// telemetry#19, telemetry#21, telemetry#22, telemetry#23
#[test]
fn failures_are_counted_as_closed_and_failed_under_their_flag() {
    for flag in ResponseFlag::ALL.into_iter().filter(|flag| flag.is_failure()) {
        let telemetry = Telemetry::builder().build();
        let log = Log::capture("info");
        ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound)).close(flag, Some(&"it failed"));
        for metric in ["istio_tcp_connections_closed_total", "istio_tcp_connections_failed_total"] {
            let sample = sample(&telemetry, metric);
            assert_eq!((sample.label("response_flags"), sample.value), (flag.as_str(), 1));
        }
        assert_eq!(sample(&telemetry, "istio_tcp_connections_opened_total").label("response_flags"), "-");
        let line = log.only_line();
        assert!(line.contains("\terror\taccess\tconnection complete\t"));
        assert!(line.ends_with("error=\"it failed\""));
    }
}

// telemetry#24
#[test]
fn reset_by_the_peer_is_no_failure() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound)).close(ResponseFlag::None, None);
    assert_eq!(total(&telemetry, "istio_tcp_connections_failed_total"), 0);
    assert!(log.only_line().contains("\tinfo\taccess\tconnection complete\t"));
}

// telemetry#24, telemetry#33: the field is ours, and stands behind those that Istio's tools know.
#[test]
fn a_reset_names_the_side_it_came_from() {
    for (by, field) in [(ResetBy::Downstream, "downstream"), (ResetBy::Upstream, "upstream")] {
        let telemetry = Telemetry::builder().build();
        let log = Log::capture("info");
        let record = ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound));
        record.reset(by);
        record.close(ResponseFlag::None, None);
        let line = log.only_line();
        assert!(line.contains("\tinfo\taccess\tconnection complete\t"));
        let (_, end) = line.split_once(" duration=").unwrap();
        assert_eq!(end.split_once(' ').unwrap().1, format!("reset_by=\"{field}\""));
        assert_eq!(total(&telemetry, "istio_tcp_connections_failed_total"), 0);
    }
}

// telemetry#25
#[test]
fn dropped_connection_is_reported_once_as_drained_and_not_failed() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    drop(ConnectionRecord::open(&telemetry, tunnel(Direction::Inbound)));
    assert_eq!(sample(&telemetry, "istio_tcp_connections_closed_total").label("response_flags"), "-");
    assert_eq!(total(&telemetry, "istio_tcp_connections_failed_total"), 0);
    let line = log.only_line();
    assert!(line.contains("\terror\taccess\tconnection complete\t"));
    assert!(line.ends_with("error=\"connection closed due to connection drain\""));
}

// telemetry#27
#[test]
fn early_denial_is_a_warning_and_a_count() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    telemetry.connection_refused(&EarlyDenial {
        source: "192.0.2.1:7306".parse().unwrap(),
        destination: "192.0.2.10:81".parse().unwrap(),
        direction: Direction::Outbound,
        error: &"no healthy upstream: 192.0.2.10:81",
    });
    let line = log.only_line();
    assert_eq!(
        after_time(&line),
        "warn\taccess\tconnection failed\tsrc.addr=192.0.2.1:7306 dst.addr=192.0.2.10:81 direction=\"outbound\" \
         error=\"no healthy upstream: 192.0.2.10:81\""
    );
    assert_eq!(total(&telemetry, "istio_tcp_connections_opened_total"), 0);
    let denials = samples(&telemetry, "mesh_early_denials_total");
    let denied = denials.iter().find(|sample| sample.label("reporter") == "source").unwrap();
    assert_eq!(denied.value, 1);
}

// telemetry#33, telemetry#36, telemetry#37
#[tokio::test(start_paused = true)]
async fn completed_tunnel_is_one_line_with_every_field_in_order() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    let record = ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound));
    tokio::time::advance(Duration::from_millis(104)).await;
    record.close(ResponseFlag::None, None);
    let line = log.only_line();
    assert_eq!(
        after_time(&line),
        "info\taccess\tconnection complete\tsrc.addr=192.0.2.1:45378 src.workload=\"web-1\" src.namespace=\"shop\" \
         src.identity=\"spiffe://example.org/ns/shop/sa/web\" src.cluster=\"cluster1\" dst.addr=192.0.2.2:15008 \
         dst.hbone_addr=192.0.2.2:8080 dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart-1\" \
         dst.namespace=\"shop\" dst.identity=\"spiffe://example.org/ns/shop/sa/cart\" dst.cluster=\"cluster1\" \
         direction=\"outbound\" bytes_sent=0 bytes_recv=0 duration=\"104ms\""
    );
}

// telemetry#35
#[tokio::test(start_paused = true)]
async fn plaintext_line_has_no_identities_and_no_unknown_names() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    let mut meta = plaintext(Direction::Outbound);
    meta.source_identity = Some("spiffe://example.org/ns/shop/sa/web".parse().unwrap());
    meta.source_workload = Some(workload("web"));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    let line = log.only_line();
    assert_eq!(
        after_time(&line),
        "info\taccess\tconnection complete\tsrc.addr=192.0.2.1:22670 src.workload=\"web-1\" src.namespace=\"shop\" \
         src.cluster=\"cluster1\" dst.addr=192.0.2.50:8080 direction=\"outbound\" bytes_sent=0 bytes_recv=0 \
         duration=\"0ms\""
    );
}

// telemetry#34
#[test]
fn access_log_is_switched_by_its_target() {
    let telemetry = Telemetry::builder().build();
    let off = Log::capture("access=off");
    ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound)).close(ResponseFlag::None, None);
    assert!(off.lines().is_empty());
    drop(off);

    let debug = Log::capture("access=debug");
    let record = ConnectionRecord::open(&telemetry, tunnel(Direction::Outbound));
    assert!(debug.only_line().contains("\tdebug\taccess\tconnection opened\tsrc.addr="));
    record.close(ResponseFlag::None, None);
    assert_eq!(debug.lines().len(), 2);
}

#[test]
fn lines_of_peers_known_from_baggage_name_their_service() {
    let telemetry = Telemetry::builder().build();
    let log = Log::capture("info");
    let mut meta = tunnel(Direction::Inbound);
    meta.source_workload = None;
    meta.source_baggage = Some(baggage("k8s.namespace.name=far,k8s.deployment.name=web-v2,service.name=web"));
    ConnectionRecord::open(&telemetry, meta).close(ResponseFlag::None, None);
    assert!(log.only_line().contains("src.workload=\"web\" src.namespace=\"far\" src.identity="));
}

/// Captures what this thread logs.
///
/// One at a time: `tracing` caches per call site who is interested, and misses subscribers that come and go meanwhile.
struct Log {
    lines: Lines,
    _default: DefaultGuard,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture(levels: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = Lines::default();
        let writer = lines.clone();
        let (filter, _) = LogHandle::new(levels.parse().unwrap());
        let formatter = LogFormatter::new(LogFormat::Plain);
        let layer =
            fmt::layer().event_format(formatter).fmt_fields(formatter).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter).with(layer);
        Self { lines, _default: tracing::subscriber::set_default(subscriber), _alone: alone }
    }

    fn lines(&self) -> Vec<String> {
        let bytes = self.lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn only_line(&self) -> String {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }
}

/// A line without its time, which has the form that tools look for.
fn after_time(line: &str) -> &str {
    let (time, rest) = line.split_once('\t').unwrap();
    assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len());
    rest
}
