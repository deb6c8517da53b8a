use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;

/// Sockets on their way to a worker; beyond it the accepting worker keeps what it accepts.
const HANDOFF_QUEUE: usize = 256;

/// An accepted HBONE connection on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Handoff {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: Place,
}

/// What the workers know of each other: how many HBONE connections each serves, and how to give it one more.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    seats: Arc<[Seat]>,
}

#[derive(Debug)]
struct Seat {
    load: Arc<AtomicUsize>,
    queue: mpsc::Sender<Handoff>,
}

impl Balance {
    /// Makes the seats of `workers` workers and the queue each of them serves.
    pub(crate) fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Handoff>>) {
        let (seats, queues): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (queue, receiver) = mpsc::channel(HANDOFF_QUEUE);
                (Seat { load: Arc::default(), queue }, receiver)
            })
            .unzip();
        (Self { seats: seats.into() }, queues)
    }

    /// Takes a place on the least loaded worker, preferring `own` among equals.
    ///
    /// The place counts from now on, so that connections accepted in one burst spread.
    pub(crate) fn take_place(&self, own: usize) -> Place {
        let load =
            |index: usize| self.seats.get(index).map_or(usize::MAX, |seat| seat.load.load(Ordering::Relaxed));
        let least = (0..self.seats.len()).min_by_key(|&index| (load(index), index != own)).unwrap_or(own);
        self.place_on(least)
    }

    /// Takes a place on worker `index`, whatever its load.
    pub(crate) fn place_on(&self, index: usize) -> Place {
        let load = self.seats.get(index).map(|seat| Arc::clone(&seat.load)).unwrap_or_default();
        load.fetch_add(1, Ordering::Relaxed);
        Place { worker: index, load }
    }

    /// Gives a connection to the worker of its place, or back if that worker's queue is full or gone.
    pub(crate) fn hand_off(&self, handoff: Handoff) -> Result<(), Handoff> {
        match self.seats.get(handoff.place.worker) {
            Some(seat) => seat.queue.try_send(handoff).map_err(|error| error.into_inner()),
            None => Err(handoff),
        }
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
        let (balance, _queues) = Balance::new(3);
        assert_eq!(balance.take_place(1).worker(), 1);
    }

    #[test]
    fn a_burst_spreads_evenly() {
        let (balance, _queues) = Balance::new(3);
        let places: Vec<_> = (0..9).map(|_| balance.take_place(0)).collect();
        for worker in 0..3 {
            assert_eq!(places.iter().filter(|place| place.worker() == worker).count(), 3);
        }
        drop(places);
        assert_eq!(balance.take_place(2).worker(), 2);
    }

    #[tokio::test]
    async fn a_gone_worker_gives_the_connection_back() {
        let (balance, queues) = Balance::new(2);
        drop(queues);
        let _busy = balance.place_on(0);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = stream.peer_addr().unwrap();
        let place = balance.take_place(0);
        assert_eq!(place.worker(), 1);
        assert!(balance.hand_off(Handoff { stream, peer, place }).is_err());
    }
}
