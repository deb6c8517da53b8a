use std::num::NonZeroUsize;

use super::*;

// identity#38, identity#42
#[test]
fn many_requests_are_one_call() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.permit(&a);
    for _ in 0..100 {
        sim.request(&a).unwrap();
    }
    sim.advance(SECOND);
    assert!(sim.is_available(&a));
    sim.request(&a).unwrap();
    sim.advance(HOUR);
    assert_eq!(sim.calls_for(&a).len(), 1);
}

// identity#51, identity#53
#[test]
fn a_call_that_starts_as_its_certificate_ends_tells_of_the_end() {
    let settings = half_life().max_calls(NonZeroUsize::MIN);
    let mut sim = Simulation::new(settings);
    // A reading of the wall clock is up to a second old, and the timer is set by it.
    sim.pass(Duration::from_millis(900));
    sim.authority.latency = Duration::ZERO;
    sim.authority.lifetime = 10 * SECOND;
    sim.permit(&id("a"));
    sim.advance(Duration::ZERO);
    assert!(sim.is_available(&id("a")));
    // Another call takes the only place until the wall clock has passed the end, but the timer has not.
    sim.authority.latency = Duration::from_millis(10_600);
    sim.permit(&id("b"));
    sim.advance(Duration::from_millis(10_600));
    assert!(!sim.is_available(&id("a")));
    assert_eq!(sim.calls_for(&id("a")).len(), 2);
    assert!(sim.rotation.poll_timeout().unwrap() > sim.now.instant);
}

// identity#64
#[test]
fn what_is_not_permitted_is_not_asked_for() {
    let mut sim = Simulation::new(half_life());
    assert_eq!(sim.request(&id("a")), Err(NotPermitted));
    sim.advance(HOUR);
    assert!(sim.started.is_empty());
}

// identity#39, identity#60
#[test]
fn calls_under_way_stay_within_the_limit_and_use_all_of_it() {
    let mut sim = Simulation::new(half_life());
    sim.authority.latency = SECOND;
    (0..100).for_each(|index| sim.permit(&id(index)));
    let mut most = 0;
    for _ in 0..130 {
        most = most.max(sim.rotation.calls());
        assert!(sim.rotation.calls() <= 8);
        sim.advance(Duration::from_millis(100));
    }
    assert_eq!(most, 8);
    assert_eq!(sim.handed_out.len(), 100);
}

// identity#40, identity#41
#[test]
fn what_is_waited_for_overtakes_prefetches_and_those_overtake_renewals() {
    let one_at_a_time = half_life().max_calls(NonZeroUsize::MIN);
    let mut sim = Simulation::new(one_at_a_time);
    let renewed = [id("old-1"), id("old-2")];
    sim.authority.lifetime = Duration::from_secs(100);
    renewed.iter().for_each(|id| sim.permit(id));
    sim.advance(SECOND);
    // Busy when the renewals come due.
    sim.authority.latency = Duration::from_secs(10);
    sim.advance(Duration::from_secs(46));
    sim.permit(&id("busy"));
    sim.advance(Duration::from_secs(5));
    let prefetched = [id("new-1"), id("new-2"), id("new-3")];
    prefetched.iter().for_each(|id| sim.permit(id));
    sim.request(&prefetched[2]).unwrap();
    sim.started.clear();
    sim.advance(Duration::from_secs(60));
    let order: Vec<_> = sim.started.iter().map(|(_, id)| id.clone()).collect();
    let [new_1, new_2, new_3] = prefetched;
    let [old_1, old_2] = renewed;
    assert_eq!(order[..5], [new_3, new_1, new_2, old_1, old_2]);
}

// identity#43
#[test]
fn without_jitter_renewal_is_at_half_life_each_time() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.permit(&a);
    sim.advance(37 * HOUR);
    let calls = sim.calls_for(&a);
    let hours: Vec<_> = calls.iter().map(|at| at / 3_600_000).collect();
    assert_eq!(hours, [0, 12, 24, 36], "{calls:?}");
}

