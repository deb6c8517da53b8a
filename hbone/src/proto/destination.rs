use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;

/// What a tunnel leads to: the authority of its CONNECT request, a host and a port.
///
/// The text form is `192.0.2.7:8080`, `[2001:db8::7]:8080` or `cart.shop.svc.cluster.local:80`; the port is mandatory
/// (RFC 9110 §9.3.6). A name is kept in lower case and without its trailing dot, so that equal names compare equal.
///
/// ```
/// # use hbone::Destination;
/// let destination: Destination = "[2001:db8::7]:8080".parse()?;
/// assert_eq!(destination.to_string(), "[2001:db8::7]:8080");
/// # Ok::<(), hbone::DestinationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    host: Host,
    port: u16,
}

/// The host of a [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A host name, in lower case and without a trailing dot.
    Name(Arc<str>),
}

impl Destination {
    /// Names `port` at a host name.
    ///
    /// # Errors
    ///
    /// If `name` is not a host name; an address is not one. If `port` is 0.
    pub fn from_name(name: &str, port: u16) -> Result<Self, DestinationError> {
        let host = Host::Name(normalize(name)?);
        if port == 0 {
            return Err(DestinationError::Port);
        }
        Ok(Self { host, port })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The text form, written without the machinery of formatting: each request needs it.
    pub(super) fn to_authority(&self) -> String {
        let port_length = 1 + decimal_length(self.port);
        // To the byte: what grows or shrinks costs another allocation.
        let mut text = String::new();
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => {
                let octets = ip.octets();
                let digits: usize = octets.iter().map(|octet| decimal_length((*octet).into())).sum();
                text.reserve_exact(digits + 3 + port_length);
                for (index, octet) in octets.into_iter().enumerate() {
                    if index > 0 {
                        text.push('.');
                    }
                    push_number(&mut text, octet.into());
                }
            }
            Host::Ip(IpAddr::V6(_)) => return self.to_string(),
            Host::Name(name) => {
                text.reserve_exact(name.len() + port_length);
                text.push_str(name);
            }
        }
        text.push(':');
        push_number(&mut text, self.port);
        text
    }

    /// The socket address, if the host is an address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The host name, if the host is one.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }
}

/// Appends a number in decimal.
fn push_number(text: &mut String, number: u16) {
    for power in [10_000, 1_000, 100, 10] {
        if number >= power {
            text.push(char::from(b'0' + u8::try_from(number / power % 10).unwrap_or_default()));
        }
    }
    text.push(char::from(b'0' + u8::try_from(number % 10).unwrap_or_default()));
}

/// How many digits a number has in decimal.
fn decimal_length(number: u16) -> usize {
    1 + [10, 100, 1_000, 10_000].into_iter().filter(|power| number >= *power).count()
}

impl From<SocketAddr> for Destination {
    /// Drops the scope and flow label of an IPv6 address: they mean nothing to the far end. Port 0 is nowhere: asking for a
    /// tunnel there fails with [`ConnectError::InvalidRequest`](crate::ConnectError::InvalidRequest).
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(DestinationError::Host)?;
            let ip: Ipv6Addr = address.parse().map_err(|_| DestinationError::Host)?;
            let port = port.strip_prefix(':').ok_or(DestinationError::PortMissing)?;
            return Ok(Self { host: Host::Ip(ip.into()), port: parse_port(port)? });
        }
        let (host, port) = text.rsplit_once(':').ok_or(DestinationError::PortMissing)?;
        let host = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => Host::Ip(ip.into()),
            // Without brackets it is ambiguous where the address ends and the port begins.
            Ok(IpAddr::V6(_)) => return Err(DestinationError::Host),
            Err(_) => Host::Name(normalize(host)?),
        };
        Ok(Self { host, port: parse_port(port)? })
    }
}

impl TryFrom<&str> for Destination {
    type Error = DestinationError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Why a text is not a [`Destination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// The host is neither an address (IPv6 in brackets) nor a host name.
    #[error("invalid host")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("invalid port")]
    Port,
    /// There is no port.
    #[error("missing port")]
    PortMissing,
}

fn parse_port(text: &str) -> Result<u16, DestinationError> {
    // `u16::from_str` would take a sign.
    if text.is_empty() {
        return Err(DestinationError::PortMissing);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DestinationError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(DestinationError::Port)
}

fn normalize(name: &str) -> Result<Arc<str>, DestinationError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > MAX_NAME || !name.split('.').all(is_label) || looks_like_ipv4(name) {
        return Err(DestinationError::Host);
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(name.to_ascii_lowercase().into());
    }
    Ok(name.into())
}

/// A name that ends in a number is an address in some notation or a mistake, never a host (WHATWG URL §3.5).
fn looks_like_ipv4(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// RFC 1035 §2.3.4.
const MAX_LABEL: usize = 63;
/// RFC 1035 §2.3.4: 255 octets on the wire are 253 characters.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn authority_is_the_text_form(ip: IpAddr, port: u16, name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}") {
            for host in [Host::Ip(ip), Host::Name(name.into())] {
                let destination = Destination { host, port };
                let authority = destination.to_authority();
                prop_assert_eq!(&authority, &destination.to_string());
                prop_assert!(authority.capacity() == authority.len() || matches!(destination.host, Host::Ip(IpAddr::V6(_))));
            }
        }
    }

    fn parse(text: &str) -> Result<Destination, DestinationError> {
        text.parse()
    }

    // hbone#24
    #[test]
    fn addresses_round_trip_with_ipv6_in_brackets() {
        for text in ["192.0.2.7:8080", "[2001:db8::7]:8080", "[::ffff:192.0.2.7]:1"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        let address: SocketAddr = "[2001:db8::7]:8080".parse().unwrap();
        assert_eq!(Destination::from(address).socket_addr(), Some(address));
        assert_eq!(Destination::from(address).to_string(), "[2001:db8::7]:8080");
    }

    #[test]
    fn names_are_normalized() {
        let destination = parse("Cart.Shop.svc.cluster.local.:80").unwrap();
        assert_eq!(destination.name(), Some("cart.shop.svc.cluster.local"));
        assert_eq!(destination.socket_addr(), None);
        assert_eq!(destination, Destination::from_name("cart.shop.svc.cluster.local", 80).unwrap());
        assert_eq!(Destination::from_name("cart.shop.svc.cluster.local", 0), Err(DestinationError::Port));
    }

    // hbone#35
    #[test]
    fn port_is_mandatory() {
        for text in ["192.0.2.7", "[2001:db8::7]", "example.org", "example.org:", "[::1]:", ""] {
            assert_eq!(parse(text), Err(DestinationError::PortMissing), "{text:?}");
        }
        for text in ["example.org:0", "example.org:65536", "example.org:+80", "example.org:80a"] {
            assert_eq!(parse(text), Err(DestinationError::Port), "{text:?}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        let long = format!("{}:80", "a.".repeat(130));
        let hosts = [
            ":80",
            ".:80",
            "a..b:80",
            "user@example.org:80",
            "2001:db8::7:80",
            "[192.0.2.7]:80",
            "[::1%eth0]:80",
            "[::1:80",
            "exa mple.org:80",
            "example.org/:80",
            "192.0.2.256:80",
            "192.0.2:80",
            "ex%41mple.org:80",
            &long,
        ];
        for text in hosts {
            assert_eq!(parse(text), Err(DestinationError::Host), "{text:?}");
        }
    }
}
