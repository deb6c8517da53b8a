use proptest::prelude::*;

use super::*;

type TestBook = Book<&'static str, u64, u32>;

const LIMITS: Limits = Limits { tunnels: 3, connections: 2, waiters: 20 };
const TIMEOUT: Duration = Duration::from_secs(300);
const KEY: &str = "key";

fn book() -> TestBook {
    Book::new(LIMITS)
}

/// Waits and expects a dial.
fn wait_dialling(book: &mut TestBook, waiter: u32) -> ConnectionId {
    book.wait(&KEY, None, waiter).unwrap().1.expect("a dial")
}

/// Opens a connection named like its id, granting it to those who wait.
fn dialed(book: &mut TestBook, id: ConnectionId) -> Vec<(u32, u64)> {
    book.handle_dialed(&KEY, id, id.0, Instant::now()).expect("wanted").grants
}

// hbone#67
#[test]
fn those_who_come_together_share_one_dial() {
    let mut book = book();
    let id = wait_dialling(&mut book, 1);
    assert_eq!(book.wait(&KEY, None, 2).unwrap().1, None);
    assert_eq!(book.wait(&KEY, None, 3).unwrap().1, None);
    assert_eq!(dialed(&mut book, id), [(1, id.0)], "one until the limit is known");
    let outcome = book.handle_limit(&KEY, id, 100);
    assert_eq!(outcome.grants, [(2, id.0), (3, id.0)]);
    assert!(outcome.dials.is_empty());
    assert_eq!(book.checkout(&KEY, None), None, "full");
}

#[test]
fn more_than_a_connection_takes_means_another_dial() {
    let mut book = book();
    let first = wait_dialling(&mut book, 1);
    for waiter in 2..=3 {
        assert_eq!(book.wait(&KEY, None, waiter).unwrap().1, None);
    }
    let second = wait_dialling(&mut book, 4);
    assert_ne!(first, second);
    for waiter in 5..=20 {
        assert_eq!(book.wait(&KEY, None, waiter).unwrap().1, None, "as many connections as allowed");
    }
    assert_eq!(book.wait(&KEY, None, 21), Err(WaitRefusal::Busy));
}

// hbone#21
#[test]
fn limit_of_the_peer_counts_if_lower() {
    let mut book = book();
    let id = wait_dialling(&mut book, 1);
    book.wait(&KEY, None, 2).unwrap();
    book.wait(&KEY, None, 3).unwrap();
    dialed(&mut book, id);
    let outcome = book.handle_limit(&KEY, id, 2);
    assert_eq!(outcome.grants, [(2, id.0)]);
    assert_eq!(outcome.dials.len(), 1, "for the third");
}

// hbone#22
#[test]
fn changed_limit_holds_at_once() {
    let mut book = book();
    let id = wait_dialling(&mut book, 1);
    dialed(&mut book, id);
    book.handle_limit(&KEY, id, 2);
    assert_eq!(book.checkout(&KEY, None), Some(id.0));
    assert_eq!(book.checkout(&KEY, None), None);
    book.handle_limit(&KEY, id, 3);
    assert_eq!(book.checkout(&KEY, None), Some(id.0));
    book.handle_limit(&KEY, id, 0);
    book.handle_released(&KEY, id, Instant::now());
    assert_eq!(book.checkout(&KEY, None), None, "two too many");
}

// hbone#69
#[test]
fn full_connection_is_used_again_when_a_tunnel_ends() {
    let mut book = book();
    let id = wait_dialling(&mut book, 1);
    dialed(&mut book, id);
    book.handle_limit(&KEY, id, 1);
    wait_dialling(&mut book, 2);
    let outcome = book.handle_released(&KEY, id, Instant::now());
    assert_eq!(outcome.grants, [(2, id.0)]);
}

// hbone#70
#[test]
fn failure_is_told_to_all_who_waited_for_it() {
    let mut book = book();
    let first = wait_dialling(&mut book, 1);
    book.wait(&KEY, None, 2).unwrap();
    assert_eq!(book.handle_dial_failed(&KEY, first), [1, 2]);
    assert!(book.keys.is_empty());

    let first = wait_dialling(&mut book, 1);
    book.wait(&KEY, None, 2).unwrap();
    book.wait(&KEY, None, 3).unwrap();
    let second = wait_dialling(&mut book, 4);
    assert_eq!(book.handle_dial_failed(&KEY, first), [1], "the others have the second dial");
    assert_eq!(book.handle_dial_failed(&KEY, second), [2, 3, 4]);
}

