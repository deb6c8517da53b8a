use std::{cell::Cell, collections::hash_map::RandomState, hash::BuildHasher};

/// The next 64 bits of a keyed hash over a counter, both per thread, with a key that the standard library draws from
/// the system: no dependency, nothing shared, no system call.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    STATE.with(|(key, counter)| {
        counter.set(counter.get().wrapping_add(1));
        key.hash_one(counter.get())
    })
}
