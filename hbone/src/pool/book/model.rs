//! The book against what can be seen of it from outside.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::{
    tests::{BACKOFF, TIMEOUT, TestBook, TestConnection, limits},
    *,
};

const KEYS: [&str; 3] = ["a", "b", "c"];
const MAX_AGE: Duration = Duration::from_secs(1000);
const LIMITS: Limits = Limits { total: 4, max_age: Some(MAX_AGE), waiters: 6, ..limits() };

type Key = &'static str;
type TestOutcome = Outcome<Key, TestConnection, u32, &'static str>;

/// What can happen to a pool, as indices into what there is at the time.
#[derive(Clone, Debug)]
enum Event {
    Want { key: usize, avoid: Option<usize> },
    GiveUp(usize),
    Dialed(usize),
    DialFailed(usize),
    Limit(usize, usize),
    Load(usize, Load),
    Released(usize),
    Unusable(usize),
    Closed(usize),
    Timer(usize),
    Retire(usize),
    Evict(usize),
    Drain,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let index = 0..8usize;
    let load = prop_oneof![Just(Load::Free), Just(Load::Busy), Just(Load::Stalled)];
    let event = prop_oneof![
        200 => (index.clone(), proptest::option::weighted(0.2, index.clone()))
            .prop_map(|(key, avoid)| Event::Want { key, avoid }),
        40 => index.clone().prop_map(Event::GiveUp),
        120 => index.clone().prop_map(Event::Dialed),
        30 => index.clone().prop_map(Event::DialFailed),
        80 => (index.clone(), 0..6usize).prop_map(|(at, limit)| Event::Limit(at, limit)),
        60 => (index.clone(), load).prop_map(|(at, load)| Event::Load(at, load)),
        120 => index.clone().prop_map(Event::Released),
        20 => index.clone().prop_map(Event::Unusable),
        20 => index.clone().prop_map(Event::Closed),
        60 => index.clone().prop_map(Event::Timer),
        10 => index.clone().prop_map(Event::Retire),
        10 => index.prop_map(Event::Evict),
        1 => Just(Event::Drain),
        60 => prop_oneof![0..200u64, 0..10_000u64, 200_000..600_000u64].prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 0..120)
}

#[derive(Clone, Debug)]
struct Connection {
    key: Key,
    handle: TestConnection,
    limit: usize,
    active: usize,
    born: Instant,
    /// Whether it may get tunnels.
    open: bool,
}

/// What the outside of the book knows.
struct Model {
    limits: Limits,
    now: Instant,
    /// Dials, and whether anybody may still want them.
    dials: Vec<(Key, ConnectionId, bool)>,
    connections: Vec<Connection>,
    waiting: Vec<(Key, Ticket, u32, Option<ConnectionId>)>,
    /// Until when no dial may start, at the earliest and at the latest.
    pauses: HashMap<Key, (Instant, Instant)>,
    draining: bool,
}

