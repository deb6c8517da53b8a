//! A peer that keeps to HTTP/2 and does what it likes to all tunnels but one, which works on as if it were alone.

mod hpack;
mod lane;
mod near;
mod peer;

use std::time::Duration;

use tokio::io::duplex;

use self::{
    hpack::{Answer, Request},
    lane::{Fate, Lane},
    near::{FIRST, Near},
    peer::{
        HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
        OVERFLOW, Peer, UNKNOWN_SETTING,
    },
};

/// Runs the schedule that `input` spells, as a server or as a client.
///
/// # Panics
///
/// If this side ends the connection, breaks a rule of HTTP/2 itself, holds more than it may, loses, changes or makes up
/// bytes or ends of any tunnel, or lets the one tunnel wait; if not all credit comes back.
pub(crate) fn run(input: &[u8]) {
    let Some((&first, input)) = input.split_first() else { return };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // All is polled by hand, within what the runtime takes for one turn of a task.
    runtime.block_on(tokio::task::unconstrained(schedule(first & 1 != 0, input)));
}

async fn schedule(is_client: bool, input: &[u8]) {
    let (near, far) = duplex(PIPE);
    let mut world = if is_client {
        let mut near = Near::client(near);
        near.open();
        World { near, peer: Peer::new(far, true), empty: 0 }
    } else {
        let mut peer = Peer::new(far, false);
        let near = Near::server(near);
        peer.request(Request::Tunnel, Fate::Accept, 0, false);
        World { near, peer, empty: 0 }
    };
    world.rest();
    world.look_at_first();
    for step in input.chunks(3).take(STEPS) {
        let at = |index: usize| step.get(index).copied().unwrap_or(0);
        let (what, which, how) = (at(0), at(1), at(2));
        world.perform(what & 31, which, how);
        if what & 31 == WAIT {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Else more happens before this side has its turn.
        if what & 0x80 == 0 || what & 31 == WAIT {
            world.rest();
            world.look_at_first();
        }
    }
    world.finish();
}

struct World {
    near: Near,
    peer: Peer,
    /// DATA frames without payload, of which h2 takes only so many on a connection.
    empty: usize,
}

impl World {
    fn rest(&mut self) {
        self.near.rest(&mut self.peer);
        // Other requests are answered when the schedule says so.
        if self.peer.lanes.get(&FIRST).is_some_and(Lane::may_answer) {
            self.peer.answer(FIRST, Answer::Accept, 0);
            self.near.rest(&mut self.peer);
        }
    }

    /// Bytes pass through the first tunnel, both ways and at once.
    fn look_at_first(&mut self) {
        assert!(self.near.has(FIRST));
        let lane = self.peer.lanes.get_mut(&FIRST).expect("the first");
        // What settings have taken from it.
        let missing = i64::try_from(PROBE).expect("small") - lane.from_near.window;
        if missing > 0 {
            self.peer.update(FIRST, u32::try_from(missing).expect("a window"));
            self.near.rest(&mut self.peer);
        }
        assert_eq!(self.peer.data(FIRST, PROBE, None), PROBE, "the first tunnel has no credit");
        let lane = self.peer.lanes.get_mut(&FIRST).expect("the first");
        assert_eq!(self.near.write(FIRST, lane, PROBE), PROBE, "the first tunnel cannot send");
        self.near.rest(&mut self.peer);
        let lane = self.peer.lanes.get_mut(&FIRST).expect("the first");
        assert_eq!(lane.from_near.received, lane.from_near.sent, "the peer waits");
        assert_eq!(self.near.read(FIRST, lane, PROBE), PROBE, "the first tunnel waits");
        self.near.release(FIRST, PROBE);
        self.near.rest(&mut self.peer);
        assert!(self.peer.to_near >= CREDIT, "of the connection's credit {} is left", self.peer.to_near);
    }

    fn perform(&mut self, what: u8, which: u8, how: u8) {
        let others: Vec<u32> = self.peer.lanes.keys().copied().filter(|stream| *stream != FIRST).collect();
        let peers = others.get(usize::from(which) % others.len().max(1)).copied();
        let size = SIZES[usize::from(how) % SIZES.len()];
        match (what, peers) {
            (0 | 1, _) if self.peer.is_server => return self.near.open(),
            (0 | 1, _) if !self.peer.is_leaving => return self.open(which, how),
            (2, _) if which > 250 => return self.near.give_up(&mut self.peer),
            (3, _) if which > 250 => return self.near.drain(),
            (4, _) => {
                let (id, values) = SETTINGS[usize::from(which) % SETTINGS.len()];
                return self.peer.settings(id, values[usize::from(how) % values.len()]);
            }
            (5, _) => return self.peer.ping(),
            (6, stream) => return self.peer.unknown(which | 0x20, how, stream.unwrap_or(0)),
            (7, _) if which > 240 => return self.peer.go_away(FIRST + 2 * u32::from(how % 4)),
            (8, Some(stream)) => self.peer.priority(stream),
            (9..=11, Some(stream)) => {
                let padding = (how & 0x80 != 0).then_some(how & 0x7f);
                self.peer.data(stream, size, padding);
            }
            (12, Some(stream)) => {
                for _ in 0..how {
                    self.peer.data(stream, 1, None);
                }
            }
            (13, Some(stream)) => self.peer.overdraw(stream),
            (14, Some(stream)) if self.empty < EMPTY => {
                self.empty += 1;
                self.peer.nothing(stream);
            }
            (15, Some(stream)) => self.peer.end(stream, how & 1 != 0),
            (16, Some(stream)) => self.peer.reset(stream, u32::from(how % 16)),
            (17 | 18, Some(stream)) => {
                let increments = [1, 100, 10_000, 65_535, OVERFLOW];
                self.peer.update(stream, increments[usize::from(how) % increments.len()]);
            }
            (19, _) => {
                let asked = self.peer.lanes.iter().find(|(_, lane)| lane.may_answer());
                let Some((&stream, _)) = asked else { return };
                let kinds = [Answer::Accept, Answer::Accept, Answer::Hint, Answer::Refuse, Answer::Malformed];
                self.peer.answer(stream, kinds[usize::from(which) % kinds.len()], how);
            }
            _ => {}
        }
        let Some(stream) = self.near.pick(which) else { return };
        let Some(lane) = self.peer.lanes.get_mut(&stream) else { return };
        match what {
            20 | 21 => drop(self.near.read(stream, lane, usize::from(how))),
            22 => self.near.release(stream, size),
            23 | 24 => drop(self.near.write(stream, lane, size)),
            25 => self.near.finish(stream, lane),
            26 => self.near.reset(stream, lane, u32::from(how % 14)),
            27 => self.near.drop_recv(stream, lane),
            28 => self.near.drop_send(stream, lane),
            _ => {}
        }
    }

    /// The peer asks for another tunnel.
    fn open(&mut self, which: u8, how: u8) {
        let kind = match which % 8 {
            5 => Request::Get,
            6 => Request::WithoutAuthority,
            7 => Request::Malformed,
            _ => Request::Tunnel,
        };
        let fate = match which / 8 % 8 {
            5 => Fate::Refuse,
            6 => Fate::Unprocessed,
            7 => Fate::Drop,
            _ => Fate::Accept,
        };
        self.peer.request(kind, fate, how, which & 0x80 != 0);
    }

    /// All others go; then the first tunnel ends in order, and the connection with its peer.
    fn finish(mut self) {
        self.rest();
        self.near.let_go(&mut self.peer);
        // Room for what was sent and finished before: in debug builds h2 panics if a connection ends before a reset that
        // stands behind it (`debug_assert!(!self.has_streams())`).
        self.peer.settings(INITIAL_WINDOW_SIZE, 1 << 20);
        self.rest();
        self.look_at_first();
        assert_eq!(self.near.held_bytes(), 0, "something is held for nobody");
        self.peer.end(FIRST, false);
        let lane = self.peer.lanes.get_mut(&FIRST).expect("the first");
        self.near.finish(FIRST, lane);
        self.near.rest(&mut self.peer);
        let lane = self.peer.lanes.get_mut(&FIRST).expect("the first");
        self.near.read(FIRST, lane, 1);
        assert!(lane.from_near.has_end, "the first tunnel does not end");
        drop(self.peer);
        self.near.end();
    }
}

const SIZES: [usize; 7] = [1, 2, 100, 1000, 5000, 16_384, 70_000];
const SETTINGS: [(u16, &[u32]); 6] = [
    (INITIAL_WINDOW_SIZE, &[65_535, 0, 1, 1000, 1 << 20]),
    (MAX_FRAME_SIZE, &[16_384, 20_000, (1 << 24) - 1]),
    (HEADER_TABLE_SIZE, &[4096, 0, 1, 1 << 20]),
    (MAX_CONCURRENT_STREAMS, &[100, 0, 1, 3]),
    (MAX_HEADER_LIST_SIZE, &[0, 100, 1 << 20]),
    (UNKNOWN_SETTING, &[0, u32::MAX]),
];
/// What passes through the first tunnel at a time.
const PROBE: usize = 500;
/// Of a connection's window of 65,535: an unread byte costs the others nothing, and what was read or let go of is given back
/// from half a window on.
const CREDIT: i64 = 32_767;
/// h2 ends a connection at its 101st.
const EMPTY: usize = 60;
const STEPS: usize = 400;
const WAIT: u8 = 29;
/// More than all windows, in the smallest frames.
const PIPE: usize = 1 << 20;
