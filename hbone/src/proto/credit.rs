//! How much a connection's peer may send: what is lent for bytes nobody takes, and when windows grow.

/// Keeps the connection's window open while some of its tunnels are not being read.
///
/// In HTTP/2 an unread byte occupies the window of its stream and that of the connection. The second is lent again: the
/// connection's window is a base plus what is held, so that the other tunnels always share about the base.
#[derive(Debug)]
pub(crate) struct Lending {
    base: u32,
    lent: u32,
}

impl Lending {
    pub(crate) fn new(base: u32) -> Self {
        Self { base, lent: 0 }
    }

    /// The connection holds `held` bytes now. Yields the window to set, if it is to change.
    ///
    /// It follows in steps of an eighth of the base, since each is a lock and perhaps a frame.
    #[inline]
    pub(crate) fn update(&mut self, held: usize) -> Option<u32> {
        let held = u32::try_from(held).unwrap_or(u32::MAX).min(MAX_WINDOW - self.base);
        let step = (self.base / 8).max(1);
        if held.abs_diff(self.lent) < step {
            return None;
        }
        self.lent = held;
        Some(self.base + held)
    }
}

/// Decides once in the life of a connection to make the windows of its streams larger, as soon as one of them could
/// use it.
///
/// HTTP/2 has one size for all streams. It is never made smaller again: a peer with a byte in flight would find its
/// window negative, and not all peers take that well.
#[derive(Debug)]
pub(crate) struct Growth {
    target: u32,
    is_done: bool,
}

impl Growth {
    pub(crate) fn new(window: u32, target: u32) -> Self {
        Self { target, is_done: target <= window }
    }

    /// The size to announce for a connection with that many tunnels on which one is in bulk, if there is room for all
    /// of them to stall.
    pub(crate) fn next(&self, tunnels: usize, budget: usize) -> Option<u32> {
        let target = usize::try_from(self.target).unwrap_or(usize::MAX);
        (!self.is_done && tunnels.saturating_mul(target) <= budget).then_some(self.target)
    }

    /// It was announced.
    pub(crate) fn done(&mut self) {
        self.is_done = true;
    }
}

/// Window sizes are 31 bits (RFC 9113 §6.9.1).
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn window_follows_what_is_held_in_steps() {
        let mut lending = Lending::new(800);
        let table = [
            (99, None),
            (100, Some(900)),
            (199, None),
            (1_000, Some(1_800)),
            (901, None),
            (0, Some(800)),
            (usize::MAX, Some(MAX_WINDOW)),
        ];
        for (held, window) in table {
            assert_eq!(lending.update(held), window, "{held}");
        }
    }

    proptest! {
        #[test]
        fn target_leaves_others_seven_eighths_of_the_base(
            base in 65_535..64u32 << 20,
            steps in prop::collection::vec(0..1usize << 30, 1..50),
        ) {
            let mut lending = Lending::new(base);
            let mut window = base;
            for held in steps {
                window = lending.update(held).unwrap_or(window);
                let rest = window as usize - held.min(window as usize);
                prop_assert!(rest >= base as usize * 7 / 8 - 1);
                prop_assert!(rest <= base as usize * 9 / 8 + 1);
            }
        }
    }

    #[test]
    fn windows_grow_once_and_only_if_all_tunnels_may_stall() {
        let mut growth = Growth::new(1, 4);
        assert_eq!(growth.next(65, 256), None);
        assert_eq!(growth.next(64, 256), Some(4));
        growth.done();
        assert_eq!(growth.next(1, 256), None);
        assert_eq!(Growth::new(4, 4).next(0, 256), None);
    }
}