// hbone#75
#[test]
fn whoever_gives_up_disturbs_nobody() {
    let mut book = book();
    let (ticket, dial) = book.wait(&KEY, None, 1).unwrap();
    book.wait(&KEY, None, 2).unwrap();
    book.cancel(&KEY, ticket);
    assert_eq!(dialed(&mut book, dial.unwrap()), [(2, dial.unwrap().0)]);

    let (ticket, dial) = book.wait(&"other", None, 3).unwrap();
    book.cancel(&"other", ticket);
    let outcome = book.handle_dialed(&"other", dial.unwrap(), 9, Instant::now()).unwrap();
    assert!(outcome.grants.is_empty());
    assert_eq!(book.checkout(&"other", None), Some(9), "there for the next");
}

#[test]
fn avoided_connection_is_not_handed_out() {
    let mut book = book();
    let first = wait_dialling(&mut book, 1);
    dialed(&mut book, first);
    book.handle_limit(&KEY, first, 3);
    assert_eq!(book.checkout(&KEY, Some(first)), None);
    let (_, dial) = book.wait(&KEY, Some(first), 2).unwrap();
    let second = dial.unwrap();
    book.wait(&KEY, None, 3).unwrap();
    assert_eq!(book.handle_released(&KEY, first, Instant::now()).grants, [(3, first.0)]);
    assert_eq!(dialed(&mut book, second), [(2, second.0)]);
}

#[test]
fn avoided_connection_is_not_counted_on() {
    let mut book = book();
    let first = wait_dialling(&mut book, 1);
    dialed(&mut book, first);
    book.handle_limit(&KEY, first, 1);
    let second = wait_dialling(&mut book, 2);
    dialed(&mut book, second);
    book.handle_closed(&KEY, first);
    book.handle_released(&KEY, second, Instant::now());
    // Free, but not for this one, who needs another even if nobody else takes it.
    assert!(book.wait(&KEY, Some(second), 3).unwrap().1.is_some());
}

// hbone#73
#[test]
fn closed_connection_is_replaced_for_those_who_wait() {
    let mut book = book();
    let first = wait_dialling(&mut book, 1);
    dialed(&mut book, first);
    book.handle_limit(&KEY, first, 1);
    let second = wait_dialling(&mut book, 2);
    dialed(&mut book, second);
    book.handle_limit(&KEY, second, 1);
    assert_eq!(book.wait(&KEY, None, 3).unwrap().1, None, "no further connection allowed");
    assert_eq!(book.handle_closed(&KEY, first).dials.len(), 1);
    assert!(book.handle_released(&KEY, first, Instant::now()).grants.is_empty(), "no longer in the book");
}

// hbone#71
#[test]
fn idle_connection_expires_after_its_last_tunnel() {
    let mut book = book();
    let start = Instant::now();
    let id = wait_dialling(&mut book, 1);
    book.handle_dialed(&KEY, id, 1, start);
    let later = start + TIMEOUT;
    assert_eq!(book.handle_idle_check(&KEY, id, TIMEOUT, later), Idle::CheckAt(later + TIMEOUT), "in use");
    let ended = later + TIMEOUT / 2;
    book.handle_released(&KEY, id, ended);
    let check = later + TIMEOUT;
    assert_eq!(book.handle_idle_check(&KEY, id, TIMEOUT, check), Idle::CheckAt(ended + TIMEOUT));
    assert_eq!(book.handle_idle_check(&KEY, id, TIMEOUT, ended + TIMEOUT), Idle::Expired);
    assert!(book.keys.is_empty());
    assert_eq!(book.handle_idle_check(&KEY, id, TIMEOUT, ended + TIMEOUT), Idle::Expired);
}

#[test]
fn idle_connection_stays_while_someone_waits() {
    let mut book = book();
    let start = Instant::now();
    let (ticket, dial) = book.wait(&KEY, None, 1).unwrap();
    let id = dial.unwrap();
    book.cancel(&KEY, ticket);
    book.handle_dialed(&KEY, id, 1, start);
    book.wait(&KEY, Some(id), 2).unwrap();
    let later = start + TIMEOUT;
    assert_eq!(book.handle_idle_check(&KEY, id, TIMEOUT, later), Idle::CheckAt(later + TIMEOUT));
}

