use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use thiserror::Error;

use super::{
    enter::Workspace,
    host::Host,
    namespace::Namespace,
    tool::{Tool, ToolError},
    wire::Wire,
};

/// Name of the bridge inside the switch namespace.
const BRIDGE: &str = "switch";

/// Hosts joined by one switch, each with an IPv4 and an IPv6 address; every address is on link for all of them.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
}

impl Network {
    /// Makes a switch without hosts.
    ///
    /// # Errors
    ///
    /// If `ip` is missing or fails, or a namespace cannot be made.
    pub fn new(_workspace: &Workspace) -> Result<Self, NetworkError> {
        let switch = Namespace::new(BRIDGE).map_err(NetworkError::Namespace)?;
        // Nothing here ever listens for multicast, so snooping could only lose neighbour discovery.
        let script = format!("link add {BRIDGE} type bridge mcast_snooping 0\nlink set {BRIDGE} up\n");
        Tool::Ip.run(&switch, BATCH, &script)?;
        Ok(Self { switch })
    }

    /// Adds a host with the addresses `192.0.2.<number>` and `2001:db8::<number>`.
    ///
    /// Numbers and names are the caller's to keep apart; a name is at most 15 bytes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn host(&self, name: &str, number: u8) -> Result<Host, NetworkError> {
        let namespace = Namespace::new(name).map_err(NetworkError::Namespace)?;
        let (v4, v6) =
            (Ipv4Addr::new(192, 0, 2, number), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()));
        let cable = format!(
            "link add {name} type veth peer name eth0 netns {path}\nlink set {name} master {BRIDGE} up\n",
            path = namespace.path()
        );
        Tool::Ip.run(&self.switch, BATCH, &cable)?;
        // Routes for everything: service addresses exist nowhere, but a connection to one must reach the redirection.
        let interface = format!(
            "link set lo up\n\
             address add {v4}/24 dev eth0\n\
             address add {v6}/64 dev eth0 nodad\n\
             link set eth0 up\n\
             route add 0.0.0.0/0 dev eth0\n\
             route add ::/0 dev eth0\n"
        );
        Tool::Ip.run(&namespace, BATCH, &interface)?;
        Ok(Host::new(name, v4, v6, namespace))
    }

    /// Starts to capture every frame that crosses the switch.
    ///
    /// # Errors
    ///
    /// If the packet socket cannot be made.
    pub fn wire(&self) -> io::Result<Wire> {
        Wire::start(&self.switch)
    }
}

/// Why a network or a host could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The network namespace.
    #[error("a network namespace could not be made")]
    Namespace(#[source] io::Error),
    /// A tool.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

const BATCH: [&str; 2] = ["-batch", "-"];
