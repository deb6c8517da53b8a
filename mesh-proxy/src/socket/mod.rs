//! Every socket option and socket system call of the proxy.
//!
//! Two operations cover all of it: [`bind`] makes a listener, [`dial`] makes an upstream connection, optionally
//! from an address that is not ours (source preservation). Both apply the same [`SocketOptions`].
//! [`original_destination`] recovers what a captured connection was really dialled for.

mod dial;
mod listener;
mod options;
mod original_destination;
mod read_size;

pub(crate) use dial::{DialError, DialSource, dial};
pub use listener::ListenError;
pub(crate) use listener::{bind, ensure_free};
pub(crate) use options::reset_on_close;
pub use options::{Keepalive, OriginalSource, SocketOptions};
pub(crate) use original_destination::{canonical, original_destination};
pub(crate) use read_size::ReadSize;
