//! Connections to the local workload: HBONE on 15008, captured plaintext on 15006.
//!
//! Both take the same steps, in this order: where to, is it allowed, connect to the application from the client's own
//! address, relay for as long as policy allows it.

mod application;
mod hbone;
mod plaintext;

pub(crate) use self::hbone::serve_hbone;
pub(crate) use plaintext::serve_plaintext;
