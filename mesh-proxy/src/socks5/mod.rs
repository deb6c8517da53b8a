//! SOCKS5 for local applications that cannot be captured: addresses and the mesh's service names.
//!
//! The answer tells how the connection went, because it is sent once the upstream is there.

#[cfg(test)]
mod properties;
mod protocol;
mod serve;

pub(crate) use serve::serve;