// identity#44
#[test]
fn a_fleet_that_was_issued_together_is_renewed_over_the_whole_window() {
    let mut sim = Simulation::new(RotationSettings::default());
    (0..200).for_each(|index| sim.permit(&id(index)));
    sim.advance(SECOND);
    sim.started.clear();
    sim.advance(20 * HOUR);
    let first: HashMap<_, _> = sim.started.iter().rev().map(|(at, id)| (id.clone(), *at)).collect();
    assert_eq!(first.len(), 200);
    let minutes: Vec<_> = first.values().map(|at| at / 60_000).collect();
    // 50 % of 24 hours to 80 %.
    assert!(minutes.iter().all(|minute| (719..=1153).contains(minute)), "{minutes:?}");
    let in_tenth = |tenth: u64| {
        minutes.iter().filter(|minute| (720 + tenth * 43..720 + (tenth + 1) * 43).contains(minute)).count()
    };
    assert!((0..10).all(|tenth| in_tenth(tenth) >= 5), "{minutes:?}");
}

// identity#46, identity#50
#[test]
fn a_valid_certificate_outlives_failures_and_a_success_ends_the_pauses() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.authority.lifetime = Duration::from_secs(1000);
    sim.permit(&a);
    sim.advance(Duration::from_secs(400));
    sim.authority.mood = Mood::Refuses;
    sim.started.clear();
    sim.advance(Duration::from_secs(590));
    assert!(sim.is_available(&a));
    let calls = sim.calls_for(&a);
    let pauses: Vec<_> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= 1000 && pauses[0] < 3000, "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 61_000), "{pauses:?}");
    assert!(pauses.last().unwrap() >= &30_000, "{pauses:?}");
    assert!(calls.len() < 20, "{calls:?}");

    sim.authority.mood = Mood::Issues;
    sim.advance(Duration::from_secs(61));
    let condition = sim.condition(&a).unwrap();
    assert_eq!((condition.failures, condition.last_error), (0, None));
}

// identity#47, identity#53
#[test]
fn at_its_end_a_certificate_is_no_longer_handed_out() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.authority.lifetime = Duration::from_secs(1000);
    sim.permit(&a);
    sim.advance(SECOND);
    sim.authority.mood = Mood::Unreachable;
    sim.advance(Duration::from_secs(998));
    assert!(sim.is_available(&a));
    sim.advance(Duration::from_secs(3));
    assert!(!sim.is_available(&a));
    assert!(sim.events.contains(&Event::Expired(a.clone())));
    let condition = sim.condition(&a).unwrap();
    assert!(condition.validity.is_none() && condition.last_error.is_some());
}

// identity#48
#[test]
fn whoever_asks_after_a_recovery_does_not_wait_for_a_pause() {
    for mood in [Mood::Refuses, Mood::RefusesForGood, Mood::Unreachable] {
        let mut sim = Simulation::new(half_life());
        let a = id("a");
        sim.authority.mood = mood;
        sim.permit(&a);
        sim.advance(HOUR);
        sim.authority.mood = Mood::Issues;
        sim.request(&a).unwrap();
        sim.advance(Duration::from_secs(6));
        assert!(sim.is_available(&a), "{mood:?}");
    }
}

// identity#48
#[test]
fn the_end_of_an_outage_is_noticed_within_seconds_by_all() {
    let mut sim = Simulation::new(half_life());
    sim.authority.mood = Mood::Unreachable;
    (0..50).for_each(|index| sim.permit(&id(index)));
    sim.advance(HOUR);
    // At most one call in 2.5 seconds on average, once the first have failed.
    assert!(sim.started.len() < 8 + 3600 * 2 / 5, "{}", sim.started.len());
    sim.authority.mood = Mood::Issues;
    sim.advance(Duration::from_secs(6));
    assert_eq!(sim.handed_out.len(), 50);
}

#[test]
fn in_an_outage_one_failure_is_the_answer_for_all_who_wait() {
    let mut sim = Simulation::new(half_life());
    sim.authority.mood = Mood::Unreachable;
    (0..50).for_each(|index| sim.permit(&id(index)));
    sim.advance(HOUR);
    sim.events.clear();
    (0..50).for_each(|index| sim.request(&id(index)).unwrap());
    sim.advance(Duration::from_secs(6));
    for index in 0..50 {
        assert!(sim.events.contains(&Event::Failed(id(index))), "{index}");
    }
}

