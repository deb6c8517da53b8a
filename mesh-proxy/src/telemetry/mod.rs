//! What a proxy tells about its work, and the standard ways to tell it.
//!
//! The data path knows only [`Observer`]: it reports typed facts there and holds one [`ConnectionRecord`] per
//! connection, which cannot end without exactly one closing report. An embedder may count and log as it likes.
//!
//! With the feature `telemetry`, [`Telemetry`] counts and logs as Istio's node proxy does, and [`log`] writes lines in
//! its two formats.

#[cfg(feature = "telemetry")]
mod access_log;
mod connection;
mod event;
#[cfg(feature = "telemetry")]
mod exposition;
#[cfg(feature = "telemetry")]
mod gauge_value;
mod hbone_failure;
#[cfg(feature = "telemetry")]
mod identities;
#[cfg(feature = "telemetry")]
mod labels;
#[cfg(feature = "telemetry")]
pub mod log;
mod observer;
#[cfg(feature = "telemetry")]
mod process;
mod reset_by;
mod response_flag;
#[cfg(feature = "telemetry")]
mod revocation;
#[cfg(feature = "telemetry")]
mod series;
#[cfg(feature = "telemetry")]
mod standard;
#[cfg(feature = "telemetry")]
mod throttle;
#[cfg(feature = "telemetry")]
mod tunnels;

pub use connection::{ConnectionMeta, ConnectionRecord, DRAIN_TEXT, Direction, SocketRecord, Transport};
pub use event::{EarlyDenial, Event};
pub use hbone_failure::HboneFailure;
pub use observer::{ConnectionObserver, NoopObserver, Observer};
pub use reset_by::ResetBy;
pub use response_flag::ResponseFlag;
#[cfg(feature = "telemetry")]
pub use standard::{Telemetry, TelemetryBuilder};
