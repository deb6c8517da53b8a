//! Logging to standard output without ever waiting for whoever reads it.

use std::io;

use mesh_proxy::telemetry::log::{LogFormat, LogFormatter, LogHandle, LogLevels};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{fmt, layer::SubscriberExt};

/// How many lines may wait to be written; further ones are dropped and counted. As many as in Istio's proxy, which waits.
const QUEUED_LINES: usize = 10_000;

/// Sends everything that the process logs to standard output, from a thread of its own.
///
/// A process that logs already goes on as it did.
pub(super) fn install(levels: LogLevels, format: LogFormat) -> Logging {
    let (filter, handle) = LogHandle::new(levels);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log-writer")
        .finish(io::stdout());
    let dropped = writer.error_counter();
    let lines = LogFormatter::new(format);
    let layer = fmt::layer().event_format(lines).fmt_fields(lines).with_writer(writer);
    // It fails only where somebody else logs for this process.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer));
    Logging { handle, dropped, _writer: guard }
}

/// A process that logs.
#[derive(Debug)]
#[must_use = "dropping it ends logging"]
pub(super) struct Logging {
    handle: LogHandle,
    dropped: ErrorCounter,
    /// Writes what is queued when dropped.
    _writer: WorkerGuard,
}

impl Logging {
    /// Changes what is logged.
    pub(super) fn handle(&self) -> LogHandle {
        self.handle.clone()
    }

    /// Reads how many lines were dropped because those before them were not taken, for a metric.
    pub(super) fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let dropped = self.dropped.clone();
        move || u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX)
    }
}