#[test]
fn evicted_connections_and_dials_are_forgotten() {
    let mut book = book();
    let id = wait_dialling(&mut book, 1);
    assert_eq!(book.evict(&KEY), [1]);
    assert!(book.handle_dialed(&KEY, id, 1, Instant::now()).is_none());
    assert!(book.evict(&KEY).is_empty());

    book.wait(&"other", None, 2).unwrap();
    wait_dialling(&mut book, 3);
    assert_eq!(book.retain(|key| *key == KEY), [2]);
    assert_eq!(book.drain(), [3]);
    assert_eq!(book.wait(&KEY, None, 4), Err(WaitRefusal::Draining));
    assert_eq!(book.checkout(&KEY, None), None);
}

// hbone#72
#[test]
fn memory_is_given_back_as_keys_go() {
    let mut book: Book<u32, u32, u32> = Book::new(LIMITS);
    let dials: Vec<_> = (0..10_000).map(|key| book.wait(&key, None, 0).unwrap().1.unwrap()).collect();
    assert!(book.keys.capacity() >= 10_000);
    for (key, dial) in (0..).zip(dials) {
        book.handle_dial_failed(&key, dial);
    }
    assert!(book.keys.is_empty());
    assert!(book.keys.capacity() <= MIN_CAPACITY);
}

/// What can happen to a pool, as indices into what there is at the time.
#[derive(Clone, Debug)]
enum Event {
    Want { avoid: Option<usize> },
    GiveUp(usize),
    Dialed(usize),
    DialFailed(usize),
    Limit(usize, usize),
    Released(usize),
    Closed(usize),
    IdleCheck(usize),
    Evict,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = 0..8usize;
    let event = prop_oneof![
        8 => proptest::option::weighted(0.2, index.clone()).prop_map(|avoid| Event::Want { avoid }),
        2 => index.clone().prop_map(Event::GiveUp),
        5 => index.clone().prop_map(Event::Dialed),
        1 => index.clone().prop_map(Event::DialFailed),
        4 => (index.clone(), 0..6usize).prop_map(|(at, limit)| Event::Limit(at, limit)),
        5 => index.clone().prop_map(Event::Released),
        1 => index.clone().prop_map(Event::Closed),
        1 => index.prop_map(Event::IdleCheck),
        1 => Just(Event::Evict),
    ];
    proptest::collection::vec(event, 0..80)
}

/// What the outside of the book knows.
#[derive(Default)]
struct Model {
    dials: Vec<ConnectionId>,
    /// Connections with the last limit said and the tunnels on each.
    connections: Vec<(ConnectionId, usize, usize)>,
    waiting: Vec<(Ticket, u32)>,
}

impl Model {
    fn take(&mut self, connection: u64) {
        let (_, limit, active) = self
            .connections
            .iter_mut()
            .find(|(id, ..)| id.0 == connection)
            .expect("a connection in the book");
        *active += 1;
        assert!(active <= limit, "more tunnels than the peer takes");
    }

    fn carry_out(&mut self, outcome: Outcome<u64, u32>) {
        self.dials.extend(outcome.dials);
        for (waiter, connection) in outcome.grants {
            let at =
                self.waiting.iter().position(|(_, waiting)| *waiting == waiter).expect("someone who waits");
            self.waiting.remove(at);
            self.take(connection);
        }
    }

    fn fail(&mut self, waiters: &[u32]) {
        let before = self.waiting.len();
        self.waiting.retain(|(_, waiter)| !waiters.contains(waiter));
        assert_eq!(before - self.waiting.len(), waiters.len());
    }

