use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};
use rustix::process::{Resource, getrlimit};

/// File descriptors of this process, looked up for each scrape.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        for (name, help, value) in [
            ("process_open_fds", "Number of open file descriptors", open_fds()),
            ("process_max_fds", "Number of file descriptors this process may open", max_fds()),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The directory lists the descriptor that reads it too.
fn open_fds() -> Option<i64> {
    let entries = std::fs::read_dir("/dev/fd").ok()?.count();
    i64::try_from(entries).ok().map(|entries| entries - 1)
}

/// The soft limit; none is shown as the largest number there is.
fn max_fds() -> Option<i64> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Some(i64::try_from(limit).unwrap_or(i64::MAX))
}
