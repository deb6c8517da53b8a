//! What travels between hosts, seen by a packet socket.

mod capture;
mod flow;
mod frame;
mod tls;

pub use capture::{Wire, WireReport};
pub use flow::{Flow, contains};
pub use tls::TlsSummary;
