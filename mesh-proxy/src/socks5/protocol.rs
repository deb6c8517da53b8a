//! SOCKS5 messages (RFC 1928): bytes to values and back, without I/O.
//!
//! Only what a local application needs: no authentication, CONNECT, and all three kinds of address. A `parse`
//! function takes what was received so far and returns `None` until that is a whole message; it never asks
//! for more than [`LONGEST_MESSAGE`] bytes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use hbone::Destination;

/// The client's first message: the authentication methods it offers (RFC 1928 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// Whether "no authentication required" is among them.
    pub(crate) offers_no_authentication: bool,
}

impl Greeting {
    /// Reads a greeting; with it comes its length.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, GreetingError> {
        let mut reader = Reader { input, position: 0 };
        let Some(version) = reader.byte() else { return Ok(None) };
        if version != VERSION {
            return Err(GreetingError::Version { version });
        }
        let Some(methods) = reader.byte().and_then(|count| reader.bytes(count.into())) else {
            return Ok(None);
        };
        let greeting = Self { offers_no_authentication: methods.contains(&NO_AUTHENTICATION) };
        Ok(Some((greeting, reader.position)))
    }

    /// The answer: the one method we take, or that none of the offered is one.
    pub(crate) fn answer(self) -> [u8; 2] {
        [VERSION, if self.offers_no_authentication { NO_AUTHENTICATION } else { NO_ACCEPTABLE_METHOD }]
    }
}

/// Why a first message is not a SOCKS5 greeting. There is no answer to it: the client speaks another
/// protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GreetingError {
    /// Another version, or not SOCKS at all.
    #[error("socks version {version} is not 5")]
    Version { version: u8 },
}

/// A request to connect (RFC 1928 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    /// Where to.
    pub(crate) destination: Destination,
}

impl ConnectRequest {
    /// Reads a request; with it comes its length.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<(Self, usize)>, RequestError> {
        let mut reader = Reader { input, position: 0 };
        let Some([version, command, _reserved, kind]) = reader.array() else { return Ok(None) };
        if version != VERSION {
            return Err(RequestError::Version { version });
        }
        if command != CONNECT {
            return Err(RequestError::Command { command });
        }
        let destination = match kind {
            ADDRESS_V4 => reader.array::<4>().map(Ipv4Addr::from).and_then(|ip| reader.socket_address(ip)),
            ADDRESS_V6 => reader.array::<16>().map(Ipv6Addr::from).and_then(|ip| reader.socket_address(ip)),
            ADDRESS_NAME => {
                let name = reader.byte().and_then(|length| reader.bytes(length.into()));
                let Some((name, port)) = name.zip(reader.port()) else { return Ok(None) };
                Some(named(name, port)?)
            }
            _ => return Err(RequestError::AddressType { kind }),
        };
        Ok(destination.map(|destination| (Self { destination }, reader.position)))
    }
}

/// Why a request is refused; [`reply`](Self::reply) says with which answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RequestError {
    /// Neither IPv4, nor IPv6, nor a name.
    #[error("socks address type {kind} is not supported")]
    AddressType { kind: u8 },
    /// Not CONNECT.
    #[error("socks command {command} is not supported")]
    Command { command: u8 },
    /// Not a name that could be connected to.
    #[error("socks request has a malformed host name")]
    Name,
    /// Not the version of the greeting.
    #[error("socks version {version} is not 5")]
    Version { version: u8 },
}

impl RequestError {
    /// The answer that tells the client.
    pub(crate) fn reply(self) -> Reply {
        match self {
            Self::AddressType { .. } => Reply::AddressTypeNotSupported,
            Self::Command { .. } => Reply::CommandNotSupported,
            Self::Name | Self::Version { .. } => Reply::GeneralFailure,
        }
    }
}

/// How a request went (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Connected.
    Succeeded = 0,
    /// Anything not named below.
    GeneralFailure = 1,
    /// Policy denies the connection.
    NotAllowed = 2,
    /// No route to the network.
    NetworkUnreachable = 3,
    /// No such host, or no route to it.
    HostUnreachable = 4,
    /// Nothing listens there.
    ConnectionRefused = 5,
    /// The request is not CONNECT.
    CommandNotSupported = 7,
    /// The address is of an unknown kind.
    AddressTypeNotSupported = 8,
}

impl Reply {
    /// The message on the wire. The bound address is left unspecified: it would be an address of the proxy.
    pub(crate) fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, ADDRESS_V4, 0, 0, 0, 0, 0, 0]
    }
}

impl From<io::ErrorKind> for Reply {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Self::HostUnreachable,
            io::ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::GeneralFailure,
        }
    }
}

/// The longest message a client may send: a request with a name of 255 bytes.
pub(crate) const LONGEST_MESSAGE: usize = 4 + 1 + 255 + 2;

