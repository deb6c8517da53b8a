use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use time::macros::datetime;
use tracing_subscriber::{fmt, layer::SubscriberExt};

use super::{LogFormat, LogFormatter, LogHandle};

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

/// What `events` log, with the clock standing still.
fn logged(format: LogFormat, events: impl FnOnce(&LogHandle)) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let (filter, handle) = LogHandle::new(super::LogLevels::default());
    let formatter = LogFormatter::at(format, || datetime!(2026-01-02 03:04:05.000_678 UTC));
    let layer =
        fmt::layer().event_format(formatter).fmt_fields(formatter).with_writer(move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(filter).with(layer), || {
        events(&handle)
    });
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn nested() {
    let outer = tracing::info_span!(target: "proxy", "proxy", wl = "shop/cart").entered();
    let inner =
        tracing::info_span!(target: "proxy", "inbound", id = %"4bf9", peer = tracing::field::Empty).entered();
    inner.record("peer", "192.0.2.1");
    tracing::warn!(target: "proxy::inbound", port = 8080, ok = false, reason = "a \"b\"", at = %"here", "it \tbroke");
    drop((inner, outer));
}

// telemetry#33
#[test]
fn plain_line_has_tab_separated_columns_and_quotes_texts() {
    assert_eq!(
        logged(LogFormat::Plain, |_| nested()),
        "2026-01-02T03:04:05.000678Z\twarn\tproxy::inbound:proxy{wl=\"shop/cart\"}:inbound{id=4bf9 \
         peer=\"192.0.2.1\"}\tit \\tbroke\tport=8080 ok=false reason=\"a \\\"b\\\"\" at=here\n"
    );
}

// telemetry#33
#[test]
fn json_line_starts_with_level_time_scope_and_message() {
    assert_eq!(
        logged(LogFormat::Json, |_| nested()),
        concat!(
            r#"{"level":"warn","time":"2026-01-02T03:04:05.000678Z","scope":"proxy::inbound","#,
            r#""message":"it \tbroke","port":8080,"ok":false,"reason":"a \"b\"","at":"here","#,
            r#""proxy":{"wl":"shop/cart"},"inbound":{"id":"4bf9","peer":"192.0.2.1"}}"#,
            "\n"
        )
    );
}

#[test]
fn absent_options_are_left_out() {
    let log = || tracing::info!(target: "t", present = Some("x"), absent = None::<&str>, "m");
    assert!(logged(LogFormat::Plain, |_| log()).ends_with("\tm\tpresent=\"x\"\n"));
    assert!(logged(LogFormat::Json, |_| log()).ends_with("\"message\":\"m\",\"present\":\"x\"}\n"));
}

#[test]
fn text_from_outside_cannot_start_a_line_of_its_own() {
    let forged = "x\n2026-01-02T03:04:05.000678Z\tinfo\taccess";
    for format in [LogFormat::Plain, LogFormat::Json] {
        let lines = logged(format, |_| tracing::error!(target: "t", error = %forged, "{forged}"));
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
}

// telemetry#41, telemetry#42
#[test]
fn levels_change_while_running() {
    let log = || tracing::debug!(target: "access", "m");
    let lines = logged(LogFormat::Plain, |handle| {
        log();
        handle.add(&"access=debug".parse().unwrap());
        log();
        handle.reset(&"".parse().unwrap());
        log();
        assert_eq!(handle.levels().to_string(), "info");
    });
    assert_eq!(lines.lines().count(), 1);
}
