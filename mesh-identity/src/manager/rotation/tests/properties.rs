use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Clock(i64),
    Lifetime(u64, i64),
    Mood(Mood),
    Permit(u8),
    Request(u8),
    Withdraw(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..6_u8;
    let mood = prop_oneof![
        Just(Mood::Issues),
        Just(Mood::Refuses),
        Just(Mood::RefusesForGood),
        Just(Mood::Uncallable),
        Just(Mood::Unreachable)
    ];
    prop_oneof![
        4 => (0..200_000_u64).prop_map(Step::Advance),
        1 => (-100_000..100_000_i64).prop_map(Step::Clock),
        1 => (0..100_000_u64, -200..200_i64).prop_map(|(life, ahead)| Step::Lifetime(life, ahead)),
        2 => mood.prop_map(Step::Mood),
        3 => who.clone().prop_map(Step::Permit),
        3 => who.clone().prop_map(Step::Request),
        2 => who.prop_map(Step::Withdraw),
    ]
}

struct Checked {
    sim: Simulation,
    permitted: HashSet<SpiffeId>,
    seen: usize,
}

impl Checked {
    fn apply(&mut self, step: &Step) {
        let sim = &mut self.sim;
        match *step {
            Step::Advance(ms) => sim.advance(Duration::from_millis(ms)),
            Step::Clock(seconds) => sim.step_clock(seconds),
            Step::Lifetime(seconds, ahead) => {
                sim.authority.lifetime = Duration::from_secs(seconds);
                sim.authority.ahead = ahead;
            }
            Step::Mood(mood) => sim.authority.mood = mood,
            Step::Permit(who) => {
                self.permitted.insert(id(who));
                sim.permit(&id(who));
            }
            Step::Request(who) => {
                assert_eq!(sim.request(&id(who)).is_ok(), self.permitted.contains(&id(who)));
            }
            Step::Withdraw(who) => {
                self.permitted.remove(&id(who));
                sim.withdraw(&id(who));
            }
        }
        // Whatever comes next may be the first to see a step of the clock.
        if !matches!(step, Step::Clock(_)) {
            self.sim.settle();
            self.check();
        }
    }

    fn check(&mut self) {
        let sim = &self.sim;
        assert!(sim.rotation.calls() <= 3 && sim.rotation.calls() == sim.calls.len());
        let under_way: HashSet<_> = sim.calls.iter().map(|(_, call)| &call.id).collect();
        assert_eq!(under_way.len(), sim.calls.len(), "two calls for one identity");
        for (_, id) in &sim.started[self.seen..] {
            assert!(id.as_str().contains("/sa/"));
            let calls = sim.calls_for(id);
            assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{id}: {calls:?}");
        }
        self.seen = sim.started.len();
        let wall = sim.reading().wall;
        for (id, validity) in &sim.handed_out {
            assert!(!validity.is_over(wall), "{id} has expired");
        }
        let waiting: usize = [Priority::OnDemand, Priority::Prefetch, Priority::Renewal]
            .into_iter()
            .map(|priority| sim.rotation.queued(priority))
            .sum();
        let queued =
            sim.rotation.entries.values().filter(|entry| matches!(entry.phase, Phase::Queued { .. }));
        assert_eq!(waiting, queued.count());
        for entry in sim.rotation.entries.values() {
            let planned = matches!(entry.phase, Phase::Queued { .. } | Phase::InFlight { .. });
            assert!(planned || entry.timer.is_some(), "nothing will happen: {entry:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    // identity#39, identity#47, identity#48, identity#51, identity#52, identity#53, identity#54, identity#55
    #[test]
    fn whatever_happens_limits_hold_and_in_the_end_all_is_well(
        steps in prop::collection::vec(step(), 0..60),
        grace in prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(30))],
    ) {
        let settings = RotationSettings::default().max_calls(3.try_into().unwrap()).grace(grace);
        let mut checked = Checked { sim: Simulation::new(settings), permitted: HashSet::new(), seen: 0 };
        for step in &steps {
            checked.apply(step);
        }
        // From here on everything is in order.
        checked.apply(&Step::Mood(Mood::Issues));
        checked.apply(&Step::Lifetime(86_400, 0));
        checked.apply(&Step::Advance(200_000));
        let permitted = checked.permitted.clone();
        for id in &permitted {
            prop_assert!(checked.sim.is_available(id), "{id}: {:?}", checked.sim.rotation.entries[id]);
        }
        prop_assert_eq!(checked.sim.rotation.entries.len(), permitted.len());
        prop_assert_eq!(checked.sim.handed_out.len(), permitted.len());
    }
}
