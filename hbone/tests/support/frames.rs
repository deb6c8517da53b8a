//! HTTP/2 frame by frame (RFC 9113 §4.1).

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub const MAX_FRAME_SIZE: u16 = 0x5;
pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The first four bytes of the payload: an increment, an error code or a last stream id.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    pub fn setting(&self, id: u16) -> Option<u32> {
        let parts = self.payload.chunks(6).find(|entry| entry[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(parts[2..].try_into().unwrap()))
    }

    pub fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    pub fn is_end_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

/// A peer that does nothing by itself.
pub struct Peer {
    io: DuplexStream,
}

impl Peer {
    /// Starts as a server that allows what `settings` say.
    pub async fn server(mut io: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut preface = [0; PREFACE.len()];
        io.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut peer = Self { io };
        peer.settings(settings).await;
        peer
    }

    /// Starts as a client.
    pub async fn client(mut io: DuplexStream) -> Self {
        io.write_all(PREFACE).await.unwrap();
        let mut peer = Self { io };
        peer.settings(&[]).await;
        peer
    }

    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<_> = settings.iter().flat_map(entry).collect();
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.io.write_all(&encode(kind, flags, stream, payload)).await.unwrap();
    }

    /// Sends several frames at once, so that they are read together.
    pub async fn send_all(&mut self, frames: &[(u8, u8, u32, &[u8])]) {
        let bytes: Vec<_> = frames
            .iter()
            .flat_map(|(kind, flags, id, payload)| encode(*kind, *flags, *id, payload))
            .collect();
        self.io.write_all(&bytes).await.unwrap();
    }

    /// Sends a CONNECT request, or another made of these fields.
    pub async fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS, stream, &encode_fields(fields)).await;
    }

    /// Answers a request with status 200.
    pub async fn accept(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, &[STATUS_200]).await;
    }

    /// The next frame; `None` at the end of the connection. Answers settings and pings.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = self.next_raw().await?;
        if (frame.kind == SETTINGS || frame.kind == PING) && !frame.is_ack() {
            let payload: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
            self.send(frame.kind, ACK, 0, payload).await;
        }
        Some(frame)
    }

    /// The next frame, answering nothing.
    pub async fn next_raw(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind, skipping others and acknowledgements.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("connection ended");
            if frame.kind == kind && !(matches!(kind, SETTINGS | PING) && frame.is_ack()) {
                return frame;
            }
        }
    }

    pub fn into_io(self) -> DuplexStream {
        self.io
    }
}

/// The bytes of a frame.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as literals without indexing (RFC 7541 §6.2.2).
pub fn encode_fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// `:status: 200` in the static table (RFC 7541 appendix A).
pub const STATUS_200: u8 = 0x88;
