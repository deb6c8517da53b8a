use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::{
    hpack::{self, Answer, Request},
    lane::{Announced, Fate, Lane},
    near::TUNNELS,
};

/// The other end: it keeps to HTTP/2 as far as the connection goes, and looks whether this side does.
#[derive(Debug)]
pub(super) struct Peer {
    io: DuplexStream,
    /// Whether this side is the client.
    pub(super) is_server: bool,
    inbox: Vec<u8>,
    pub(super) lanes: BTreeMap<u32, Lane>,
    /// What each may still send on the connection.
    pub(super) to_near: i64,
    from_near: i64,
    /// What to give back of it.
    taken: u32,
    /// The windows that new streams have.
    initial_to_near: i64,
    initial_from_near: i64,
    max_frame: usize,
    announced: Announced,
    pings: usize,
    /// Somebody says goodbye: no more streams.
    pub(super) is_leaving: bool,
    last_taken: u32,
    pub(super) is_over: bool,
    /// This side may take back what it asks for.
    pub(super) is_uncertain: bool,
}

impl Peer {
    pub(super) fn new(io: DuplexStream, is_server: bool) -> Self {
        let mut peer = Self {
            io,
            is_server,
            inbox: Vec::new(),
            lanes: BTreeMap::new(),
            to_near: INITIAL_WINDOW,
            from_near: INITIAL_WINDOW,
            taken: 0,
            initial_to_near: INITIAL_WINDOW,
            initial_from_near: INITIAL_WINDOW,
            max_frame: SMALLEST_MAX_FRAME,
            announced: Announced::default(),
            pings: 0,
            is_leaving: false,
            last_taken: OVERFLOW,
            is_over: false,
            is_uncertain: false,
        };
        if !is_server {
            peer.send(PREFACE);
        }
        peer.settings(UNKNOWN_SETTING, 7);
        peer
    }

    pub(super) fn next_stream(&self) -> u32 {
        self.lanes.last_key_value().map_or(1, |(last, _)| last + 2)
    }

    /// Asks for a tunnel, in one frame or continued, with padding or without.
    pub(super) fn request(&mut self, kind: Request, fate: Fate, shape: u8, ends: bool) {
        let stream = self.next_stream();
        let mut lane = Lane::new(self.initial_to_near, self.initial_from_near);
        lane.fate = fate;
        lane.to_near.has_end = ends;
        let live = self.lanes.values().filter(|lane| !lane.is_reset && !lane.is_peer_reset).count();
        lane.is_refused = kind != Request::Tunnel || fate != Fate::Accept;
        // One too many may be refused.
        if lane.is_refused || live >= TUNNELS {
            lane.disturb();
        }
        self.lanes.insert(stream, lane);
        self.head(stream, &hpack::request(kind, stream), shape, ends);
    }

    /// Answers a request.
    pub(super) fn answer(&mut self, stream: u32, kind: Answer, shape: u8) {
        let (heads, ends) = hpack::answer(kind, stream);
        let last = heads.len() - 1;
        for (at, head) in heads.iter().enumerate() {
            self.head(stream, head, shape, ends && at == last);
        }
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        lane.is_asked = false;
        lane.to_near.has_end |= ends;
        if kind == Answer::Refuse || kind == Answer::Malformed {
            lane.disturb();
            lane.is_silent = true;
        }
    }

    fn head(&mut self, stream: u32, block: &[u8], shape: u8, ends: bool) {
        let mut flags = if ends { END_STREAM } else { 0 };
        let mut first = block;
        let mut rest: &[u8] = &[];
        if shape & 1 != 0 {
            (first, rest) = block.split_at(usize::from(shape >> 4).min(block.len()));
        } else {
            flags |= END_HEADERS;
        }
        let mut payload = Vec::new();
        let padding = usize::from(shape >> 4);
        if shape & 2 != 0 {
            flags |= PADDED;
            payload.push(u8::try_from(padding).expect("four bits"));
        }
        if shape & 4 != 0 {
            flags |= PRIORITY_IN_HEADERS;
            payload.extend([0, 0, 0, 0, 3]);
        }
        payload.extend(first);
        if shape & 2 != 0 {
            payload.resize(payload.len() + padding, 0);
        }
        self.frame(HEADERS, flags, stream, &payload);
        if shape & 1 != 0 {
            let (middle, last) = rest.split_at(rest.len() / 2);
            self.frame(CONTINUATION, 0, stream, middle);
            self.frame(CONTINUATION, END_HEADERS, stream, last);
        }
    }

