use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Remembers which dials failed, and when each key may be dialled again.
///
/// The pause doubles with each failure in a row, from the first to the longest, each between half of that and all of it,
/// so that those who failed together do not come again together. A success forgets the failures; so does time, once the
/// longest pause has passed after the last one ended.
#[derive(Debug)]
pub(super) struct Backoff<K, F> {
    first: Duration,
    longest: Duration,
    failures: HashMap<K, Row<F>>,
    /// When the first of them can be forgotten, or earlier.
    next_expiry: Option<Instant>,
    random: Random,
}

/// A failed dial, remembered.
#[derive(Clone, Debug)]
pub(in crate::pool) struct Failure<F> {
    pub(in crate::pool) cause: F,
    pub(in crate::pool) at: Instant,
    /// When the next dial may start.
    pub(in crate::pool) retry_at: Instant,
}

/// Failures in a row.
#[derive(Debug)]
struct Row<F> {
    last: Failure<F>,
    count: u32,
}

impl<K, F> Backoff<K, F>
where
    K: Clone + Eq + Hash,
    F: Clone,
{
    pub(super) fn new((first, longest): (Duration, Duration), seed: u64) -> Self {
        Self {
            first,
            longest: longest.max(first),
            failures: HashMap::new(),
            next_expiry: None,
            random: Random(seed),
        }
    }

    /// The failure that keeps `key` from being dialled now.
    pub(super) fn failure(&self, key: &K, now: Instant) -> Option<&Failure<F>> {
        self.failures.get(key).map(|row| &row.last).filter(|failure| now < failure.retry_at)
    }

    /// A dial failed.
    pub(super) fn record(&mut self, key: &K, cause: F, now: Instant) {
        self.expire(now);
        if self.failures.len() >= MAX_FAILURES && !self.failures.contains_key(key) {
            self.make_room(now);
        }
        let count = self.failures.get(key).map_or(0, |row| row.count).saturating_add(1);
        let doubled = self.first.saturating_mul(1 << (count - 1).min(MAX_DOUBLINGS));
        let pause = self.random.between_half_and_all(doubled.min(self.longest));
        let last = Failure { cause, at: now, retry_at: now + pause };
        let forget_at = last.retry_at + self.longest;
        self.next_expiry = Some(self.next_expiry.map_or(forget_at, |next| next.min(forget_at)));
        self.failures.insert(key.clone(), Row { last, count });
    }

    /// A dial succeeded, or the key is not what it was.
    pub(super) fn forget(&mut self, key: &K) {
        if self.failures.remove(key).is_some() {
            super::shrink(&mut self.failures);
        }
    }

    /// Forgets the failures that are old enough: a look at each, but only once there is one.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.next_expiry.is_none_or(|next| now < next) {
            return;
        }
        let longest = self.longest;
        self.failures.retain(|_, row| now < row.last.retry_at + longest);
        super::shrink(&mut self.failures);
        self.next_expiry = self.failures.values().map(|row| row.last.retry_at + longest).min();
    }

    /// Forgets the failures of all keys that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.failures.retain(|key, _| keep(key));
        super::shrink(&mut self.failures);
    }

    pub(super) fn len(&self) -> usize {
        self.failures.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.failures.capacity()
    }

    /// A random duration of nine to eleven tenths of this one.
    pub(super) fn jittered(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(0.9 + 0.2 * self.random.fraction())
    }

    /// Forgets what is over, or if nothing is, what will be first.
    fn make_room(&mut self, now: Instant) {
        self.failures.retain(|_, row| now < row.last.retry_at);
        if self.failures.len() < MAX_FAILURES {
            return;
        }
        let first = self.failures.iter().min_by_key(|(_, row)| row.last.retry_at);
        if let Some(key) = first.map(|(key, _)| key.clone()) {
            self.failures.remove(&key);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to keep clients apart, and the same for the same seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        f64::from((self.next() >> 32) as u32) / f64::from(u32::MAX)
    }

    fn between_half_and_all(&mut self, duration: Duration) -> Duration {
        duration.mul_f64(0.5 + 0.5 * self.fraction())
    }
}

/// Keys whose failures are remembered. Beyond it the one that may be dialled first is forgotten, which costs a dial.
pub(super) const MAX_FAILURES: usize = 1024;
/// After this many the longest pause is reached with any sensible first one.
const MAX_DOUBLINGS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    fn backoff() -> Backoff<u32, u32> {
        Backoff::new((FIRST, LONGEST), 7)
    }

    fn pause(backoff: &mut Backoff<u32, u32>, now: Instant) -> Duration {
        backoff.record(&1, 0, now);
        backoff.failure(&1, now).unwrap().retry_at - now
    }

    #[test]
    fn pause_doubles_up_to_the_longest_and_varies() {
        let mut backoff = backoff();
        let now = Instant::now();
        for doublings in 0..40 {
            let all = FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST);
            let pause = pause(&mut backoff, now);
            assert!(pause >= all / 2 && pause <= all, "{pause:?} of {all:?}");
        }
        let longest: Vec<_> = (0..10).map(|_| pause(&mut backoff, now)).collect();
        assert!(longest.iter().any(|pause| *pause != longest[0]));
    }

    #[test]
    fn failure_holds_until_its_pause_is_over_and_counts_until_forgotten() {
        let mut backoff = backoff();
        let now = Instant::now();
        backoff.record(&1, 42, now);
        let failure = backoff.failure(&1, now).unwrap().clone();
        assert_eq!((failure.cause, failure.at), (42, now));
        assert!(backoff.failure(&1, failure.retry_at).is_none());
        assert!(backoff.failure(&2, now).is_none());
        backoff.record(&2, 43, now + FIRST);
        let forget_at = failure.retry_at + LONGEST;
        backoff.expire(forget_at - Duration::from_millis(1));
        assert_eq!(backoff.len(), 2);
        backoff.expire(forget_at);
        assert_eq!(backoff.len(), 1);
        backoff.expire(forget_at + 2 * FIRST);
        assert_eq!(backoff.len(), 0);
    }

    #[test]
    fn success_starts_from_the_first_pause_again() {
        let mut backoff = backoff();
        let now = Instant::now();
        for _ in 0..10 {
            pause(&mut backoff, now);
        }
        backoff.forget(&1);
        assert!(pause(&mut backoff, now) <= FIRST);
    }

    // hbone#72
    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut backoff = backoff();
        let now = Instant::now();
        for key in 0..10_000 {
            backoff.record(&key, 0, now);
            assert!(backoff.failure(&key, now).is_some(), "the latest is remembered");
        }
        assert_eq!(backoff.len(), MAX_FAILURES);
        backoff.record(&0, 0, now + LONGEST);
        assert_eq!(backoff.len(), 1, "what is over goes first");
        backoff.forget(&0);
        assert!(backoff.capacity() <= super::super::MIN_CAPACITY);
    }
}
