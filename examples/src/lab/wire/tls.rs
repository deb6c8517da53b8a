/// Length of a record's header (RFC 8446 §5.1).
const HEADER: usize = 5;

/// What a byte stream is, read as TLS records (RFC 8446 §5.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TlsSummary {
    /// Records of the handshake that are in the clear: the two hellos.
    pub handshake: usize,
    /// Protected records; in TLS 1.3 most of the handshake too.
    pub application_data: usize,
    /// Change-cipher-spec and alert records.
    pub other: usize,
    /// Whether something else than records was found, where the reading ended.
    pub foreign: bool,
}

impl TlsSummary {
    /// Reads a stream from its beginning; its last record may be cut.
    pub fn read(mut stream: &[u8]) -> Self {
        let mut summary = Self::default();
        // A last record may still be on its way: its header is enough.
        while let [kind, 3, minor, high, low, ..] = *stream {
            let count = match kind {
                20 | 21 => &mut summary.other,
                22 => &mut summary.handshake,
                23 => &mut summary.application_data,
                _ => break,
            };
            // Record versions are 0x0301 and 0x0303 only.
            if !matches!(minor, 1 | 3) {
                break;
            }
            *count += 1;
            let length = usize::from(u16::from_be_bytes([high, low]));
            stream = stream.get(HEADER + length..).unwrap_or_default();
        }
        summary.foreign = stream.len() >= HEADER;
        summary
    }

    /// Whether it consists of TLS records and nothing else, some of them protected.
    pub fn is_tls(&self) -> bool {
        self.handshake > 0 && self.application_data > 0 && !self.foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_by_kind() {
        let stream = b"\x16\x03\x01\0\x02hi\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x03abc\x17\x03\x03\0\x09cut";
        let summary = TlsSummary::read(stream);
        assert_eq!(summary, TlsSummary { handshake: 1, application_data: 2, other: 1, foreign: false });
        assert!(summary.is_tls());
    }

    #[test]
    fn plaintext_is_foreign() {
        assert!(TlsSummary::read(b"GET / HTTP/1.1\r\n").foreign);
        assert!(TlsSummary::read(b"\x16\x03\x01\0\x02hiplaintext").foreign);
        assert!(!TlsSummary::read(b"").is_tls());
    }
}