    /// Sends as much of `length` as the windows allow; says how much.
    pub(super) fn data(&mut self, stream: u32, length: usize, padding: Option<u8>) -> usize {
        let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| lane.may_send()) else { return 0 };
        let around = padding.map_or(0, |padding| usize::from(padding) + 1);
        let room = usize::try_from(lane.to_near.window.min(self.to_near)).unwrap_or(0);
        let Some(room) = room.min(SMALLEST_MAX_FRAME).checked_sub(around) else { return 0 };
        let length = length.min(room);
        if length == 0 {
            return 0;
        }
        let mut payload = lane.to_near.send(stream, length);
        let mut flags = 0;
        if let Some(padding) = padding {
            flags = PADDED;
            payload.insert(0, padding);
            payload.resize(payload.len() + usize::from(padding), 0);
        }
        let cost = i64::try_from(payload.len()).expect("a frame");
        lane.to_near.window -= cost;
        self.to_near -= cost;
        self.frame(DATA, flags, stream, &payload);
        length
    }

    /// Sends more than the stream's window allows: an error of that stream (RFC 9113 §6.9.1).
    pub(super) fn overdraw(&mut self, stream: u32) {
        let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| lane.may_send()) else { return };
        let length = lane.to_near.window.max(0) + 1;
        let Ok(size) = usize::try_from(length) else { return };
        if length > self.to_near || size > SMALLEST_MAX_FRAME {
            return;
        }
        lane.disturb();
        lane.is_silent = true;
        self.to_near -= length;
        self.frame(DATA, 0, stream, &vec![0; size]);
    }

    /// Sends a frame without payload, which costs h2 one of its few.
    pub(super) fn nothing(&mut self, stream: u32) {
        if self.lanes.get(&stream).is_some_and(Lane::may_send) {
            self.frame(DATA, 0, stream, &[]);
        }
    }

    pub(super) fn end(&mut self, stream: u32, with_trailers: bool) {
        let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| lane.may_send()) else { return };
        lane.to_near.has_end = true;
        if with_trailers {
            self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0, 1, b'x', 1, b'y']);
        } else {
            self.frame(DATA, END_STREAM, stream, &[]);
        }
    }

    pub(super) fn reset(&mut self, stream: u32, code: u32) {
        let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| !lane.is_silent && !lane.is_reset) else {
            return;
        };
        if lane.is_abandoned && lane.is_finished {
            // h2 does not notice if bytes still wait for the window, and counts the stream for ever.
            return;
        }
        lane.disturb();
        lane.is_silent = true;
        lane.is_peer_reset = true;
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Lets this side send more on a stream. An overflow is an error of that stream (RFC 9113 §6.9.1).
    pub(super) fn update(&mut self, stream: u32, increment: u32) {
        let Some(lane) = self.lanes.get_mut(&stream).filter(|lane| !lane.is_silent && !lane.is_reset) else {
            return;
        };
        if increment == OVERFLOW {
            if lane.from_near.window <= 0 || !self.announced.is_empty() {
                // It need not be one, and later settings would make it one of the connection.
                return;
            }
            lane.disturb();
            lane.is_silent = true;
        }
        lane.from_near.window += i64::from(increment);
        self.frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }

    pub(super) fn settings(&mut self, id: u16, value: u32) {
        self.announced.push(id, value);
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.frame(SETTINGS, 0, 0, &payload);
    }

    pub(super) fn ping(&mut self) {
        self.pings += 1;
        self.frame(PING, 0, 0, b"examined");
    }

    pub(super) fn priority(&mut self, stream: u32) {
        self.frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]);
    }

    pub(super) fn unknown(&mut self, kind: u8, flags: u8, stream: u32) {
        self.frame(kind, flags, stream, b"whatever");
    }

    /// Says goodbye, taking what was asked for up to `last`.
    pub(super) fn go_away(&mut self, last: u32) {
        self.is_leaving = true;
        // Never more than before (RFC 9113 §6.8).
        let last = last.min(self.last_taken);
        self.last_taken = last;
        if self.is_server {
            for (_, lane) in self.lanes.range_mut(last + 1..) {
                lane.disturb();
                lane.is_silent = true;
            }
        }
        let last = if self.is_server { last } else { 0 };
        self.frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
        self.send(&[&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat());
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.io).poll_write(&mut cx, bytes) {
            Poll::Ready(Ok(written)) => assert_eq!(written, bytes.len(), "the way is wide enough"),
            other => panic!("this side does not read: {other:?}"),
        }
    }

    /// Whether this side has answered what it must.
    pub(super) fn is_answered(&self) -> bool {
        self.announced.is_empty() && self.pings == 0
    }

    /// Takes what this side has sent. Says whether there was anything.
    pub(super) fn receive(&mut self) -> bool {
        let mut space = [0; 16 << 10];
        let before = self.inbox.len();
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let read = Pin::new(&mut self.io).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.inbox.extend(buffer.filled()),
                Poll::Ready(_) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        let came = self.inbox.len() > before;
        let inbox = std::mem::take(&mut self.inbox);
        let mut rest = if self.is_server { inbox.strip_prefix(PREFACE).unwrap_or(&inbox) } else { &inbox };
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            assert!(length <= self.max_frame, "{length} bytes in a frame");
            self.handle(head[3], head[4], stream, payload);
            rest = after;
        }
        self.inbox = rest.to_vec();
        if self.taken > 0 {
            let taken = std::mem::take(&mut self.taken);
            self.from_near += i64::from(taken);
            self.frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
        }
        came
    }

    fn handle(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        match (kind, stream) {
            (SETTINGS, 0) if flags & ACK != 0 => {
                let (id, value) = self.announced.acknowledged();
                match id {
                    INITIAL_WINDOW_SIZE => {
                        let change = i64::from(value) - self.initial_from_near;
                        self.initial_from_near += change;
                        self.lanes.values_mut().for_each(|lane| lane.from_near.window += change);
                    }
                    MAX_FRAME_SIZE => self.max_frame = value as usize,
                    _ => {}
                }
            }
            (SETTINGS, 0) => {
                for setting in payload.chunks_exact(6) {
                    let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                        let change = i64::from(value) - self.initial_to_near;
                        self.initial_to_near += change;
                        self.lanes.values_mut().for_each(|lane| lane.to_near.window += change);
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            (PING, 0) if flags & ACK != 0 => {
                assert_eq!(payload, b"examined");
                self.pings = self.pings.checked_sub(1).expect("a ping is answered once");
            }
            (PING, 0) => self.frame(PING, ACK, 0, payload),
            (GOAWAY, 0) => {
                self.is_leaving = true;
                assert_eq!(payload[4..8], [0; 4], "the connection fails by what one stream did: {payload:?}");
            }
            (WINDOW_UPDATE, 0) => self.to_near += increment(payload),
            (_, 0) => panic!("a frame of kind {kind} on the connection"),
            _ => self.handle_on_stream(kind, flags, stream, payload),
        }
    }

    fn handle_on_stream(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        if self.is_server && kind == HEADERS && !self.lanes.contains_key(&stream) {
            assert_eq!(stream, self.next_stream(), "streams are opened in order");
            let lane = Lane::new(self.initial_to_near, self.initial_from_near);
            let disturbed = self.is_uncertain;
            self.lanes.insert(stream, Lane { has_head: true, is_asked: true, disturbed, ..lane });
            return;
        }
        let Some(lane) = self.lanes.get_mut(&stream) else {
            // What was not sent yet as the goodbye came and is given up at once, h2 resets all the same. Whoever has said
            // goodbye may pass over it (RFC 9113 §6.8).
            if kind == RST_STREAM && stream > self.last_taken {
                return;
            }
            panic!("a frame of kind {kind} on stream {stream}, which is idle")
        };
        if kind == WINDOW_UPDATE {
            lane.to_near.window += increment(payload);
            return;
        }
        // Bytes for a stream that was refused meanwhile are answered with another reset.
        assert!(!lane.is_reset || kind == RST_STREAM, "a frame of kind {kind} after a reset");
        match kind {
            HEADERS => {
                assert!(!lane.has_head, "a second head on stream {stream}");
                lane.has_head = true;
            }
            DATA => {
                assert!(lane.has_head && !lane.from_near.has_end, "bytes before the head or after the end");
                assert!(flags & PADDED == 0);
                let cost = i64::try_from(payload.len()).expect("a frame");
                lane.from_near.window -= cost;
                self.from_near -= cost;
                self.taken += u32::try_from(payload.len()).expect("a frame");
                assert!(lane.from_near.window >= 0 && self.from_near >= 0 || cost == 0, "beyond a window");
                lane.from_near.receive(!stream, payload);
            }
            RST_STREAM => {
                assert!(
                    lane.disturbed || (lane.to_near.has_end && lane.from_near.has_end),
                    "stream {stream} is reset for nothing: {payload:?}"
                );
                lane.is_reset = true;
                return;
            }
            _ => panic!("a frame of kind {kind} on a stream"),
        }
        if flags & END_STREAM != 0 {
            lane.from_near.has_end = true;
            let is_whole = lane.is_finished && lane.from_near.received == lane.from_near.sent;
            assert!(is_whole || lane.is_refused, "an end before the last byte, or that nobody made");
        }
    }
}

fn increment(payload: &[u8]) -> i64 {
    let payload = <[u8; 4]>::try_from(payload).expect("four bytes");
    let increment = u32::from_be_bytes(payload);
    assert!((1..=OVERFLOW).contains(&increment));
    i64::from(increment)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const INITIAL_WINDOW: i64 = 65_535;
const SMALLEST_MAX_FRAME: usize = 16_384;
/// No window is larger (RFC 9113 §6.9.1).
pub(super) const OVERFLOW: u32 = (1 << 31) - 1;

// RFC 9113 §6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY_IN_HEADERS: u8 = 0x20;
pub(super) const HEADER_TABLE_SIZE: u16 = 0x1;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(super) const MAX_FRAME_SIZE: u16 = 0x5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
pub(super) const UNKNOWN_SETTING: u16 = 0x7777;
