//! What both ends of a connection have in common.

mod error;
mod keepalive;
mod liveness;
mod settings;

pub(crate) mod limits {
    pub(crate) use super::settings::{MAX_FRAME_SIZE_LIMIT, MAX_WINDOW, MIN_FRAME_SIZE_LIMIT};
}

pub use self::error::{ConnectionError, HandshakeError, Side};
pub(crate) use self::{
    error::from_reason, keepalive::KeepaliveDriver, liveness::Liveness, settings::Settings,
};
