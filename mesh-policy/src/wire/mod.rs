//! Policies as a control plane sends them, before any of it is trusted.
//!
//! [`WirePolicy`] has the fields of the message `istio.security.Authorization` with the types that it has there: numbers
//! that may stand for nothing, addresses of any number of bytes, patterns of no kind. Whoever decodes the message fills
//! it in; [`Policy`](crate::Policy) has no way to say any of that, so converting one to the other is where a policy is
//! refused. [`ReceivedPolicies`] does it for all that arrives and keeps what was good.

mod convert;
mod message;
mod received;

pub use convert::WirePolicyError;
pub use message::{WireAddress, WireClause, WireMatch, WirePolicy, WireRule};
pub use received::{InPlace, PolicyChange, ReceivedPolicies, RefusedPolicy};
