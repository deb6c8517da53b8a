//! The small HTTP servers beside the data path: readiness, metrics, and administration.
//!
//! Each is an endpoint that [`serve`] answers requests with: [`ReadinessEndpoint`] (in Istio on port 15021),
//! [`MetricsEndpoint`] (15020) and [`AdminEndpoint`] (15000). None of them authenticates anybody; the last must be bound to
//! loopback only, since whoever reaches it may stop the process.
//!
//! They speak HTTP/1.1, do not compress, take no lock that the data path takes, and render what is large on a thread
//! of its own. Give them a runtime that serves no traffic.

mod answer;
mod certificate;
mod config_dump;
mod endpoint;
mod logging;
mod metrics;
mod readiness;
mod server;

pub use config_dump::{BuildInfo, ConfigDump, ConfigDumpBuilder};
pub use endpoint::AdminEndpoint;
pub use metrics::MetricsEndpoint;
pub use readiness::{PendingTask, Readiness, ReadinessEndpoint};
pub use server::{Endpoint, serve};
