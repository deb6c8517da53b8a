//! Where a connection goes: pure functions from a [`Snapshot`](crate::state::Snapshot) and addresses to a
//! route.
//!
//! [`outbound`] decides where to send what a local application dialled, [`inbound`] what to hand to a local
//! application. Nothing here waits, opens or remembers anything; randomness is an argument.

mod balance;
mod decision;
mod error;
pub mod inbound;
mod listener_ports;
pub mod outbound;
#[cfg(test)]
mod tests;
mod upstream;
mod waypoint;

pub use decision::{HboneRoute, Route, TcpRoute};
pub use error::{InboundError, RouteError};
pub use listener_ports::ListenerPorts;
