//! What is known of one identity.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{super::moment::Moment, plan::Validity, queue::Turn};

/// One identity.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) phase: Phase,
    pub(super) tenure: Tenure,
    /// Of the certificate that is handed out; none once it has expired.
    pub(super) validity: Option<Validity>,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) last_error: Option<Arc<str>>,
    pub(super) last_call: Option<Instant>,
    pub(super) last_success: Option<SystemTime>,
    /// When it was last renewed early.
    pub(super) hurried: Option<Instant>,
    /// Its place among the timers.
    pub(super) timer: Option<Instant>,
}

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            tenure: Tenure::Permitted,
            validity: None,
            failures: 0,
            last_error: None,
            last_call: None,
            last_success: None,
            hurried: None,
            timer: None,
        }
    }

    /// Keeps nothing but when it was called for last.
    pub(super) fn forget(&mut self) {
        let Self { last_call, timer, .. } = *self;
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        *self = Self { phase, tenure: Tenure::Gone, last_call, timer, ..Self::new() };
    }

    /// Has no certificate any more if its time is over. Says whether that is news.
    pub(super) fn expire(&mut self, now: &Moment) -> bool {
        self.validity.take_if(|validity| validity.is_over(now.wall)).is_some()
    }

    pub(super) fn is_permitted(&self) -> bool {
        self.tenure == Tenure::Permitted
    }
}

/// What is being done about a certificate.
///
/// ```text
///               request, permit                next
///   (unknown) ───────────────────▶ Queued ───────────────▶ InFlight ◀─┐ permit
///                                  ▲ ▲  ▲                  │  │  │    │ (its result
///               Fresh: renewal due │ │  │ Backoff: pause   │  │  │    │  counts again)
///            ┌─────────────────────┘ │  │ over, or request │  │  └────┘
///            │                       │  └──── Backoff ◀────┘  │
///          Fresh ◀───────────────────┼─────────────── failed ─┘
///            │       issued          │
///            │ withdraw (also Queued, Backoff)
///            ▼                       │ permit
///           Idle ────────────────────┘
/// ```
#[derive(Debug)]
pub(super) enum Phase {
    /// After a failure, until the pause is over.
    Backoff {
        retry_at: Instant,
        /// Whether somebody waits for the next attempt.
        awaited: bool,
        /// Whether the authority was not reached at all.
        outage: bool,
    },
    /// There is a certificate, and time until its renewal.
    Fresh { renew_at: SystemTime },
    /// Nothing is planned: no longer permitted, or about to be queued.
    Idle,
    /// A call is under way.
    InFlight { ticket: u64 },
    /// Waits for a call.
    Queued { turn: Turn },
}

/// Whether we may have the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    Permitted,
    /// No longer, and kept for a while in case that changes.
    Leaving {
        until: Instant,
    },
    /// Forgotten; only the end of its call is waited for, or the time at which the next one might be made.
    Gone,
}
