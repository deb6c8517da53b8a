//! Every event in every state.

use super::*;

#[derive(Clone, Copy, Debug)]
enum State {
    Unknown,
    Queued,
    InFlight,
    Fresh,
    Backoff,
    /// Withdrawn while it was queued.
    Leaving,
    /// Forgotten while its call was under way.
    Gone,
}

#[derive(Clone, Copy, Debug)]
enum Occurrence {
    Permit,
    Request,
    Withdraw,
    Issued,
    Failed,
    /// Of a call that is not the present one.
    StaleAnswer,
}

const STATES: [State; 7] = [
    State::Unknown,
    State::Queued,
    State::InFlight,
    State::Fresh,
    State::Backoff,
    State::Leaving,
    State::Gone,
];

/// What each becomes, in the order of [`STATES`].
const TABLE: [(Occurrence, [&str; 7]); 6] = [
    (Occurrence::Permit, ["queued", "queued", "in flight", "fresh", "backoff", "queued", "in flight"]),
    (Occurrence::Request, ["unknown", "queued", "in flight", "fresh", "backoff", "leaving", "gone"]),
    (Occurrence::Withdraw, ["unknown", "leaving", "leaving", "leaving", "leaving", "leaving", "gone"]),
    (Occurrence::Issued, ["unknown", "queued", "fresh", "fresh", "backoff", "leaving", "gone"]),
    (Occurrence::Failed, ["unknown", "queued", "backoff", "fresh", "backoff", "leaving", "gone"]),
    (Occurrence::StaleAnswer, ["unknown", "queued", "in flight", "fresh", "backoff", "leaving", "gone"]),
];

struct Machine {
    rotation: Rotation,
    now: Moment,
    ticket: u64,
}

impl Machine {
    fn new(state: State) -> Self {
        let grace = if matches!(state, State::Gone) { Duration::ZERO } else { Duration::from_secs(30) };
        let rotation = Rotation::new(half_life().grace(grace), fastrand::Rng::with_seed(7));
        let now = Moment { instant: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
        let mut machine = Self { rotation, now, ticket: 0 };
        let path: &[Occurrence] = match state {
            State::Unknown => &[],
            State::Queued | State::InFlight => &[Occurrence::Permit],
            State::Fresh => &[Occurrence::Permit, Occurrence::Issued],
            State::Backoff => &[Occurrence::Permit, Occurrence::Failed],
            State::Leaving | State::Gone => &[Occurrence::Permit, Occurrence::Withdraw],
        };
        for (step, occurrence) in path.iter().enumerate() {
            machine.apply(*occurrence);
            if step == 0 && !matches!(state, State::Queued | State::Leaving) {
                machine.ticket = machine.rotation.poll_call(&now).unwrap().ticket;
            }
        }
        machine
    }

    fn apply(&mut self, occurrence: Occurrence) {
        let (a, now, ticket) = (id("a"), self.now, self.ticket);
        let validity = Validity { not_before: now.wall, not_after: now.wall + HOUR };
        let failure = Failure { reason: "no".into(), contact: Contact::Answered, retryable: true };
        match occurrence {
            Occurrence::Permit => assert!(self.rotation.handle_permit(&a, &now)),
            Occurrence::Request => drop(self.rotation.handle_request(&a, &now)),
            Occurrence::Withdraw => self.rotation.handle_withdraw(&a, &now),
            Occurrence::Issued => drop(self.rotation.handle_answer(&a, ticket, Ok(validity), &now)),
            Occurrence::Failed => drop(self.rotation.handle_answer(&a, ticket, Err(failure), &now)),
            Occurrence::StaleAnswer => {
                let verdict = self.rotation.handle_answer(&a, ticket + 1, Ok(validity), &now);
                assert_eq!(verdict, Verdict::Discard);
            }
        }
    }

    fn state(&self) -> &'static str {
        let Some(entry) = self.rotation.entries.get(&id("a")) else { return "unknown" };
        match (entry.tenure, &entry.phase) {
            (Tenure::Gone, _) => "gone",
            (Tenure::Leaving { .. }, _) => "leaving",
            (Tenure::Permitted, Phase::Backoff { .. }) => "backoff",
            (Tenure::Permitted, Phase::Fresh { .. }) => "fresh",
            (Tenure::Permitted, Phase::Idle) => "idle",
            (Tenure::Permitted, Phase::InFlight { .. }) => "in flight",
            (Tenure::Permitted, Phase::Queued { .. }) => "queued",
        }
    }
}

#[test]
fn every_event_in_every_state_leads_where_the_table_says() {
    for (occurrence, expected) in TABLE {
        for (state, expected) in STATES.into_iter().zip(expected) {
            let mut machine = Machine::new(state);
            machine.apply(occurrence);
            assert_eq!(machine.state(), expected, "{occurrence:?} in {state:?}");
        }
    }
}
