use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::Alarm;
use crate::proto::keepalive::{Due, Keepalive};

/// Pings on a connection as [`Keepalive`] decides.
#[derive(Debug)]
pub(crate) struct KeepaliveDriver {
    machine: Keepalive,
    timeout: Duration,
    ping_pong: PingPong,
    alarm: Alarm,
}

impl KeepaliveDriver {
    pub(crate) fn new(interval: Duration, timeout: Duration, ping_pong: PingPong) -> Self {
        let now = Instant::now();
        Self {
            machine: Keepalive::new(interval, timeout, now.into_std()),
            timeout,
            ping_pong,
            alarm: Alarm::new(now + interval),
        }
    }

    /// Resolves when the peer is to be given up, with how long it has been silent. To be polled before the connection,
    /// which sends the pings; `received` is how much has arrived so far.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, received: u64) -> Poll<Duration> {
        loop {
            // An error says that the connection is gone, which whoever polls that learns first-hand.
            if self.machine.is_awaiting_pong() && matches!(self.ping_pong.poll_pong(cx), Poll::Ready(Ok(_))) {
                self.machine.handle_pong(received, Instant::now().into_std());
                self.arm();
            }
            if self.alarm.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match self.machine.handle_timeout(received, Instant::now().into_std()) {
                Some(Due::Ping) => {
                    // Fails only if the connection is gone.
                    let _ = self.ping_pong.send_ping(Ping::opaque());
                    self.arm();
                }
                Some(Due::Expire) => return Poll::Ready(self.timeout),
                None => {
                    self.arm();
                    if self.machine.poll_timeout().is_none() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn arm(&mut self) {
        if let Some(deadline) = self.machine.poll_timeout() {
            self.alarm.reset(Instant::from_std(deadline));
        }
    }
}
