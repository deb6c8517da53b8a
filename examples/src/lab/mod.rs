//! Network namespaces as hosts: a small network inside one process tree, for the demo, the system tests and the benches.
//!
//! [`enter`] moves the process, before it has threads, into a user, mount and network namespace of its own; from then on
//! nothing here can touch the machine. A [`Network`] joins [`Host`]s, each a network namespace, with one switch. Programs
//! started on a host die with this process; namespaces and files vanish with it, even on `SIGKILL`.
//!
//! ```no_run
//! use examples::lab;
//!
//! lab::exec_if_asked(); // first thing in main
//! let workspace = lab::enter()?; // before any thread
//! let network = lab::Network::new(&workspace)?;
//! let client = network.host("client", 10)?;
//! let server = network.host("server", 20)?;
//! let app = lab::App::start(&server, 8080, lab::Behaviour::Echo)?;
//! let stream = client.connect((server.v6(), app.port()).into())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access_log;
mod app;
mod capture;
mod enter;
mod envoy;
mod exec;
mod host;
mod http;
pub mod load;
mod mesh_file;
mod metric;
mod namespace;
mod network;
mod pattern;
mod probe;
mod process;
mod refusal;
mod tool;
mod tproxy;
mod wire;
mod ztunnel;

pub use access_log::AccessRecord;
pub use app::{App, Behaviour, Visit, exchange, read_to_end, send};
pub use capture::{Capture, CaptureError};
pub use enter::{EnterError, Privilege, Step, Workspace, enter};
pub use envoy::{Envoy, EnvoyConfig, EnvoyError};
pub use exec::exec_if_asked;
pub use host::Host;
pub use http::HttpResponse;
pub use mesh_file::{MeshFile, Pod, Service};
pub use metric::Metric;
pub use namespace::Namespace;
pub use network::{Network, NetworkError};
pub use pattern::{Pattern, Tally};
pub use process::{Output, Process};
pub use refusal::Refusal;
pub use tool::{Tool, ToolError};
pub use tproxy::Tproxy;
pub use wire::{Flow, TlsSummary, Wire, WireReport, contains};
pub use ztunnel::{Program, StartError, Ztunnel, ZtunnelSpec};
