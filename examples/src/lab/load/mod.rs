//! Load for a mesh and what it got through: the code behind every figure of the demo and of the benches.
//!
//! Each generator runs on one thread in the client's namespace, the [`LoadServer`] on one in the server's; both use
//! nothing but an epoll loop, so that what they can do themselves stays far above what a proxy can.

mod bulk;
mod churn;
mod hold;
mod latencies;
mod ping_pong;
mod server;
mod timing;

pub use bulk::{Bulk, Direction, bulk, bulk_over};
pub use churn::{Churn, churn};
pub use hold::{hold, stall};
pub use latencies::Latencies;
pub use ping_pong::{PingPong, ping_pong, ping_pong_over};
pub use server::LoadServer;
pub use timing::Timing;
