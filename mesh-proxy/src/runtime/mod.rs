//! Worker threads: one single-threaded runtime each, sharing nothing that a connection touches.
//!
//! A connection, its HTTP/2 driver and its relays live on one worker, so no atomic operation, wake-up or lock crosses
//! threads while bytes move. Every worker has its own listener on each port (`SO_REUSEPORT`), and the kernel spreads
//! connections over them by a hash. Where that goes wrong, whoever accepts a connection hands it to the worker with the
//! fewest: at once for HBONE, whose connections are few and carry many tunnels, and from a difference of two for the rest.

mod accept;
mod balance;
mod capacity;
mod worker;

pub(crate) use accept::Capture;
pub(crate) use balance::{Balance, Handoff};
pub(crate) use capacity::Capacity;
pub(crate) use worker::{Worker, spawn};
