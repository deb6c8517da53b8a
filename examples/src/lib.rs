//! Ready binaries built from the suite, and the laboratory in which the demo and the system tests run them.

mod byte_count;
pub mod connector;
pub mod crypto;
#[cfg(feature = "dev-ca")]
pub mod demo;
mod duration;
pub mod explain;
pub mod lab;
pub mod mesh_control;
pub mod ztunnel;
