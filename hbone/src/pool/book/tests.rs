use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use super::*;

/// A connection whose load a test sets.
#[derive(Clone, Debug)]
pub(super) struct TestConnection {
    pub(super) id: ConnectionId,
    load: Arc<AtomicU8>,
}

impl TestConnection {
    pub(super) fn new(id: ConnectionId) -> Self {
        Self { id, load: Arc::default() }
    }

    pub(super) fn set(&self, load: Load) {
        self.load.store(load as u8, Ordering::Relaxed);
    }
}

impl MeasureLoad for TestConnection {
    fn load(&self) -> Load {
        [Load::Free, Load::Busy, Load::Stalled][usize::from(self.load.load(Ordering::Relaxed))]
    }
}

pub(super) type TestBook = Book<&'static str, TestConnection, u32, &'static str>;
type TestOutcome = Outcome<&'static str, TestConnection, u32, &'static str>;

pub(super) const TIMEOUT: Duration = Duration::from_secs(300);
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
const KEY: &str = "key";

pub(super) const fn limits() -> Limits {
    Limits {
        tunnels: 3,
        connections: 2,
        relief: 2,
        total: 100,
        waiters: 20,
        sharing: Sharing::Fill,
        idle_timeout: TIMEOUT,
        max_age: None,
        backoff: BACKOFF,
    }
}

/// A book with a clock of its own, most of whose tests use one key.
struct Desk {
    book: TestBook,
    now: Instant,
    connections: Vec<TestConnection>,
}

impl Desk {
    fn new() -> Self {
        Self::with(limits())
    }

    fn with(limits: Limits) -> Self {
        Self { book: Book::new(limits, 7), now: Instant::now(), connections: Vec::new() }
    }

    fn wait(&mut self, waiter: u32) -> TestOutcome {
        self.book.wait(&KEY, None, waiter, self.now).1
    }

    /// Waits, and expects a dial.
    fn dial(&mut self, waiter: u32) -> ConnectionId {
        self.dial_for(KEY, waiter)
    }

    fn dial_for(&mut self, key: &'static str, waiter: u32) -> ConnectionId {
        let outcome = self.book.wait(&key, None, waiter, self.now).1;
        assert!(outcome.refusals.is_empty(), "{outcome:?}");
        assert_eq!(outcome.dials.len(), 1, "{outcome:?}");
        outcome.dials[0].1
    }

    fn dialed(&mut self, id: ConnectionId) -> Vec<(u32, ConnectionId)> {
        self.dialed_for(KEY, id)
    }

    fn dialed_for(&mut self, key: &'static str, id: ConnectionId) -> Vec<(u32, ConnectionId)> {
        let connection = TestConnection::new(id);
        self.connections.push(connection.clone());
        let (is_wanted, outcome) = self.book.handle_dialed(&key, id, connection, self.now);
        assert!(is_wanted);
        grants(&outcome)
    }

    fn limit(&mut self, id: ConnectionId, limit: usize) -> TestOutcome {
        self.book.handle_limit(&KEY, id, limit, self.now)
    }

    /// A connection with one tunnel, whose peer takes `limit`.
    fn open(&mut self, limit: usize) -> ConnectionId {
        self.open_for(KEY, limit)
    }

    fn open_for(&mut self, key: &'static str, limit: usize) -> ConnectionId {
        let id = self.dial_for(key, 0);
        assert_eq!(self.dialed_for(key, id), [(0, id)]);
        let _ = self.book.handle_limit(&key, id, limit, self.now);
        id
    }

    fn checkout(&mut self) -> Option<ConnectionId> {
        self.book.checkout(&KEY, None).map(|(connection, _)| connection.id)
    }

    fn release(&mut self, id: ConnectionId) -> TestOutcome {
        self.book.handle_released(&KEY, id, self.now)
    }

    fn fail(&mut self, id: ConnectionId) -> TestOutcome {
        self.book.handle_dial_failed(&KEY, id, "cause", self.now)
    }

