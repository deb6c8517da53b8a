//! Ready binaries built from the suite, and the laboratory in which the demo and the system tests run them.

#[cfg(feature = "dev-ca")]
pub mod demo;
pub mod lab;
pub mod ztunnel;
