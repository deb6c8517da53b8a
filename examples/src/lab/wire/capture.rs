use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Read},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{flow::Flow, frame::Segment};
use crate::lab::Namespace;

/// Every protocol (`ETH_P_ALL`), in network byte order as packet(7) wants it.
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
/// A frame as segmentation offload passes it, with room to spare.
const FRAME: usize = 256 * 1024;
/// How long the reader may take to notice that it shall stop.
const TICK: Duration = Duration::from_millis(20);

/// A running capture of all frames that cross a switch.
#[derive(Debug)]
pub struct Wire {
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<WireReport>>,
}

impl Wire {
    /// Starts to capture inside a namespace; frames sent after this returns are seen.
    pub(in crate::lab) fn start(namespace: &Namespace) -> io::Result<Self> {
        let socket = namespace
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL))))??;
        socket.set_read_timeout(Some(TICK))?;
        // As much as an unprivileged user may have: what is not read in time is lost.
        socket.set_recv_buffer_size(32 * 1024 * 1024)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader =
            thread::Builder::new().name("lab-wire".to_owned()).spawn(move || read(&socket, &stopped))?;
        Ok(Self { stop, reader: Some(reader) })
    }

    /// Ends the capture, after the frames that are already there, and returns what was seen.
    pub fn stop(mut self) -> WireReport {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.reader.take().map(JoinHandle::join);
        report.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What travelled on the wire.
#[derive(Clone, Debug, Default)]
pub struct WireReport {
    frames: u64,
    flows: HashMap<(SocketAddr, SocketAddr), Flow>,
}

impl WireReport {
    /// Number of frames seen; one that crosses the switch counts where it enters and where it leaves.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The TCP flows, each direction of a connection on its own.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// The flows from or to a port.
    pub fn flows_with(&self, port: u16) -> impl Iterator<Item = &Flow> {
        self.flows().filter(move |flow| flow.source().port() == port || flow.destination().port() == port)
    }

    /// The flows that contain `marker`.
    pub fn flows_containing(&self, marker: &[u8]) -> Vec<&Flow> {
        self.flows().filter(|flow| flow.contains(marker)).collect()
    }

    /// The ports to which connections were opened.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.flows().filter(|flow| flow.is_initiated()).map(|flow| flow.destination().port()).collect()
    }

    fn add(&mut self, frame: &[u8]) {
        self.frames += 1;
        let Some(segment) = Segment::parse(frame) else { return };
        let flow = self.flows.entry((segment.source, segment.destination));
        flow.or_insert_with(|| Flow::starting_with(&segment)).add(&segment);
    }
}

fn read(mut socket: &Socket, stop: &AtomicBool) -> WireReport {
    let mut report = WireReport::default();
    let mut buffer = vec![0; FRAME];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) => report.add(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => {}
            Err(_) => return report,
        }
    }
}