/// Reads an input that may not be all there yet.
struct Reader<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.input.get(self.position..)?.get(..count)?;
        self.position += count;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn port(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn socket_address(&mut self, ip: impl Into<IpAddr>) -> Option<Destination> {
        let port = self.port()?;
        Some(SocketAddr::new(ip.into().to_canonical(), port).into())
    }
}

/// A client may send an address as if it were a name; it means the same.
fn named(name: &[u8], port: u16) -> Result<Destination, RequestError> {
    let name = std::str::from_utf8(name).map_err(|_| RequestError::Name)?;
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip.to_canonical(), port).into());
    }
    Destination::from_name(name, port).map_err(|_| RequestError::Name)
}

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: &[u8]) -> Result<Option<(String, usize)>, RequestError> {
        let parsed = ConnectRequest::parse(bytes)?;
        Ok(parsed.map(|(request, length)| (request.destination.to_string(), length)))
    }

    #[test]
    fn greeting_with_the_method_among_others_is_taken() {
        let (greeting, length) = Greeting::parse(&[5, 2, 2, 0, 9]).unwrap().unwrap();
        assert_eq!((greeting.answer(), length), ([5, 0], 4));
    }

    #[test]
    fn greeting_without_the_method_is_answered_with_none_acceptable() {
        let (greeting, _) = Greeting::parse(&[5, 1, 2]).unwrap().unwrap();
        assert_eq!(greeting.answer(), [5, 0xff]);
    }

    // routing#81: the reference answers with a reply that a client of another version cannot read
    #[test]
    fn other_versions_are_refused() {
        assert_eq!(Greeting::parse(&[4, 1]), Err(GreetingError::Version { version: 4 }));
        assert_eq!(request(&[4, 1, 0, 1]), Err(RequestError::Version { version: 4 }));
    }

    // routing#80
    #[test]
    fn requests_name_ipv4_ipv6_and_host_names() {
        assert_eq!(request(&[5, 1, 0, 1, 192, 0, 2, 1, 0, 80]), Ok(Some(("192.0.2.1:80".into(), 10))));
        let mut v6 = vec![5, 1, 0, 4];
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend([1, 187]);
        assert_eq!(request(&v6), Ok(Some(("[2001:db8::1]:443".into(), 22))));
        assert_eq!(
            request(b"\x05\x01\x00\x03\x0bexample.org\x00\x50"),
            Ok(Some(("example.org:80".into(), 18)))
        );
        assert_eq!(request(b"\x05\x01\x00\x03\x09192.0.2.1\x00\x50"), Ok(Some(("192.0.2.1:80".into(), 16))));
    }

    #[test]
    fn messages_in_pieces_are_waited_for() {
        let whole = b"\x05\x01\x00\x03\x0bexample.org\x00\x50";
        for length in 0..whole.len() {
            assert_eq!(request(&whole[..length]), Ok(None), "{length}");
        }
        for length in 0..4 {
            assert_eq!(Greeting::parse(&[5, 2, 0, 1][..length]), Ok(None), "{length}");
        }
    }

    // routing#81
    #[test]
    fn refusals_carry_the_code_that_says_why() {
        let reply = |bytes: &[u8]| request(bytes).unwrap_err().reply();
        assert_eq!(reply(&[5, 2, 0, 1]), Reply::CommandNotSupported);
        assert_eq!(reply(&[5, 3, 0, 1]), Reply::CommandNotSupported);
        assert_eq!(reply(&[5, 1, 0, 9]), Reply::AddressTypeNotSupported);
        assert_eq!(reply(&[5, 1, 0, 3, 0, 0, 80]), Reply::GeneralFailure);
        assert_eq!(reply(&[5, 1, 0, 3, 2, 0xff, 0xfe, 0, 80]), Reply::GeneralFailure);
        assert_eq!(Reply::CommandNotSupported.encode(), [5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn failures_to_connect_are_told_apart() {
        assert_eq!(Reply::from(io::ErrorKind::ConnectionRefused), Reply::ConnectionRefused);
        assert_eq!(Reply::from(io::ErrorKind::NetworkUnreachable), Reply::NetworkUnreachable);
        assert_eq!(Reply::from(io::ErrorKind::BrokenPipe), Reply::GeneralFailure);
    }
    proptest::proptest! {
        #[test]
        fn any_input_is_understood_refused_or_too_short(input in proptest::collection::vec(0_u8..8, 0..300)) {
            for parsed in [
                Greeting::parse(&input).map(|parsed| parsed.map(|(_, length)| length)).ok(),
                ConnectRequest::parse(&input).map(|parsed| parsed.map(|(_, length)| length)).ok(),
            ] {
                match parsed {
                    Some(Some(length)) => proptest::prop_assert!(length <= input.len().min(LONGEST_MESSAGE)),
                    Some(None) => proptest::prop_assert!(input.len() < LONGEST_MESSAGE),
                    None => {}
                }
            }
        }
    }
}
