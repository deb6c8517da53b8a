use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use super::story::Ports;
use crate::lab::{App, Behaviour};

/// The applications of the server pod, which know nothing of a mesh.
#[derive(Debug)]
pub(super) struct Applications {
    orders: App,
    bulk: App,
    admin: App,
    debug: App,
}

impl Applications {
    /// Starts them; `listen` makes a listener on a port, or on any free one for port 0.
    pub(super) fn start(ports: Ports, listen: impl Fn(u16) -> io::Result<TcpListener>) -> io::Result<Self> {
        let echo = |port| App::serve(listen(port)?, Behaviour::Echo);
        Ok(Self {
            orders: echo(ports.orders)?,
            bulk: App::serve(listen(ports.bulk)?, Behaviour::Count)?,
            admin: echo(ports.admin)?,
            debug: echo(ports.debug)?,
        })
    }

    /// Where they listen.
    pub(super) fn ports(&self) -> Ports {
        Ports {
            orders: self.orders.port(),
            bulk: self.bulk.port(),
            admin: self.admin.port(),
            debug: self.debug.port(),
        }
    }

    /// Who connected last to order something, as the application sees it.
    pub(super) fn last_client(&self) -> Option<SocketAddr> {
        self.orders.peers().last().copied()
    }
}
