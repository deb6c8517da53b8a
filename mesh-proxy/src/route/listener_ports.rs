use std::net::{IpAddr, SocketAddr};

/// The proxy's own listening ports, which nobody may reach through the proxy: it would dial itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPorts {
    /// Redirected outbound connections.
    pub outbound: u16,
    /// Redirected inbound connections in plaintext.
    pub inbound_plaintext: u16,
    /// Inbound HBONE, on this proxy and on its peers.
    pub inbound_hbone: u16,
    /// SOCKS5, where switched on.
    pub socks5: Option<u16>,
}

impl ListenerPorts {
    /// Whether a port is one of these.
    pub fn contains(&self, port: u16) -> bool {
        [self.outbound, self.inbound_plaintext, self.inbound_hbone].contains(&port)
            || self.socks5 == Some(port)
    }

    /// Whether a connection to `destination` would end at this proxy, given the addresses that are its own
    /// besides loopback.
    ///
    /// Also true for a connection that reached a listener without redirection, whose destination is the
    /// listener itself.
    pub fn is_self_call(&self, destination: SocketAddr, own: &[IpAddr]) -> bool {
        let address = destination.ip().to_canonical();
        self.contains(destination.port())
            && (address.is_loopback()
                || address.is_unspecified()
                || own.iter().any(|own| own.to_canonical() == address))
    }
}

impl Default for ListenerPorts {
    /// The ports of Istio's ambient mode, without SOCKS5.
    fn default() -> Self {
        Self { outbound: 15001, inbound_plaintext: 15006, inbound_hbone: 15008, socks5: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // routing#42, routing#43
    #[test]
    fn own_ports_are_refused_on_own_addresses_only() {
        let ports = ListenerPorts { socks5: Some(15080), ..ListenerPorts::default() };
        let own = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let is_self_call = |destination: &str| ports.is_self_call(destination.parse().unwrap(), &own);
        for destination in [
            "127.0.0.1:15001",
            "127.0.1.2:15006",
            "[::1]:15008",
            "0.0.0.0:15001",
            "[::]:15001",
            "192.0.2.1:15080",
            "[2001:db8::1]:15006",
            "[::ffff:192.0.2.1]:15001",
            "[::ffff:127.0.0.1]:15001",
        ] {
            assert!(is_self_call(destination), "{destination}");
        }
        for destination in ["192.0.2.2:15008", "127.0.0.1:80", "192.0.2.1:15007", "[2001:db8::2]:15001"] {
            assert!(!is_self_call(destination), "{destination}");
        }
    }
}