    fn check(&self, book: &TestBook) {
        let Some(slots) = book.keys.get(KEY) else {
            assert!(self.dials.is_empty() && self.connections.is_empty() && self.waiting.is_empty());
            return;
        };
        assert!(!slots.is_unused(), "an unused key is kept");
        assert_eq!(slots.dials.len(), self.dials.len());
        assert_eq!(slots.waiters.len(), self.waiting.len());
        assert!(self.dials.len() + self.connections.len() <= LIMITS.connections);
        for (slot, (id, _, active)) in slots.connections.iter().zip(&self.connections) {
            assert_eq!((slot.id, slot.active), (*id, *active));
        }
        let served = slots.expected() >= slots.waiters.len();
        let full = self.dials.len() + self.connections.len() == LIMITS.connections;
        assert!(served || full, "someone waits for nothing");
        let free = slots.connections.iter().find(|slot| slot.active < slot.limit);
        let idle = |waiter: &Waiter<u32>| free.is_some_and(|slot| waiter.avoid != Some(slot.id));
        assert!(!slots.waiters.iter().any(idle), "someone waits beside a free place");
    }
}

fn nth<T: Clone>(list: &[T], index: usize) -> Option<T> {
    list.get(index % list.len().max(1)).cloned()
}

proptest! {
    #[test]
    fn book_and_model_agree(events in events()) {
        let (mut book, mut model) = (book(), Model::default());
        let now = Instant::now();
        let mut next_waiter = 0;
        for event in events {
            match event {
                Event::Want { avoid } => {
                    let avoid = avoid.and_then(|at| nth(&model.connections, at)).map(|(id, ..)| id);
                    if let Some(connection) = book.checkout(&KEY, avoid) {
                        prop_assert_ne!(Some(connection), avoid.map(|id| id.0));
                        model.take(connection);
                    } else if let Ok((ticket, dial)) = book.wait(&KEY, avoid, next_waiter) {
                        model.waiting.push((ticket, next_waiter));
                        model.dials.extend(dial);
                        next_waiter += 1;
                    } else {
                        prop_assert_eq!(model.waiting.len(), LIMITS.waiters);
                    }
                }
                Event::GiveUp(at) => {
                    if let Some((ticket, waiter)) = nth(&model.waiting, at) {
                        model.fail(&[waiter]);
                        book.cancel(&KEY, ticket);
                    }
                }
                Event::Dialed(at) => {
                    if let Some(id) = nth(&model.dials, at) {
                        model.dials.retain(|dial| *dial != id);
                        model.connections.push((id, 1, 0));
                        let outcome = book.handle_dialed(&KEY, id, id.0, now).unwrap();
                        model.carry_out(outcome);
                    }
                }
                Event::DialFailed(at) => {
                    if let Some(id) = nth(&model.dials, at) {
                        model.dials.retain(|dial| *dial != id);
                        let failed = book.handle_dial_failed(&KEY, id);
                        model.fail(&failed);
                    }
                }
                Event::Limit(at, limit) => {
                    if let Some((id, ..)) = nth(&model.connections, at) {
                        let slot = model.connections.iter_mut().find(|(slot, ..)| *slot == id).unwrap();
                        slot.1 = limit.clamp(1, LIMITS.tunnels);
                        let outcome = book.handle_limit(&KEY, id, limit);
                        model.carry_out(outcome);
                    }
                }
                Event::Released(at) => {
                    let used: Vec<_> = model.connections.iter().filter(|(_, _, active)| *active > 0).cloned().collect();
                    if let Some((id, ..)) = nth(&used, at) {
                        model.connections.iter_mut().find(|(slot, ..)| *slot == id).unwrap().2 -= 1;
                        let outcome = book.handle_released(&KEY, id, now);
                        model.carry_out(outcome);
                    }
                }
                Event::Closed(at) => {
                    if let Some((id, ..)) = nth(&model.connections, at) {
                        model.connections.retain(|(slot, ..)| *slot != id);
                        let outcome = book.handle_closed(&KEY, id);
                        model.carry_out(outcome);
                    }
                }
                Event::IdleCheck(at) => {
                    if let Some((id, _, active)) = nth(&model.connections, at) {
                        let idle = book.handle_idle_check(&KEY, id, TIMEOUT, now + TIMEOUT);
                        let expires = active == 0 && model.waiting.is_empty();
                        prop_assert_eq!(idle == Idle::Expired, expires);
                        if expires {
                            model.connections.retain(|(slot, ..)| *slot != id);
                        }
                    }
                }
                Event::Evict => {
                    let failed = book.evict(&KEY);
                    model.fail(&failed);
                    model.dials.clear();
                    model.connections.clear();
                }
            }
            model.check(&book);
        }
    }
}
