//! Numbers for operators.

use std::{collections::BTreeMap, time::SystemTime};

use crate::{IssueFault, TrustDomain};

/// What a rotation did so far and how it stands, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RotationMetrics {
    /// Identities we may have.
    pub identities: usize,
    /// Of those, how many have a certificate.
    pub available: usize,
    /// When the first of the certificates ends.
    pub first_expiry: Option<SystemTime>,
    /// When the first root of each trust domain ends.
    pub root_expiry: BTreeMap<TrustDomain, SystemTime>,
    /// When the authority last issued a certificate.
    pub last_success: Option<SystemTime>,
    /// Certificates issued.
    pub issued: u64,
    /// Attempts that failed.
    pub failed: FailureCounts,
    /// Calls under way.
    pub calls_in_flight: usize,
    /// Calls waiting for one of those to end.
    pub queued: QueueLengths,
    /// Whether the authority counts as down.
    pub outage: bool,
}

/// Failed attempts by what failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureCounts {
    /// The answer was unusable.
    pub answer: u64,
    /// There was no answer in time.
    pub deadline: u64,
    /// The request could not be made.
    pub local: u64,
    /// The authority refused.
    pub refused: u64,
    /// The authority was not reached.
    pub unreachable: u64,
}

impl FailureCounts {
    pub(super) fn count(&mut self, fault: IssueFault) {
        *match fault {
            IssueFault::Answer => &mut self.answer,
            IssueFault::Deadline => &mut self.deadline,
            IssueFault::Local => &mut self.local,
            IssueFault::Refused => &mut self.refused,
            IssueFault::Unreachable => &mut self.unreachable,
        } += 1;
    }
}

/// Waiting calls by why they are to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLengths {
    /// Somebody waits for the identity.
    pub on_demand: usize,
    /// It was permitted lately.
    pub prefetch: usize,
    /// Its certificate comes of age, or an attempt failed.
    pub renewal: usize,
}