impl Model {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            now: Instant::now(),
            dials: Vec::new(),
            connections: Vec::new(),
            waiting: Vec::new(),
            pauses: HashMap::new(),
            draining: false,
        }
    }

    fn place(&self, key: Key, avoid: Option<ConnectionId>) -> Option<Load> {
        let has_place = |connection: &&Connection| {
            connection.open
                && connection.key == key
                && connection.active < connection.limit
                && Some(connection.handle.id) != avoid
        };
        self.connections.iter().filter(has_place).map(|connection| connection.handle.load()).min()
    }

    fn take(&mut self, key: Key, id: ConnectionId, avoid: Option<ConnectionId>) {
        assert_ne!(Some(id), avoid, "an avoided connection");
        if self.limits.sharing == Sharing::Fill {
            let best = self.place(key, avoid).expect("a place");
            let given = self.connections.iter().find(|connection| connection.handle.id == id).unwrap();
            assert_eq!(given.handle.load(), best, "a worse connection than there is");
            let dialling = self.dials.iter().any(|(dial, _, wanted)| *dial == key && *wanted);
            assert!(best < Load::Stalled || !dialling, "a stalled connection although a dial is under way");
        }
        let connection = self.connections.iter_mut().find(|connection| connection.handle.id == id).unwrap();
        assert!(connection.open && connection.key == key, "a connection that takes no tunnels");
        connection.active += 1;
        assert!(connection.active <= connection.limit, "more tunnels than the peer takes");
    }

    fn plan(&mut self, key: Key, id: ConnectionId) {
        assert!(!self.draining, "a dial during a drain");
        let paused = self.pauses.get(key).is_some_and(|(earliest, _)| self.now < *earliest);
        assert!(!paused, "a dial during a pause");
        self.dials.push((key, id, true));
    }

    /// `leaves` names the connection that the event was about, if it was to go.
    fn carry_out(&mut self, leaves: Option<ConnectionId>, outcome: TestOutcome) {
        for connection in &outcome.dropped {
            let dropped = self.connections.iter_mut().find(|other| other.handle.id == connection.id);
            let Some(dropped) = dropped else { continue };
            let may_go = dropped.active == 0 || !dropped.open || leaves == Some(connection.id);
            assert!(may_go, "let go of a connection in use");
            dropped.open = false;
        }
        for (waiter, connection) in outcome.grants {
            let at = self.waiting.iter().position(|(.., waiting, _)| *waiting == waiter).expect("a waiter");
            let (key, _, _, avoid) = self.waiting.remove(at);
            self.take(key, connection.id, avoid);
        }
        for (key, id) in outcome.dials {
            self.plan(key, id);
        }
        for (waiter, refusal) in outcome.refusals {
            let at = self.waiting.iter().position(|(.., waiting, _)| *waiting == waiter).expect("a waiter");
            let (key, _, _, avoid) = self.waiting.remove(at);
            match refusal {
                Refusal::Backoff(failure) => {
                    assert!(failure.retry_at > self.now && failure.at <= self.now);
                    assert_eq!(self.place(key, avoid), None, "refused beside a place");
                }
                Refusal::Dial(_) => assert_eq!(self.place(key, avoid), None, "refused beside a place"),
                Refusal::Busy => panic!("only those who have just come"),
                Refusal::Draining => assert!(self.draining),
                Refusal::Evicted => {}
                Refusal::Exhausted => {
                    assert!(self.total() >= self.limits.total || self.count(key) >= self.limits.connections);
                    assert_eq!(self.place(key, avoid), None, "refused beside a place");
                }
            }
        }
    }

    fn let_go(&mut self, key: Key) {
        for connection in self.connections.iter_mut().filter(|connection| connection.key == key) {
            connection.open = false;
        }
        for dial in self.dials.iter_mut().filter(|dial| dial.0 == key) {
            dial.2 = false;
        }
        self.pauses.remove(key);
    }

    /// Connections and dials of a key that take tunnels or will.
    fn count(&self, key: Key) -> usize {
        self.dials.iter().filter(|(dial, _, wanted)| *dial == key && *wanted).count()
            + self.connections.iter().filter(|connection| connection.open && connection.key == key).count()
    }

    fn total(&self) -> usize {
        self.dials.len()
            + self.connections.iter().filter(|connection| connection.open || connection.active > 0).count()
    }

    fn check(&self, book: &TestBook) {
        let status = book.status();
        let open = || self.connections.iter().filter(|connection| connection.open);
        let wanted = self.dials.iter().filter(|(.., wanted)| *wanted).count();
        assert_eq!(status.connections, open().count());
        assert_eq!(status.idle, open().filter(|connection| connection.active == 0).count());
        assert_eq!(status.dialling, wanted);
        assert_eq!(status.connections + status.dialling + status.leaving, self.total());
        assert_eq!(status.waiting, self.waiting.len());
        assert!(self.total() <= self.limits.total, "more connections than allowed");
        for key in KEYS {
            let waiting: Vec<_> = self.waiting.iter().filter(|(waiting, ..)| *waiting == key).collect();
            assert!(self.count(key) <= self.limits.connections);
            assert!(waiting.len() <= self.limits.waiters);
            assert_eq!(
                book.keys.contains_key(key),
                self.count(key) > 0 || !waiting.is_empty(),
                "unused keys go"
            );
            for (.., avoid) in &waiting {
                let place = self.place(key, *avoid);
                let spreads = self.limits.sharing == Sharing::Spread;
                assert!(place.is_none_or(|load| load == Load::Stalled || spreads), "waits beside a place");
            }
            let Some(slots) = book.keys.get(key) else { continue };
            assert_eq!(slots.hopeless(), None, "waits for nothing");
            if slots.unserved(&self.limits).is_some() {
                let paused = book.backoff.failure(&key, self.now).is_some();
                assert!(!paused, "waits during a pause");
                let may_go = |connection: &Connection| {
                    connection.active == 0 && self.waiting.iter().all(|(key, ..)| *key != connection.key)
                };
                let no_room = self.total() == self.limits.total && !open().any(may_go);
                assert!(self.count(key) == self.limits.connections || no_room, "waits for nothing");
            }
        }
    }
}

