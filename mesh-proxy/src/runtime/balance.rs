use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{Capacity, Capture};

/// Sockets on their way to a worker; beyond it the accepting worker keeps what it accepts.
const HANDOFF_QUEUE: usize = 256;

/// An accepted connection on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Handoff {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) capture: Capture,
    pub(crate) place: Place,
    /// Taken before it set out, so that nobody is turned away on arrival.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the workers know of each other: how many connections each serves, and how to give it one more.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    seats: Arc<[Seat]>,
}

#[derive(Debug)]
struct Seat {
    captured: Arc<AtomicUsize>,
    hbone: Arc<AtomicUsize>,
    queue: mpsc::Sender<Handoff>,
    capacity: Capacity,
}

impl Seat {
    /// Tunnels share connections, so one HBONE connection is no measure for one of the other kinds.
    fn load(&self, capture: Capture) -> &Arc<AtomicUsize> {
        match capture {
            Capture::InboundHbone => &self.hbone,
            Capture::InboundPlaintext | Capture::Outbound | Capture::Socks5 => &self.captured,
        }
    }
}

impl Balance {
    /// Makes the seats of `workers` workers, each with `limit` places a direction, and the queue each of them serves.
    pub(crate) fn new(workers: usize, limit: u32) -> (Self, Vec<mpsc::Receiver<Handoff>>) {
        let (seats, queues): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (queue, receiver) = mpsc::channel(HANDOFF_QUEUE);
                let capacity = Capacity::new(limit);
                (Seat { captured: Arc::default(), hbone: Arc::default(), queue, capacity }, receiver)
            })
            .unzip();
        (Self { seats: seats.into() }, queues)
    }

    /// Takes a place for a connection that worker `own` accepted: there, unless another worker serves fewer.
    ///
    /// The place counts from now on, so that connections accepted in one burst spread.
    pub(crate) fn take_place(&self, own: usize, capture: Capture) -> Place {
        let load = |index: usize| {
            self.seats.get(index).map_or(usize::MAX, |seat| seat.load(capture).load(Ordering::Relaxed))
        };
        let least = (0..self.seats.len()).min_by_key(|&index| load(index)).unwrap_or(own);
        let stays = load(own) <= load(least).saturating_add(slack(capture));
        self.place_on(if stays { own } else { least }, capture)
    }

    /// Takes a place on worker `index`, whatever its load.
    pub(crate) fn place_on(&self, index: usize, capture: Capture) -> Place {
        let load = self.seats.get(index).map(|seat| Arc::clone(seat.load(capture))).unwrap_or_default();
        load.fetch_add(1, Ordering::Relaxed);
        Place { worker: index, load }
    }

    /// How many connections worker `index` may serve; one that there is not, none.
    pub(crate) fn capacity(&self, index: usize) -> Capacity {
        self.seats.get(index).map_or_else(|| Capacity::new(0), |seat| seat.capacity.clone())
    }

    /// Takes a place on another worker than `own` that may serve one more connection: the one that serves the fewest.
    pub(crate) fn take_place_elsewhere(
        &self,
        own: usize,
        capture: Capture,
    ) -> Option<(Place, OwnedSemaphorePermit)> {
        let others = self.seats.iter().enumerate().filter(|&(index, _)| index != own);
        let with_permit = others.filter_map(|(index, seat)| {
            // Looked at before it is taken, so that none is taken in vain.
            let is_open = seat.capacity.has_room(capture.direction());
            is_open.then(|| (index, seat, seat.load(capture).load(Ordering::Relaxed)))
        });
        let (index, seat, _) = with_permit.min_by_key(|&(.., load)| load)?;
        let permit = seat.capacity.try_take(capture.direction())?;
        Some((self.place_on(index, capture), permit))
    }

    /// Gives a connection to the worker of its place, or back if that worker's queue is full or gone.
    pub(crate) fn hand_off(&self, handoff: Handoff) -> Result<(), Handoff> {
        match self.seats.get(handoff.place.worker) {
            Some(seat) => seat.queue.try_send(handoff).map_err(|error| error.into_inner()),
            None => Err(handoff),
        }
    }
}

/// How many more connections than the least loaded worker one may serve before it gives further ones away.
///
/// Giving one away costs a wake-up of another thread, too much for short connections as long as the kernel spreads
/// them well enough; an HBONE connection lives long and carries many.
fn slack(capture: Capture) -> usize {
    match capture {
        Capture::InboundHbone => 0,
        Capture::InboundPlaintext | Capture::Outbound | Capture::Socks5 => 1,
    }
}

/// One connection in a worker's load, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    worker: usize,
    load: Arc<AtomicUsize>,
}

impl Place {
    /// The worker the place is on.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accepting_worker_keeps_a_connection_among_equals() {
        let (balance, _queues) = Balance::new(3, 9);
        assert_eq!(balance.take_place(1, Capture::InboundHbone).worker(), 1);
    }

    #[test]
    fn a_burst_of_hbone_connections_spreads_evenly() {
        let (balance, _queues) = Balance::new(3, 9);
        let places: Vec<_> = (0..9).map(|_| balance.take_place(0, Capture::InboundHbone)).collect();
        for worker in 0..3 {
            assert_eq!(places.iter().filter(|place| place.worker() == worker).count(), 3);
        }
        drop(places);
        assert_eq!(balance.take_place(2, Capture::InboundHbone).worker(), 2);
    }

    #[test]
    fn eight_captured_connections_load_no_worker_of_two_beyond_five() {
        let (balance, _queues) = Balance::new(2, 9);
        let places: Vec<_> = (0..8).map(|_| balance.take_place(0, Capture::Outbound)).collect();
        assert_eq!(places.iter().filter(|place| place.worker() == 0).count(), 5);
        assert_eq!(balance.take_place(1, Capture::InboundHbone).worker(), 1);
    }

    #[tokio::test]
    async fn a_gone_worker_gives_the_connection_back() {
        let (balance, queues) = Balance::new(2, 9);
        drop(queues);
        let capture = Capture::InboundHbone;
        let _busy = balance.place_on(0, capture);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = stream.peer_addr().unwrap();
        let (place, permit) = balance.take_place_elsewhere(0, capture).unwrap();
        assert_eq!(place.worker(), 1);
        assert!(balance.hand_off(Handoff { stream, peer, capture, place, permit }).is_err());
    }

    #[test]
    fn a_worker_that_serves_all_it_may_gets_no_more() {
        let (balance, _queues) = Balance::new(3, 1);
        let capture = Capture::Outbound;
        let taken: Vec<_> = (0..2).map(|_| balance.take_place_elsewhere(0, capture).unwrap()).collect();
        assert_eq!(taken.iter().map(|(place, _)| place.worker()).collect::<Vec<_>>(), [1, 2]);
        assert!(balance.take_place_elsewhere(0, capture).is_none());
        assert!(balance.take_place_elsewhere(0, Capture::InboundHbone).is_some());
    }
}
