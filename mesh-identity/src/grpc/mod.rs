//! gRPC over connections of our own: one per server, dialled when a call needs it.
//!
//! tonic brings the calls and hyper the HTTP/2; what is ours is the dialling, since a control plane is reached
//! with roots that change, under a second name, or through a Unix socket.

mod backoff;
mod channel;
mod dial;
#[cfg(feature = "istio-ca")]
mod roots;
mod status;
#[cfg(feature = "istio-ca")]
mod tls;
#[cfg(feature = "istio-ca")]
mod token;

#[cfg(feature = "workload-api")]
pub(crate) use backoff::Backoff;
pub(crate) use channel::Channel;
pub use channel::ChannelError;
pub use dial::DialError;
pub(crate) use dial::Dialer;
#[cfg(feature = "istio-ca")]
pub use roots::{RootSource, RootSourceError};
pub(crate) use status::{code_name, message};
#[cfg(feature = "istio-ca")]
pub(crate) use tls::TlsDialer;
#[cfg(feature = "istio-ca")]
pub use token::{TokenError, TokenSource};
