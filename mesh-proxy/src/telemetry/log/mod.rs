//! Log lines in the two formats of Istio's node proxy, and levels that can be changed while running.
//!
//! ```
//! use mesh_proxy::telemetry::log::{LogFormat, LogFormatter, LogHandle, LogLevels};
//! use tracing_subscriber::{fmt, layer::SubscriberExt};
//!
//! let levels: LogLevels = "info,access=debug".parse()?;
//! let (filter, handle) = LogHandle::new(levels);
//! let lines = LogFormatter::new(LogFormat::Plain);
//! let subscriber = tracing_subscriber::registry()
//!     .with(filter)
//!     .with(fmt::layer().event_format(lines).fmt_fields(lines));
//! tracing::subscriber::with_default(subscriber, || tracing::info!("started"));
//! handle.add(&"access=off".parse()?);
//! assert_eq!(handle.levels().to_string(), "access=off,info");
//! # Ok::<(), mesh_proxy::telemetry::log::LogLevelsError>(())
//! ```

mod fields;
mod format;
mod handle;
mod levels;
#[cfg(test)]
mod tests;

pub use format::{LogFormat, LogFormatError, LogFormatter};
pub use handle::{LogFilter, LogHandle};
pub use levels::{LogLevels, LogLevelsError, LogOverrides};
