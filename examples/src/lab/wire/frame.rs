use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const ETHERNET_HEADER: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const IPV6_HEADER: usize = 40;
const PROTOCOL_TCP: u8 = 6;
const FLAG_SYN: u8 = 0x02;
const FLAG_ACK: u8 = 0x10;

/// One TCP segment of a captured frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads an Ethernet frame; anything but TCP over IPv4 or IPv6 without extension headers is `None`.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET_HEADER..)?;
        match u16_at(frame, 12)? {
            ETHERTYPE_IPV4 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                let total = usize::from(u16_at(packet, 2)?);
                // 0 stands for a packet that segmentation offload left longer than the field can say.
                let packet = if total == 0 { packet } else { packet.get(..total)? };
                let source = Ipv4Addr::from(array_at::<4>(packet, 12)?);
                let destination = Ipv4Addr::from(array_at::<4>(packet, 16)?);
                (*packet.get(9)? == PROTOCOL_TCP).then_some(())?;
                Self::parse_tcp(source.into(), destination.into(), packet.get(header..)?)
            }
            ETHERTYPE_IPV6 => {
                let length = usize::from(u16_at(packet, 4)?);
                let packet = if length == 0 { packet } else { packet.get(..IPV6_HEADER + length)? };
                let source = Ipv6Addr::from(array_at::<16>(packet, 8)?);
                let destination = Ipv6Addr::from(array_at::<16>(packet, 24)?);
                (*packet.get(6)? == PROTOCOL_TCP).then_some(())?;
                Self::parse_tcp(source.into(), destination.into(), packet.get(IPV6_HEADER..)?)
            }
            _ => None,
        }
    }

    fn parse_tcp(source: IpAddr, destination: IpAddr, segment: &'a [u8]) -> Option<Self> {
        let header = usize::from(segment.get(12)? >> 4) * 4;
        let flags = *segment.get(13)?;
        Some(Self {
            source: SocketAddr::new(source, u16_at(segment, 0)?),
            destination: SocketAddr::new(destination, u16_at(segment, 2)?),
            sequence: u32::from_be_bytes(array_at(segment, 4)?),
            syn: flags & FLAG_SYN != 0,
            ack: flags & FLAG_ACK != 0,
            payload: segment.get(header..)?,
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(array_at(bytes, at)?))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn v4_frame(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        let total = u16::try_from(40 + payload.len()).unwrap();
        frame.extend([0x45, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0, 192, 0, 2, 10, 192, 0, 2, 20]);
        frame.extend(tcp(sequence, flags, payload));
        // Short frames are padded.
        frame.extend([0; 6]);
        frame
    }

    fn v6_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV6.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
        frame.extend([PROTOCOL_TCP, 64]);
        frame.extend("2001:db8::a".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend("2001:db8::14".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend(tcp(7, FLAG_ACK, payload));
        frame
    }

    fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(40_000_u16.to_be_bytes());
        segment.extend(8080_u16.to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        segment
    }

    #[test]
    fn a_v4_segment_is_read_without_its_padding() {
        let frame = v4_frame(1, FLAG_SYN, b"hello");
        let segment = Segment::parse(&frame).unwrap();
        assert_eq!(segment.source, "192.0.2.10:40000".parse().unwrap());
        assert_eq!(segment.destination, "192.0.2.20:8080".parse().unwrap());
        assert_eq!((segment.sequence, segment.syn, segment.ack), (1, true, false));
        assert_eq!(segment.payload, b"hello");
    }

    #[test]
    fn a_v6_segment_is_read() {
        let frame = v6_frame(b"hello");
        let segment = Segment::parse(&frame).unwrap();
        assert_eq!(segment.source, "[2001:db8::a]:40000".parse().unwrap());
        assert_eq!(segment.destination, "[2001:db8::14]:8080".parse().unwrap());
        assert!(segment.ack && !segment.syn);
        assert_eq!(segment.payload, b"hello");
    }

    #[test]
    fn no_cut_of_a_frame_panics() {
        for frame in [v4_frame(1, 0, b"hello"), v6_frame(b"hello")] {
            for length in 0..frame.len() {
                let _ = Segment::parse(&frame[..length]);
            }
        }
    }

    #[test]
    fn other_protocols_are_passed_over() {
        let mut frame = v4_frame(1, 0, b"hello");
        frame[ETHERNET_HEADER + 9] = 17;
        assert_eq!(Segment::parse(&frame), None);
        frame[12] = 0x86;
        assert_eq!(Segment::parse(&frame), None);
    }
}
