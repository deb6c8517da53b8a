//! What policies mean at waypoints, by the checklist of the reference's facts.

#![expect(clippy::unwrap_used, reason = "what tests spell out parses")]

mod attachment;
mod attributes;
#[path = "../support/call.rs"]
mod call;
mod explain;
mod order;
mod refused;
mod streams;
mod support;
mod tokens;
