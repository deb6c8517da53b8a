//! HBONE: HTTP/2 CONNECT tunnels over any byte stream.

pub mod client;
mod connection;
#[cfg(feature = "pool")]
pub mod pool;
mod proto;
pub mod server;
mod tunnel;

pub use self::{
    client::ConnectError,
    connection::{ConnectionError, HandshakeError, Side},
    proto::{
        Baggage, ConnectRequest, ConnectResponse, Destination, DestinationError, Forwarded, Host, Refusal,
        ResetReason, TraceId, TraceParent, TraceParentError, WorkloadKind,
    },
    tunnel::{RecvHalf, SendHalf, Tunnel, TunnelError},
};