    fn timer(&mut self, id: ConnectionId) -> NextCheck {
        self.book.handle_timer(&KEY, id, self.now).0
    }

    fn set(&self, id: ConnectionId, load: Load) {
        self.connections.iter().find(|connection| connection.id == id).unwrap().set(load);
    }
}

fn grants(outcome: &TestOutcome) -> Vec<(u32, ConnectionId)> {
    outcome.grants.iter().map(|(waiter, connection)| (*waiter, connection.id)).collect()
}

fn refused(outcome: &TestOutcome, expected: fn(&Refusal<&'static str>) -> bool) -> Vec<u32> {
    assert!(outcome.refusals.iter().all(|(_, refusal)| expected(refusal)), "{outcome:?}");
    outcome.refusals.iter().map(|(waiter, _)| *waiter).collect()
}

// hbone#67
#[test]
fn those_who_come_together_share_one_dial() {
    let mut desk = Desk::new();
    let id = desk.dial(1);
    assert!(desk.wait(2).dials.is_empty() && desk.wait(3).dials.is_empty());
    assert_eq!(desk.dialed(id), [(1, id)], "one until the limit is known");
    let outcome = desk.limit(id, 100);
    assert_eq!(grants(&outcome), [(2, id), (3, id)]);
    assert!(outcome.dials.is_empty());
    assert_eq!(desk.checkout(), None, "full");
}

#[test]
fn more_than_a_connection_takes_means_another_dial() {
    let mut desk = Desk::new();
    let first = desk.dial(1);
    assert!(desk.wait(2).dials.is_empty() && desk.wait(3).dials.is_empty());
    assert_ne!(desk.dial(4), first);
    for waiter in 5..=20 {
        let outcome = desk.wait(waiter);
        assert!(outcome.dials.is_empty() && outcome.refusals.is_empty(), "as many connections as allowed");
    }
    assert_eq!(refused(&desk.wait(21), |refusal| matches!(refusal, Refusal::Busy)), [21]);
}

// hbone#21
#[test]
fn limit_of_the_peer_counts_if_lower() {
    let mut desk = Desk::new();
    let id = desk.dial(1);
    let _ = (desk.wait(2), desk.wait(3));
    desk.dialed(id);
    let outcome = desk.limit(id, 2);
    assert_eq!(grants(&outcome), [(2, id)]);
    assert_eq!(outcome.dials.len(), 1, "for the third");
}

// hbone#22
#[test]
fn changed_limit_holds_at_once() {
    let mut desk = Desk::new();
    let id = desk.open(2);
    assert_eq!(desk.checkout(), Some(id));
    assert_eq!(desk.checkout(), None);
    let _ = desk.limit(id, 3);
    assert_eq!(desk.checkout(), Some(id));
    let _ = (desk.limit(id, 0), desk.release(id));
    assert_eq!(desk.checkout(), None, "two too many");
}

// hbone#69
#[test]
fn full_connection_is_used_again_when_a_tunnel_ends() {
    let mut desk = Desk::new();
    let id = desk.open(1);
    desk.dial(2);
    assert_eq!(grants(&desk.release(id)), [(2, id)]);
}

// hbone#70
#[test]
fn failure_is_told_to_all_who_waited_for_it() {
    let mut desk = Desk::new();
    let first = desk.dial(1);
    let _ = desk.wait(2);
    let is_dial = |refusal: &Refusal<_>| matches!(refusal, Refusal::Dial("cause"));
    assert_eq!(refused(&desk.fail(first), is_dial), [1, 2]);
    assert!(desk.book.keys.is_empty());

    desk.now += BACKOFF.1;
    let first = desk.dial(1);
    let _ = (desk.wait(2), desk.wait(3));
    let second = desk.dial(4);
    assert_eq!(refused(&desk.fail(first), is_dial), [1], "the others have the second dial");
    assert_eq!(refused(&desk.fail(second), is_dial), [2, 3, 4]);
}

#[test]
fn key_that_failed_is_left_alone_and_tells_why() {
    let mut desk = Desk::new();
    let first = desk.dial(1);
    let failed_at = desk.now;
    let _ = desk.fail(first);
    desk.now += Duration::from_millis(10);
    let outcome = desk.wait(2);
    let [(2, Refusal::Backoff(failure))] = &outcome.refusals[..] else { panic!("{outcome:?}") };
    assert_eq!((failure.cause, failure.at), ("cause", failed_at));
    let retry_at = failure.retry_at;
    assert!(retry_at >= failed_at + BACKOFF.0 / 2 && retry_at <= failed_at + BACKOFF.0);
    desk.dial_for("other", 3);

    desk.now = retry_at;
    let second = desk.dial(4);
    assert_eq!(desk.dialed(second), [(4, second)]);
    assert_eq!(desk.book.status().failing, 0, "a success forgets");
}

#[test]
fn failure_leaves_busy_connections_in_use() {
    let mut desk = Desk::new();
    let first = desk.open(3);
    desk.set(first, Load::Stalled);
    let second = desk.dial(2);
    assert_eq!(grants(&desk.fail(second)), [(2, first)], "better than none");
    assert_eq!(grants(&desk.wait(3)), [(3, first)], "no dial is due");
}

// hbone#75
#[test]
fn whoever_gives_up_disturbs_nobody() {
    let mut desk = Desk::new();
    let (ticket, outcome) = desk.book.wait(&KEY, None, 1, desk.now);
    let _ = desk.wait(2);
    assert_eq!(desk.book.cancel(&KEY, ticket, desk.now).unwrap().0, 1);
    let id = outcome.dials[0].1;
    assert_eq!(desk.dialed(id), [(2, id)]);

    let (ticket, outcome) = desk.book.wait(&"other", None, 3, desk.now);
    assert_eq!(desk.book.cancel(&"other", ticket, desk.now).unwrap().0, 3);
    let id = outcome.dials[0].1;
    assert!(desk.dialed_for("other", id).is_empty());
    let (connection, _) = desk.book.checkout(&"other", None).expect("there for the next");
    assert_eq!(connection.id, id);
}

// hbone#63
#[test]
fn avoided_connection_is_not_handed_out() {
    let mut desk = Desk::new();
    let first = desk.open(3);
    assert!(desk.book.checkout(&KEY, Some(first)).is_none());
    let outcome = desk.book.wait(&KEY, Some(first), 2, desk.now).1;
    let second = outcome.dials[0].1;
    assert_eq!(grants(&desk.wait(3)), [(3, first)]);
    assert_eq!(desk.dialed(second), [(2, second)]);
}

#[test]
fn avoided_connection_is_not_counted_on() {
    let mut desk = Desk::new();
    let first = desk.open(1);
    let second = desk.dial(2);
    desk.dialed(second);
    let _ = (desk.book.handle_closed(&KEY, first, desk.now), desk.release(second));
    // Free, but not for this one, who needs another even if nobody else takes it.
    assert_eq!(desk.book.wait(&KEY, Some(second), 3, desk.now).1.dials.len(), 1);
}

#[test]
fn whoever_avoids_the_only_connection_allowed_is_refused() {
    let mut desk = Desk::with(Limits { connections: 1, ..limits() });
    let first = desk.open(3);
    let outcome = desk.book.wait(&KEY, Some(first), 2, desk.now).1;
    assert_eq!(refused(&outcome, |refusal| matches!(refusal, Refusal::Exhausted)), [2]);
}

// hbone#73
#[test]
fn closed_connection_is_replaced_for_those_who_wait() {
    let mut desk = Desk::new();
    let first = desk.open(1);
    let second = desk.dial(2);
    desk.dialed(second);
    let _ = desk.limit(second, 1);
    assert!(desk.wait(3).dials.is_empty(), "no further connection allowed");
    assert_eq!(desk.book.handle_closed(&KEY, first, desk.now).dials.len(), 1);
    assert!(desk.release(first).grants.is_empty(), "no longer in the book");
}

// hbone#71
#[test]
fn idle_connection_goes_after_its_last_tunnel() {
    let mut desk = Desk::new();
    let id = desk.open(1);
    desk.now += TIMEOUT;
    assert_eq!(desk.timer(id), NextCheck::At(desk.now + TIMEOUT), "in use");
    desk.now += TIMEOUT / 2;
    let ended = desk.now;
    let _ = desk.release(id);
    desk.now += TIMEOUT / 2;
    assert_eq!(desk.timer(id), NextCheck::At(ended + TIMEOUT));
    desk.now = ended + TIMEOUT;
    assert_eq!(desk.timer(id), NextCheck::Never);
    assert!(desk.book.keys.is_empty());
    assert_eq!(desk.timer(id), NextCheck::Never);
}

#[test]
fn idle_connection_stays_while_someone_waits() {
    let mut desk = Desk::new();
    let id = desk.open(1);
    let _ = desk.release(id);
    let _ = desk.book.wait(&KEY, Some(id), 2, desk.now);
    desk.now += TIMEOUT;
    assert_eq!(desk.timer(id), NextCheck::At(desk.now + TIMEOUT));
}

// hbone#74
#[test]
fn old_connection_takes_no_more_tunnels() {
    let age = Duration::from_secs(1000);
    let mut ends = Vec::new();
    for seed in 0..20 {
        let mut desk = Desk::with(Limits { max_age: Some(age), ..limits() });
        desk.book = Book::new(desk.book.limits, seed);
        let id = desk.open(3);
        let start = desk.now;
        let end = loop {
            match desk.timer(id) {
                NextCheck::At(next) => desk.now = next,
                NextCheck::Never => break desk.now,
            }
        };
        assert!(end >= start + age * 9 / 10 && end <= start + age * 11 / 10);
        ends.push(end - start);
        assert_eq!(desk.checkout(), None);
        assert_eq!(desk.book.status().leaving, 1, "its tunnel lives on");
        let _ = desk.release(id);
        assert_eq!(desk.book.status(), PoolStatus::default());
    }
    ends.dedup();
    assert!(ends.len() > 1, "not all at once");
}

// hbone#74
#[test]
fn retired_connections_and_dials_are_replaced_for_those_who_wait() {
    let mut desk = Desk::new();
    let first = desk.open(1);
    let second = desk.dial(2);
    desk.open_for("other", 3);
    let outcome = desk.book.retire(|key| *key == KEY, desk.now);
    let [(KEY, third)] = outcome.dials[..] else { panic!("{outcome:?}") };
    assert_eq!(desk.book.status().leaving, 2);
    assert!(!desk.book.handle_dialed(&KEY, second, TestConnection::new(second), desk.now).0);
    assert!(desk.release(first).grants.is_empty());
    assert_eq!(desk.dialed(third), [(2, third)]);
    assert!(desk.book.checkout(&"other", None).is_some());
}

#[test]
fn evicted_connections_dials_and_failures_are_forgotten() {
    let mut desk = Desk::new();
    let id = desk.dial(1);
    let is_evicted = |refusal: &Refusal<_>| matches!(refusal, Refusal::Evicted);
    assert_eq!(refused(&desk.book.evict(&KEY, desk.now), is_evicted), [1]);
    assert!(!desk.book.handle_dialed(&KEY, id, TestConnection::new(id), desk.now).0);
    assert!(desk.book.evict(&KEY, desk.now).refusals.is_empty());
    assert_eq!(desk.book.status(), PoolStatus::default());

    let id = desk.dial(2);
    let _ = desk.fail(id);
    let _ = desk.book.evict(&KEY, desk.now);
    let id = desk.dial(3);
    let _ = desk.fail(id);
    let _ = desk.book.retain(|_| false, desk.now);
    desk.dial(4);
}

#[test]
fn drained_book_refuses_everybody() {
    let mut desk = Desk::new();
    let id = desk.open(1);
    desk.dial(2);
    let is_draining = |refusal: &Refusal<_>| matches!(refusal, Refusal::Draining);
    assert_eq!(refused(&desk.book.drain(desk.now), is_draining), [2]);
    assert_eq!(refused(&desk.wait(3), is_draining), [3]);
    assert_eq!(desk.checkout(), None);
    assert_eq!(desk.book.status().leaving, 2);
    let _ = desk.release(id);
    assert_eq!(desk.book.status().leaving, 1);
}

#[test]
fn busy_connection_gets_a_sibling_without_anybody_waiting() {
    let mut desk = Desk::with(Limits { tunnels: 10, connections: 10, ..limits() });
    let first = desk.open(10);
    assert!(!desk.book.checkout(&KEY, None).unwrap().1);
    desk.set(first, Load::Busy);
    assert!(desk.book.checkout(&KEY, None).unwrap().1, "served all the same");
    let second = desk.book.plan_relief(&KEY, desk.now).unwrap();
    assert_eq!(desk.book.plan_relief(&KEY, desk.now), None, "one is under way");
    assert!(desk.dialed(second).is_empty());
    let _ = desk.limit(second, 10);
    assert_eq!(desk.checkout(), Some(second));
    desk.set(second, Load::Busy);
    assert_eq!(desk.checkout(), Some(first), "the older among equals");
    assert_eq!(desk.book.plan_relief(&KEY, desk.now), None, "as many as allowed");
}

#[test]
fn stalled_connection_is_waited_away_from() {
    let mut desk = Desk::with(Limits { tunnels: 10, ..limits() });
    let first = desk.open(10);
    desk.set(first, Load::Stalled);
    assert_eq!(desk.checkout(), None);
    let second = desk.dial(2);
    desk.set(first, Load::Free);
    assert_eq!(grants(&desk.book.handle_relief(&KEY, desk.now)), [(2, first)], "it moves again");
    desk.dialed(second);
    let _ = desk.limit(second, 10);
    desk.set(first, Load::Stalled);
    assert_eq!(desk.checkout(), Some(second));
    desk.set(second, Load::Stalled);
    assert_eq!(grants(&desk.wait(3)), [(3, first)], "no further connection allowed");
}

#[test]
fn total_is_kept_by_closing_what_has_been_idle_for_longest() {
    let mut desk = Desk::with(Limits { total: 2, ..limits() });
    let first = desk.open_for("first", 1);
    let second = desk.open_for("second", 1);
    for (key, id) in [("first", first), ("second", second)] {
        desk.now += Duration::from_secs(1);
        let _ = desk.book.handle_released(&key, id, desk.now);
    }
    let outcome = desk.book.wait(&KEY, None, 1, desk.now).1;
    assert_eq!(outcome.dials.len(), 1);
    assert_eq!(outcome.dropped[0].id, first);
    assert!(desk.book.checkout(&"first", None).is_none());
    assert!(desk.book.checkout(&"second", None).is_some());

    let outcome = desk.book.wait(&"third", None, 2, desk.now).1;
    assert_eq!(refused(&outcome, |refusal| matches!(refusal, Refusal::Exhausted)), [2], "none is idle");
    assert!(!desk.book.keys.contains_key("third"));
    let outcome = desk.book.wait(&"second", None, 3, desk.now).1;
    assert!(outcome.refusals.is_empty() && outcome.dials.is_empty(), "there is a tunnel to wait for");
}

#[test]
fn room_goes_to_those_who_wait_for_it() {
    let mut desk = Desk::with(Limits { total: 2, ..limits() });
    let other = desk.open_for("other", 1);
    let id = desk.open(1);
    assert!(desk.wait(2).dials.is_empty(), "no room, but a tunnel to wait for");
    let outcome = desk.book.handle_released(&"other", other, desk.now);
    let [(KEY, second)] = outcome.dials[..] else { panic!("{outcome:?}") };
    assert_eq!(outcome.dropped[0].id, other);
    assert_eq!(desk.dialed(second), [(2, second)]);

    let _ = desk.limit(second, 1);
    assert!(desk.book.wait(&KEY, None, 3, desk.now).1.dials.is_empty());
    let _ = desk.book.evict(&KEY, desk.now);
    assert!(desk.book.starved.is_empty());
    let _ = (desk.release(id), desk.release(second));
    assert_eq!(desk.book.status(), PoolStatus::default());
}

#[test]
fn leaving_connections_count_until_their_last_tunnel_ends() {
    let mut desk = Desk::with(Limits { total: 1, ..limits() });
    let id = desk.open(2);
    assert_eq!(desk.checkout(), Some(id));
    let _ = desk.book.evict(&KEY, desk.now);
    for tunnels in (0..2).rev() {
        let outcome = desk.book.wait(&"other", None, 1, desk.now).1;
        assert_eq!(refused(&outcome, |refusal| matches!(refusal, Refusal::Exhausted)), [1]);
        let _ = desk.release(id);
        assert_eq!(desk.book.status().leaving, usize::from(tunnels > 0));
    }
    desk.dial_for("other", 2);
}

// hbone#80
#[test]
fn spreading_gives_each_its_own_connection_and_then_takes_turns() {
    let mut desk = Desk::with(Limits { sharing: Sharing::Spread, tunnels: 10, ..limits() });
    let (first, second) = (desk.dial(1), desk.dial(2));
    assert!(desk.wait(3).dials.is_empty(), "as many as allowed");
    assert_eq!(desk.dialed(first), [(1, first)]);
    assert_eq!(desk.dialed(second), [(2, second)]);
    assert_eq!(grants(&desk.limit(first, 10)), [(3, first)]);
    let _ = desk.limit(second, 10);
    assert_eq!(desk.checkout(), Some(second), "the fewest tunnels");
    for _ in 0..2 {
        let _ = (desk.release(first), desk.release(second));
    }
    let turns: Vec<_> = (0..4)
        .map(|_| {
            let id = desk.checkout().unwrap();
            let _ = desk.release(id);
            id
        })
        .collect();
    assert_eq!(turns, [first, second, first, second]);
}

// hbone#80
#[test]
fn spreading_falls_back_on_what_is_there() {
    let mut desk = Desk::with(Limits { sharing: Sharing::Spread, tunnels: 10, ..limits() });
    let first = desk.open(10);
    let second = desk.dial(2);
    assert_eq!(grants(&desk.fail(second)), [(2, first)]);
    assert_eq!(grants(&desk.wait(3)), [(3, first)]);
}

// hbone#72
#[test]
fn memory_is_given_back_as_keys_go() {
    let mut book: Book<u32, TestConnection, u32, ()> = Book::new(Limits { total: 20_000, ..limits() }, 7);
    let mut now = Instant::now();
    for failing in [true, false] {
        let dials: Vec<_> = (0..10_000).map(|key| book.wait(&key, None, 0, now).1.dials[0].1).collect();
        assert!(book.keys.capacity() >= 10_000);
        for (key, dial) in (0..).zip(dials) {
            if failing {
                let _ = book.handle_dial_failed(&key, dial, (), now);
            } else {
                let _ = book.handle_dialed(&key, dial, TestConnection::new(dial), now);
                let _ = book.handle_released(&key, dial, now);
                assert_eq!(book.handle_timer(&key, dial, now + TIMEOUT).0, NextCheck::Never);
            }
        }
        now += BACKOFF.1 * 2;
        book.forget_failures(now);
        assert_eq!(book.status(), PoolStatus::default());
        let capacity = [book.keys.capacity(), book.leaving.capacity(), book.backoff.capacity()];
        assert!(capacity.iter().all(|capacity| *capacity <= MIN_CAPACITY), "{capacity:?}");
    }
}
