//! mesh-proxy.