#[test]
fn a_call_that_could_not_be_made_ends_no_outage() {
    let mut sim = Simulation::new(half_life());
    sim.authority.mood = Mood::Unreachable;
    (0..5).for_each(|index| sim.permit(&id(index)));
    sim.advance(Duration::from_secs(60));
    assert!(sim.rotation.is_outage());
    sim.authority.mood = Mood::Uncallable;
    sim.advance(Duration::from_secs(60));
    assert!(sim.rotation.is_outage());
    // Nor is one begun by it.
    sim.authority.mood = Mood::Issues;
    sim.request(&id(0)).unwrap();
    sim.advance(Duration::from_secs(2));
    assert!(!sim.rotation.is_outage());
    sim.authority.mood = Mood::Uncallable;
    sim.advance(20 * HOUR);
    assert!(!sim.rotation.is_outage());
}

#[test]
fn requests_do_not_make_more_than_one_call_in_the_least_interval() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.authority.mood = Mood::Refuses;
    sim.permit(&a);
    for _ in 0..300 {
        sim.request(&a).unwrap();
        sim.advance(Duration::from_millis(100));
    }
    let calls = sim.calls_for(&a);
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{calls:?}");
    assert!(calls.len() >= 25, "{calls:?}");
}

// identity#49
#[test]
fn the_pauses_of_one_identity_are_not_anothers() {
    let mut sim = Simulation::new(half_life());
    sim.authority.mood = Mood::RefusesForGood;
    sim.permit(&id("a"));
    sim.advance(SECOND);
    sim.authority.mood = Mood::Issues;
    sim.permit(&id("b"));
    sim.advance(SECOND);
    assert!(sim.is_available(&id("b")) && !sim.is_available(&id("a")));
}

// identity#51
#[test]
fn useless_certificates_cause_no_hot_loop() {
    let lifetimes = [0, 1, 2, 10].map(Duration::from_secs);
    for (lifetime, ahead) in
        lifetimes.into_iter().flat_map(|life| [-7200, 0, 30, 7200].map(|ahead| (life, ahead)))
    {
        let mut sim = Simulation::new(half_life());
        let a = id("a");
        sim.authority = Authority { lifetime, ahead, ..sim.authority };
        sim.permit(&a);
        sim.advance(Duration::from_secs(120));
        let calls = sim.calls_for(&a);
        assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{lifetime:?} {ahead}: {calls:?}");
    }
}

// identity#52
#[test]
fn a_step_of_the_wall_clock_is_made_good_within_a_minute() {
    for hours in [-48, -7, 7, 13, 48] {
        let mut sim = Simulation::new(half_life());
        let a = id("a");
        sim.permit(&a);
        sim.advance(HOUR);
        sim.step_clock(hours * 3600);
        sim.advance(Duration::from_secs(62));
        let due = sim.condition(&a).unwrap().next_attempt.unwrap();
        let validity = sim.handed_out[&a];
        assert!(!validity.is_over(sim.now.wall), "{hours}");
        assert!(due > sim.now.wall, "{hours}");
        // Exactly then, by the clock as it is now.
        sim.started.clear();
        let until_due = due.duration_since(sim.now.wall).unwrap();
        sim.advance(until_due - 2 * SECOND);
        assert!(sim.started.is_empty(), "{hours}");
        sim.advance(4 * SECOND);
        assert_eq!(sim.calls_for(&a).len(), 1, "{hours}");
    }
}

// identity#45, identity#52
#[test]
fn an_answer_that_is_the_first_to_see_a_step_of_the_clock_counts() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.permit(&a);
    sim.authority.latency = SECOND;
    sim.advance(12 * HOUR + SECOND / 2);
    assert_eq!(sim.rotation.calls(), 1);
    sim.step_clock(48 * 3600);
    sim.advance(2 * SECOND);
    assert!(sim.is_available(&a));
    sim.advance(HOUR);
    assert!(sim.is_available(&a) && sim.calls_for(&a).len() == 2);
}

// identity#54, identity#56, identity#61
#[test]
fn a_withdrawn_identity_is_kept_for_a_while_and_then_forgotten() {
    let mut sim = Simulation::new(half_life().grace(Duration::from_secs(30)));
    let a = id("a");
    sim.permit(&a);
    sim.advance(SECOND);
    sim.withdraw(&a);
    assert_eq!(sim.events, [Event::Withdrawn(a.clone())]);
    assert_eq!(sim.request(&a), Err(NotPermitted));
    sim.advance(Duration::from_secs(29));
    assert!(sim.is_available(&a));
    sim.advance(2 * SECOND);
    assert!(!sim.is_available(&a) && sim.condition(&a).is_none());
    sim.advance(48 * HOUR);
    assert_eq!(sim.calls_for(&a).len(), 1);
    assert!(sim.rotation.entries.is_empty() && sim.rotation.timers.next().is_none());
}

