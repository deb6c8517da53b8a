//! What two proxies agreed on, read from the hello that the server sends in the clear.

use std::fmt;

use examples::lab::WireReport;

/// Port of HBONE.
const HBONE_PORT: u16 = 15008;
/// Content type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// Type of the server's hello (RFC 8446 §4).
const SERVER_HELLO: u8 = 2;
/// Extension with the key share (RFC 8446 §4.2).
const KEY_SHARE: u16 = 51;

/// Cipher suite and key exchange group of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Negotiated {
    suite: u16,
    group: u16,
}

impl Negotiated {
    /// Finds it in what travelled between the hosts.
    pub(super) fn find(report: &WireReport) -> Option<Self> {
        let mut flows = report.flows().filter(|flow| flow.source().port() == HBONE_PORT);
        flows.find_map(|flow| Self::read(flow.bytes()))
    }

    /// Reads the server's hello (RFC 8446 §4.1.3).
    fn read(stream: &[u8]) -> Option<Self> {
        let mut stream = Cursor(stream);
        if stream.byte()? != HANDSHAKE {
            return None;
        }
        stream.skip(4)?;
        if stream.byte()? != SERVER_HELLO {
            return None;
        }
        // Length, legacy version, random, session id.
        stream.skip(3 + 2 + 32)?;
        let session = stream.byte()?;
        stream.skip(session.into())?;
        let suite = stream.word()?;
        // Compression method, length of the extensions.
        stream.skip(1 + 2)?;
        loop {
            let (kind, length) = (stream.word()?, stream.word()?);
            if kind == KEY_SHARE {
                return Some(Self { suite, group: stream.word()? });
            }
            stream.skip(length.into())?;
        }
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suite {
            0x1301 => f.write_str("TLS_AES_128_GCM_SHA256")?,
            0x1302 => f.write_str("TLS_AES_256_GCM_SHA384")?,
            0x1303 => f.write_str("TLS_CHACHA20_POLY1305_SHA256")?,
            other => write!(f, "suite {other:#06x}")?,
        }
        match self.group {
            0x0017 => f.write_str(", secp256r1"),
            0x0018 => f.write_str(", secp384r1"),
            0x001d => f.write_str(", X25519"),
            0x11ec => f.write_str(", X25519MLKEM768"),
            other => write!(f, ", group {other:#06x}"),
        }
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Vec<u8> {
        let mut hello = vec![22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3];
        hello.extend([9; 32]);
        hello.push(2);
        hello.extend([1, 2]);
        hello.extend([0x13, 0x02, 0]);
        hello.extend([0, 20, 0, 43, 0, 2, 3, 4, 0, 51, 0, 4, 0x11, 0xec, 0, 0]);
        hello
    }

    #[test]
    fn suite_and_group_are_read() {
        let negotiated = Negotiated::read(&hello()).unwrap();
        assert_eq!(negotiated.to_string(), "TLS_AES_256_GCM_SHA384, X25519MLKEM768");
    }

    #[test]
    fn a_cut_or_another_message_is_none() {
        let hello = hello();
        assert!((0..hello.len() - 2).all(|length| Negotiated::read(&hello[..length]).is_none()));
        assert_eq!(Negotiated::read(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
