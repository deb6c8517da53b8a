//! What a proxy tells about its work, and the standard ways to tell it.
//!
//! The data path knows only [`Observer`]: it reports typed facts there and holds one [`ConnectionRecord`] per
//! connection, which cannot end without exactly one closing report. An embedder may count and log as it likes.

mod connection;
mod event;
mod observer;
mod response_flag;

pub use connection::{ConnectionMeta, ConnectionRecord, DRAIN_TEXT, Direction, SocketRecord, Transport};
pub use event::{EarlyDenial, Event};
pub use observer::{ConnectionObserver, NoopObserver, Observer};
pub use response_flag::ResponseFlag;