#[test]
fn an_identity_that_comes_back_in_time_costs_no_call() {
    let mut sim = Simulation::new(half_life());
    let a = id("a");
    sim.permit(&a);
    sim.advance(SECOND);
    sim.withdraw(&a);
    sim.advance(Duration::from_secs(29));
    sim.permit(&a);
    sim.advance(11 * HOUR);
    assert!(sim.is_available(&a));
    assert_eq!(sim.calls_for(&a).len(), 1);
}

// identity#54
#[test]
fn what_waits_in_the_queue_goes_with_its_identity() {
    let mut sim = Simulation::new(half_life().max_calls(NonZeroUsize::MIN).grace(Duration::ZERO));
    sim.permit(&id("a"));
    sim.permit(&id("b"));
    sim.withdraw(&id("b"));
    sim.withdraw(&id("a"));
    sim.advance(HOUR);
    assert!(sim.calls_for(&id("b")).is_empty());
    assert!(sim.handed_out.is_empty() && sim.rotation.entries.is_empty());
}

// identity#55
#[test]
fn a_call_outlived_by_its_identity_counts_if_the_identity_is_back() {
    for pause in [0, 1, 2].map(|seconds| seconds * SECOND) {
        let mut sim = Simulation::new(half_life().grace(SECOND));
        sim.authority.latency = Duration::from_secs(5);
        let a = id("a");
        sim.permit(&a);
        sim.withdraw(&a);
        sim.advance(pause);
        sim.permit(&a);
        sim.advance(Duration::from_secs(10));
        assert!(sim.is_available(&a), "{pause:?}");
        assert_eq!(sim.calls_for(&a).len(), 1, "{pause:?}");
    }
}

// identity#51
#[test]
fn an_identity_that_comes_and_goes_is_called_for_no_more_often_than_one_that_stays() {
    let mut sim = Simulation::new(half_life().grace(Duration::ZERO));
    let a = id("a");
    for _ in 0..100 {
        sim.permit(&a);
        sim.advance(Duration::from_millis(50));
        sim.withdraw(&a);
        sim.advance(Duration::from_millis(50));
        assert!(sim.condition(&a).is_none());
    }
    let calls = sim.calls_for(&a);
    assert!(calls.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{calls:?}");
    assert!(calls.len() >= 5, "{calls:?}");
    sim.advance(SECOND);
    assert!(sim.rotation.entries.is_empty() && sim.rotation.timers.next().is_none());
}

#[test]
fn too_many_identities_are_refused() {
    let mut sim = Simulation::new(half_life().max_identities(2));
    sim.permit(&id("a"));
    sim.permit(&id("b"));
    assert!(!sim.rotation.handle_permit(&id("c"), &sim.reading()));
    assert!(sim.rotation.handle_permit(&id("b"), &sim.reading()));
}

#[test]
fn a_withdrawn_root_has_certificates_renewed_soon_and_only_once() {
    let mut sim = Simulation::new(half_life().withdrawal_spread(Duration::from_secs(300)));
    let a = id("a");
    sim.permit(&a);
    sim.advance(HOUR);
    for _ in 0..3 {
        let now = sim.reading();
        sim.rotation.handle_hurry(&a, &now);
        sim.advance(Duration::from_secs(301));
    }
    assert_eq!(sim.calls_for(&a).len(), 2);
}

#[test]
fn while_nothing_is_due_the_timer_fires_once_a_minute_to_compare_clocks() {
    let mut sim = Simulation::new(half_life());
    (0..100).for_each(|index| sim.permit(&id(index)));
    sim.advance(SECOND);
    sim.wake_ups = 0;
    sim.advance(Duration::from_secs(58));
    assert_eq!(sim.wake_ups, 0);
    sim.advance(HOUR);
    assert!((59..=61).contains(&sim.wake_ups), "{}", sim.wake_ups);
}

#[test]
fn without_identities_there_is_no_timer() {
    let mut sim = Simulation::new(half_life().grace(Duration::ZERO));
    assert_eq!(sim.rotation.poll_timeout(), None);
    sim.permit(&id("a"));
    sim.advance(SECOND);
    sim.withdraw(&id("a"));
    sim.advance(SECOND);
    assert_eq!(sim.rotation.poll_timeout(), None);
}
