use std::{io, time::Duration};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

/// Options applied to every socket the proxy makes.
///
/// The defaults are the reference node proxy's: no mark, keepalive 180 s / 180 s / 9, no user timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    mark: Option<u32>,
    keepalive: Option<Keepalive>,
    user_timeout: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { mark: None, keepalive: Some(Keepalive::default()), user_timeout: false }
    }
}

impl SocketOptions {
    /// Sets `SO_MARK` on dialled sockets, by which capture rules recognise the proxy's own traffic.
    ///
    /// Needs `CAP_NET_ADMIN`; a dial fails without it.
    #[must_use]
    pub fn mark(mut self, mark: Option<u32>) -> Self {
        self.mark = mark;
        self
    }

    /// Sets TCP keepalive; `None` turns it off.
    #[must_use]
    pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets `TCP_USER_TIMEOUT` to the time after which keepalive would give up. Off by default.
    #[must_use]
    pub fn user_timeout(mut self, enabled: bool) -> Self {
        self.user_timeout = enabled;
        self
    }

    /// Tries what every dial will do and only some users may.
    pub(crate) fn check(&self) -> io::Result<()> {
        let Some(mark) = self.mark else { return Ok(()) };
        Socket::new(Domain::IPV4, Type::STREAM, None)?.set_mark(mark)
    }

    /// The mark of dialled sockets.
    pub(crate) fn packet_mark(&self) -> Option<u32> {
        self.mark
    }

    /// Applies what must be in place before a dialled socket sends its first packet.
    pub(super) fn apply_to_dialled(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        self.apply_liveness(&SockRef::from(socket));
        Ok(())
    }

    /// Applies to a listener what the connections it accepts inherit, so that it costs them no system call.
    pub(super) fn apply_to_listener(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        self.apply_liveness(&SockRef::from(socket));
        Ok(())
    }

    /// Liveness options are an aid, not a promise: a kernel that refuses one still carries the connection.
    fn apply_liveness(&self, socket: &SockRef<'_>) {
        let Some(keepalive) = self.keepalive else { return };
        let params = TcpKeepalive::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.retries);
        if let Err(error) = socket.set_tcp_keepalive(&params) {
            tracing::trace!(%error, "keepalive not set");
        }
        if self.user_timeout
            && let Err(error) = socket.set_tcp_user_timeout(Some(keepalive.patience()))
        {
            tracing::trace!(%error, "user timeout not set");
        }
    }
}

/// TCP keepalive parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub time: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead.
    pub retries: u32,
}

impl Keepalive {
    /// How long a connection to a peer that is gone may live.
    fn patience(&self) -> Duration {
        // The longest that the option can say is 50 days; whoever asks for more gets that.
        let most = Duration::from_millis(u32::MAX.into());
        let interval = self.interval.min(most);
        self.time.min(most).saturating_add(interval.saturating_mul(self.retries)).min(most)
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(180), interval: Duration::from_secs(180), retries: 9 }
    }
}

/// Whether applications behind the proxy see the client's own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginalSource {
    /// Never dial from a client's address.
    Off,
    /// Dial from the client's address where the kernel allows it, otherwise from our own, and report it.
    #[default]
    Prefer,
    /// Dial from the client's address or refuse the connection.
    Require,
}

/// Makes the coming close send RST instead of FIN, so that an abort stays an abort.
pub(crate) fn reset_on_close(stream: &tokio::net::TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::trace!(%error, "linger not set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever an operator asks for is at most ignored.
    #[test]
    fn extreme_values_are_no_error() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        for value in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
            let keepalive = Keepalive { time: value, interval: value, retries: u32::MAX };
            let options = SocketOptions::default().keepalive(Some(keepalive)).user_timeout(true);
            options.apply_to_dialled(&socket).unwrap();
        }
        assert_eq!(Keepalive::default().patience(), Duration::from_secs(180 * 10));
    }
}
