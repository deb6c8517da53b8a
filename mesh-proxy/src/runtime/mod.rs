//! Worker threads: one single-threaded runtime each, sharing nothing that a connection touches.
//!
//! A connection, its HTTP/2 driver and its relays live on one worker, so no atomic operation, wake-up or lock crosses
//! threads while bytes move. Every worker has its own listener on each port (`SO_REUSEPORT`). HBONE connections
//! carry many tunnels, so the kernel's hash would spread load badly: whoever accepts one hands it to the worker with
//! the fewest connections.

mod accept;
mod balance;
mod worker;

pub(crate) use accept::Capture;
pub(crate) use balance::{Balance, Handoff};
pub(crate) use worker::{Worker, spawn};
