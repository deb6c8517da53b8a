mod behaviour;
mod properties;
mod table;

use std::time::UNIX_EPOCH;

use super::*;
use crate::manager::settings::RenewalWindow;

/// An authority and two clocks, simulated: time passes from one event to the next.
struct Simulation {
    rotation: Rotation,
    start: Moment,
    now: Moment,
    authority: Authority,
    /// Calls under way, with the moment of their answer.
    calls: Vec<(Instant, Call)>,
    /// When a call for whom started, in milliseconds since the start.
    started: Vec<(u64, SpiffeId)>,
    handed_out: HashMap<SpiffeId, Validity>,
    events: Vec<Event>,
    /// How often the timer fired.
    wake_ups: usize,
}

#[derive(Clone, Copy, Debug)]
struct Authority {
    mood: Mood,
    latency: Duration,
    lifetime: Duration,
    /// How far its clock is ahead of ours.
    ahead: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Issues,
    Refuses,
    RefusesForGood,
    /// There is no token to call it with.
    Uncallable,
    Unreachable,
}

impl Simulation {
    fn new(settings: RotationSettings) -> Self {
        let start = Moment { instant: Instant::now(), wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
        let authority = Authority {
            mood: Mood::Issues,
            latency: Duration::from_millis(20),
            lifetime: Duration::from_secs(24 * 60 * 60),
            ahead: 0,
        };
        Self {
            rotation: Rotation::new(settings, fastrand::Rng::with_seed(7)),
            start,
            now: start,
            authority,
            calls: Vec::new(),
            started: Vec::new(),
            handed_out: HashMap::new(),
            events: Vec::new(),
            wake_ups: 0,
        }
    }

    /// Whole seconds, as the real one reads.
    fn reading(&self) -> Moment {
        let since = self.now.wall.duration_since(UNIX_EPOCH).unwrap();
        Moment { instant: self.now.instant, wall: UNIX_EPOCH + Duration::from_secs(since.as_secs()) }
    }

    fn permit(&mut self, id: &SpiffeId) {
        assert!(self.rotation.handle_permit(id, &self.reading()));
        self.settle();
    }

    fn withdraw(&mut self, id: &SpiffeId) {
        self.rotation.handle_withdraw(id, &self.reading());
        self.settle();
    }

    fn request(&mut self, id: &SpiffeId) -> Result<(), NotPermitted> {
        let asked = self.rotation.handle_request(id, &self.reading());
        self.settle();
        asked
    }

    /// Sets the wall clock by so many seconds.
    fn step_clock(&mut self, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { self.now.wall -= by } else { self.now.wall += by }
    }

    fn settle(&mut self) {
        let now = self.reading();
        self.rotation.handle_timeout(&now);
        while let Some(call) = self.rotation.poll_call(&now) {
            self.started.push((self.elapsed_ms(), call.id.clone()));
            self.calls.push((now.instant + self.authority.latency, call));
        }
        while let Some(event) = self.rotation.poll_event() {
            if let Event::Expired(id) | Event::Forgotten(id) = &event {
                self.handed_out.remove(id);
            }
            self.events.push(event);
        }
        if let Some(next) = self.rotation.poll_timeout() {
            assert!(next > now.instant, "the timer would fire again at once");
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from((self.now.instant - self.start.instant).as_millis()).unwrap()
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now.instant + by;
        loop {
            let answer = self.calls.iter().map(|(at, _)| *at).min();
            let timer = self.rotation.poll_timeout();
            let next = [answer, timer].into_iter().flatten().min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.pass(next - self.now.instant);
            if answer.is_some_and(|at| at <= next) {
                let index = self.calls.iter().position(|(at, _)| *at <= next).unwrap();
                let (_, call) = self.calls.remove(index);
                self.answer(&call);
            } else {
                self.wake_ups += 1;
            }
            self.settle();
        }
        self.pass(end - self.now.instant);
    }

    fn pass(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.wall += by;
    }

    fn answer(&mut self, call: &Call) {
        let now = self.reading();
        let answer = self.authority.answer(now.wall);
        let verdict = self.rotation.handle_answer(&call.id, call.ticket, answer.clone(), &now);
        if verdict == Verdict::Publish {
            self.handed_out.insert(call.id.clone(), answer.unwrap());
        }
    }

    fn calls_for(&self, id: &SpiffeId) -> Vec<u64> {
        self.started.iter().filter(|(_, whose)| whose == id).map(|(at, _)| *at).collect()
    }

    fn condition(&self, id: &SpiffeId) -> Option<Condition> {
        self.rotation.condition(id, &self.reading())
    }

    fn is_available(&self, id: &SpiffeId) -> bool {
        self.handed_out.contains_key(id)
    }
}

impl Authority {
    fn answer(&self, wall: SystemTime) -> Result<Validity, Failure> {
        let failure = |contact, retryable| Err(Failure { reason: "no".into(), contact, retryable });
        match self.mood {
            Mood::Issues => {
                let by = Duration::from_secs(self.ahead.unsigned_abs());
                let not_before = if self.ahead < 0 { wall - by } else { wall + by };
                Ok(Validity { not_before, not_after: not_before + self.lifetime })
            }
            Mood::Refuses => failure(Contact::Answered, true),
            Mood::RefusesForGood => failure(Contact::Answered, false),
            Mood::Uncallable => failure(Contact::Untried, true),
            Mood::Unreachable => failure(Contact::Missed, true),
        }
    }
}

fn id(name: impl std::fmt::Display) -> SpiffeId {
    format!("spiffe://example.org/ns/shop/sa/{name}").parse().unwrap()
}

fn half_life() -> RotationSettings {
    RotationSettings::default().renewal_window(RenewalWindow::new(0.5, 0.5).unwrap())
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
