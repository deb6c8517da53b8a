//! What both ends of a connection have in common.

mod alarm;
mod budget;
mod control;
mod driver;
mod error;
mod keepalive;
mod lingering;
mod metered;
mod refusals;
mod setters;
mod settings;
mod shared;
mod stream_list;
mod wake_flag;

pub(crate) mod limits {
    pub(crate) use super::settings::{
        DATA_FRAME_BUDGET, FOR_EVER, INITIAL_WINDOW, MAX_FRAME_SIZE_LIMIT, MIN_FRAME_SIZE_LIMIT,
        RESETS_FOR_ERRORS,
    };
    pub(crate) use crate::proto::credit::MAX_WINDOW;
}

pub(crate) use self::{
    alarm::Alarm,
    control::{Control, Order, Orders, poll_deadline},
    driver::Driver,
    error::from_reason,
    keepalive::KeepaliveDriver,
    metered::Metered,
    setters::setters,
    settings::Settings,
    shared::{Over, Shared},
    wake_flag::WakeFlag,
};
pub use self::{
    budget::Budget,
    error::{ConnectionError, HandshakeError, Side},
    refusals::Refusals,
};