fn nth<T: Clone>(list: &[T], index: usize) -> Option<T> {
    list.get(index % list.len().max(1)).cloned()
}

fn run(limits: Limits, events: Vec<Event>) {
    let (mut book, mut model) = (TestBook::new(limits, 7), Model::new(limits));
    let mut next_waiter = 0;
    for event in events {
        let now = model.now;
        match event {
            Event::Want { key, avoid } => {
                let key = KEYS[key % KEYS.len()];
                let avoid = avoid.and_then(|at| nth(&model.connections, at)).map(|other| other.handle.id);
                if let Some((connection, is_busy)) = book.checkout(&key, avoid) {
                    model.take(key, connection.id, avoid);
                    assert_eq!(is_busy, connection.load() > Load::Free);
                    if let Some(id) = is_busy.then(|| book.plan_relief(&key, now)).flatten() {
                        model.plan(key, id);
                    }
                } else {
                    let waiting = model.waiting.iter().filter(|(waiting, ..)| *waiting == key).count();
                    let (ticket, outcome) = book.wait(&key, avoid, next_waiter, now);
                    if let [(_, Refusal::Busy)] = outcome.refusals[..] {
                        assert_eq!(waiting, limits.waiters);
                    } else {
                        model.waiting.push((key, ticket, next_waiter, avoid));
                        model.carry_out(None, outcome);
                    }
                    next_waiter += 1;
                }
            }
            Event::GiveUp(at) => {
                if let Some((key, ticket, ..)) = nth(&model.waiting, at) {
                    model.waiting.retain(|(_, waiting, ..)| *waiting != ticket);
                    let (_, outcome) = book.cancel(&key, ticket, now).expect("someone who waits");
                    model.carry_out(None, outcome);
                }
            }
            Event::Dialed(at) => {
                let Some((key, id, wanted)) = nth(&model.dials, at) else { continue };
                model.dials.retain(|(_, dial, _)| *dial != id);
                let handle = TestConnection::new(id);
                let (is_wanted, outcome) = book.handle_dialed(&key, id, handle.clone(), now);
                assert_eq!(is_wanted, wanted);
                if wanted {
                    model.pauses.remove(key);
                    let connection = Connection { key, handle, limit: 1, active: 0, born: now, open: true };
                    model.connections.push(connection);
                }
                model.carry_out(None, outcome);
            }
            Event::DialFailed(at) => {
                let Some((key, id, wanted)) = nth(&model.dials, at) else { continue };
                model.dials.retain(|(_, dial, _)| *dial != id);
                let outcome = book.handle_dial_failed(&key, id, "cause", now);
                if wanted {
                    let retry_at = book.backoff.failure(&key, now).unwrap().retry_at;
                    assert!(retry_at <= now + BACKOFF.1);
                    model.pauses.insert(key, (retry_at, retry_at + BACKOFF.1));
                }
                model.carry_out(None, outcome);
            }
            Event::Limit(at, limit) => {
                let Some(connection) = nth(&model.connections, at) else { continue };
                let id = connection.handle.id;
                let known = model.connections.iter_mut().find(|other| other.handle.id == id).unwrap();
                known.limit = limit.clamp(1, limits.tunnels);
                let outcome = book.handle_limit(&connection.key, id, limit, now);
                model.carry_out(None, outcome);
            }
            Event::Load(at, load) => {
                let Some(connection) = nth(&model.connections, at) else { continue };
                connection.handle.set(load);
                let outcome = book.handle_relief(&connection.key, now);
                model.carry_out(None, outcome);
            }
            Event::Released(at) => {
                let used: Vec<_> =
                    model.connections.iter().filter(|other| other.active > 0).cloned().collect();
                let Some(connection) = nth(&used, at) else { continue };
                let id = connection.handle.id;
                model.connections.iter_mut().find(|other| other.handle.id == id).unwrap().active -= 1;
                let outcome = book.handle_released(&connection.key, id, now);
                model.carry_out(None, outcome);
            }
            Event::Unusable(at) => {
                let Some(connection) = nth(&model.connections, at) else { continue };
                let id = connection.handle.id;
                let outcome = book.handle_unusable(&connection.key, id, now);
                model.carry_out(Some(id), outcome);
            }
            Event::Closed(at) => {
                let Some(connection) = nth(&model.connections, at) else { continue };
                let id = connection.handle.id;
                model.connections.retain(|other| other.handle.id != id);
                let outcome = book.handle_closed(&connection.key, id, now);
                model.carry_out(Some(id), outcome);
            }
            Event::Timer(at) => {
                let Some(connection) = nth(&model.connections, at) else { continue };
                let (next, outcome) = book.handle_timer(&connection.key, connection.handle.id, now);
                let lived = now - connection.born;
                if let NextCheck::At(next) = next {
                    assert!(next > now && lived < MAX_AGE * 11 / 10, "too old, or asked again at once");
                } else if connection.open {
                    let waits = model.waiting.iter().any(|(key, ..)| *key == connection.key);
                    let idle = connection.active == 0 && lived >= TIMEOUT && !waits;
                    assert!(idle || lived >= MAX_AGE * 9 / 10, "in use, and young");
                }
                model.carry_out(Some(connection.handle.id), outcome);
            }
            Event::Retire(at) => {
                let key = KEYS[at % KEYS.len()];
                let outcome = book.retire(|other| *other == key, now);
                model.let_go(key);
                model.carry_out(None, outcome);
            }
            Event::Evict(at) => {
                let key = KEYS[at % KEYS.len()];
                let outcome = book.evict(&key, now);
                model.let_go(key);
                model.carry_out(None, outcome);
                assert!(!book.keys.contains_key(key));
            }
            Event::Drain => {
                let outcome = book.drain(now);
                model.draining = true;
                for key in KEYS {
                    model.let_go(key);
                }
                model.carry_out(None, outcome);
                assert!(book.keys.is_empty() && model.waiting.is_empty());
            }
            Event::Pass(milliseconds) => {
                model.now += Duration::from_millis(milliseconds);
                let now = model.now;
                book.forget_failures(now);
                model.pauses.retain(|_, (_, forget_at)| now < *forget_at);
                assert_eq!(book.status().failing, model.pauses.len());
            }
        }
        model.check(&book);
    }
}

proptest! {
    #[test]
    fn book_and_model_agree_when_filling(events in events()) {
        run(LIMITS, events);
    }

    #[test]
    fn book_and_model_agree_when_spreading(events in events()) {
        run(Limits { sharing: Sharing::Spread, ..LIMITS }, events);
    }
}
