//! The protocol's values and decisions: pure functions of bytes, values and time, without I/O.

mod baggage;
pub(crate) mod credit;
mod destination;
pub(crate) mod flood;
mod forwarded;
pub(crate) mod header;
pub(crate) mod idleness;
pub(crate) mod keepalive;
mod random;
mod receive_queue;
mod refusal;
mod request;
mod reset_reason;
mod response;
mod send_queue;
mod trace_parent;
mod trace_state;

pub use self::{
    baggage::{Baggage, WorkloadKind},
    destination::{Destination, DestinationError, Host},
    flood::Flood,
    forwarded::Forwarded,
    refusal::Refusal,
    request::ConnectRequest,
    reset_reason::ResetReason,
    response::ConnectResponse,
    trace_parent::{TraceId, TraceParent, TraceParentError},
    trace_state::TraceState,
};
pub(crate) use self::{random::random, receive_queue::ReceiveQueue, send_queue::SendQueue};
