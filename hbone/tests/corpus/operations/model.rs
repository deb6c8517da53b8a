use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// What was done to a tunnel, and what may be seen of it by that.
pub(super) struct Model {
    /// Whether anything happened that lets operations fail.
    disturbed: AtomicBool,
    /// The direction from each end to the other.
    flows: [Mutex<Flow>; 2],
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    sent: usize,
    finished: bool,
    received: usize,
    released: usize,
    ended: bool,
    /// What may be on its way.
    allowance: usize,
}

/// What a sender may assume until it has heard the receiver's settings (RFC 9113 §6.9.2).
const INITIAL_WINDOW: usize = 65_535;

impl Model {
    /// A tunnel whose ends let the other send `windows` bytes ahead.
    pub(super) fn new([client, server]: [u32; 2]) -> Self {
        let flow = |window: u32| {
            let allowance = usize::try_from(window).expect("64 bits").max(INITIAL_WINDOW);
            Mutex::new(Flow { allowance, ..Flow::default() })
        };
        Self { disturbed: AtomicBool::new(false), flows: [flow(server), flow(client)] }
    }

    pub(super) fn disturb(&self) {
        self.disturbed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// The next `length` bytes of a direction.
    pub(super) fn next_bytes(&self, from: usize, length: usize) -> Vec<u8> {
        let start = self.flow(from).sent;
        (start..start + length).map(|position| content(from, position)).collect()
    }

    pub(super) fn handle_sent(&self, from: usize, length: usize) {
        let mut flow = self.flow(from);
        assert!(length > 0 && !flow.finished);
        flow.sent += length;
        let ahead = flow.sent - flow.released;
        assert!(ahead <= flow.allowance, "{ahead} bytes are on their way, {} may be", flow.allowance);
    }

    pub(super) fn handle_finished(&self, from: usize) {
        self.flow(from).finished = true;
    }

    pub(super) fn is_finished(&self, from: usize) -> bool {
        self.flow(from).finished
    }

    pub(super) fn handle_received(&self, from: usize, data: &[u8]) {
        let mut flow = self.flow(from);
        assert!(!data.is_empty() && !flow.ended);
        let start = flow.received;
        flow.received += data.len();
        assert!(flow.received <= flow.sent, "more than was sent");
        let wrong = data.iter().enumerate().position(|(at, byte)| *byte != content(from, start + at));
        assert_eq!(wrong, None, "of the bytes from {start} on");
    }

    pub(super) fn handle_released(&self, from: usize, length: usize) {
        self.flow(from).released += length;
    }

    /// The receiver is gone, and whatever comes is discarded.
    pub(super) fn handle_receiver_gone(&self, from: usize) {
        self.flow(from).allowance = usize::MAX;
    }

    /// The receiver sees the end, which is the end of what was sent whatever else happened.
    pub(super) fn handle_ended(&self, from: usize) {
        let mut flow = self.flow(from);
        assert!(flow.finished, "an end that nobody made");
        assert_eq!(flow.received, flow.sent, "an end before the last byte");
        flow.ended = true;
    }

    pub(super) fn has_ended(&self, from: usize) -> bool {
        self.flow(from).ended
    }

    /// Whether both directions have ended at their receivers, unless somebody disturbed them.
    pub(super) fn is_complete(&self) -> bool {
        self.is_disturbed() || (self.has_ended(0) && self.has_ended(1))
    }

    fn flow(&self, from: usize) -> std::sync::MutexGuard<'_, Flow> {
        self.flows[from].lock().expect("no panic")
    }
}

/// The byte at a position of a direction; neighbours differ, and so do the directions.
fn content(from: usize, position: usize) -> u8 {
    let mixed = position.wrapping_mul(0x9e37_79b1) >> 7;
    (mixed ^ (from << 6)) as u8
}
