//! Measurements: criterion benches in `benches/`, and [`e2e`], the harness that runs whole proxies in network namespaces.
//!
//! `README.md` says how to run them and what they showed.

pub mod e2e;
mod thread_time;

pub use thread_time::thread_time;
