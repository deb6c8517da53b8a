//! Identities kept current, on tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "a failed helper fails its test")]

#[path = "support/authority.rs"]
mod authority;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use authority::{Mood, ScriptedAuthority};
use mesh_identity::{
    ExpectedPeer, IdentityError, IdentityManager, IdentitySource, IdentityState, PeerVerifier, RenewalWindow,
    Role, RotationSettings, SpiffeId, TlsConfigs,
    testing::{Authority, provider},
};
use tokio::time::{advance, sleep};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn id(name: impl std::fmt::Display) -> SpiffeId {
    format!("spiffe://example.org/ns/shop/sa/{name}").parse().unwrap()
}

fn half_life() -> RotationSettings {
    RotationSettings::default().renewal_window(RenewalWindow::new(0.5, 0.5).unwrap())
}

fn manager(authority: &Arc<ScriptedAuthority>, settings: RotationSettings) -> IdentityManager {
    let clock = Arc::clone(&authority.clock);
    IdentityManager::builder(Arc::clone(authority))
        .settings(settings)
        .time_provider(clock)
        .jitter_seed(7)
        .spawn()
}

// identity#38, identity#42, identity#59
#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_share_one_call() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (manager, cart) = (manager.clone(), cart.clone());
            tokio::spawn(async move { manager.svid(&cart).await })
        })
        .collect();
    let mut serials = HashSet::new();
    for asked in asking {
        serials.insert(asked.await.unwrap().unwrap().serial().to_owned());
    }
    assert_eq!(serials.len(), 1);
    manager.svid(&cart).await.unwrap();
    assert_eq!(authority.calls(&cart), 1);
}

// identity#64
#[tokio::test(start_paused = true)]
async fn an_identity_that_was_not_permitted_is_unknown() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    manager.permit(&id("cart")).unwrap();
    let refused = manager.svid(&id("stock")).await.unwrap_err();
    assert!(matches!(refused, IdentityError::Unknown { .. }));
    assert!(manager.try_svid(&id("stock")).is_none());
    sleep(HOUR).await;
    assert_eq!((authority.calls(&id("cart")), authority.all_calls()), (1, 1));
}

// identity#58
#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_takes_nothing_from_the_others() {
    let authority = ScriptedAuthority::new();
    authority.latency(SECOND);
    let manager = manager(&authority, half_life());
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    let impatient = tokio::time::timeout(SECOND / 2, manager.svid(&cart));
    assert!(impatient.await.is_err());
    manager.svid(&cart).await.unwrap();
    assert_eq!(authority.calls(&cart), 1);
}

// identity#36, identity#39
#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_at_its_deadline_and_is_a_failure() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Hangs);
    let settings = half_life().call_timeout(Duration::from_secs(3));
    let manager = manager(&authority, settings);
    let names: HashSet<_> = (0..8).map(id).collect();
    manager.permit_only(&names).unwrap();
    let before = tokio::time::Instant::now();
    let failed = manager.svid(&id(0)).await.unwrap_err();
    assert!(matches!(failed, IdentityError::Unavailable { .. }));
    assert!(before.elapsed() < Duration::from_secs(4));
    assert_eq!(manager.metrics().failed.deadline, 8);

    // The slots are free again.
    authority.mood(Mood::Issues);
    for name in &names {
        manager.svid(name).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_a_request_may_take() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Hangs);
    let settings = half_life().call_timeout(HOUR).request_timeout(Duration::from_secs(2));
    let manager = manager(&authority, settings);
    manager.permit(&id("cart")).unwrap();
    let before = tokio::time::Instant::now();
    assert!(matches!(manager.svid(&id("cart")).await, Err(IdentityError::Unavailable { .. })));
    assert!(before.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_panics_is_a_failure_like_another() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Panics);
    let manager = manager(&authority, half_life());
    manager.permit(&id("cart")).unwrap();
    assert!(matches!(manager.svid(&id("cart")).await, Err(IdentityError::Unavailable { .. })));
    assert_eq!(manager.metrics().failed.local, 1);
    authority.mood(Mood::Issues);
    manager.svid(&id("cart")).await.unwrap();
}

// identity#34
#[tokio::test(start_paused = true)]
async fn somebody_elses_certificate_is_not_kept() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::IssuesFor("spiffe://example.org/ns/shop/sa/stock"));
    let manager = manager(&authority, half_life());
    manager.permit(&id("cart")).unwrap();
    assert!(matches!(manager.svid(&id("cart")).await, Err(IdentityError::Unavailable { .. })));
    assert!(manager.try_svid(&id("cart")).is_none() && manager.try_svid(&id("stock")).is_none());
    assert_eq!(manager.metrics().failed.answer, 1);
}

// identity#40, identity#60
#[tokio::test(start_paused = true)]
async fn prefetch_uses_all_calls_and_whoever_waits_goes_first() {
    let authority = ScriptedAuthority::new();
    authority.latency(SECOND);
    let manager = manager(&authority, half_life());
    let names: HashSet<_> = (0..100).map(id).collect();
    manager.permit_only(&names).unwrap();
    sleep(SECOND / 2).await;
    let last = names.iter().find(|name| authority.calls(name) == 0).unwrap();
    manager.svid(last).await.unwrap();
    assert!(authority.all_calls() <= 24, "{}", authority.all_calls());
    sleep(Duration::from_secs(13)).await;
    assert_eq!((authority.all_calls(), authority.most_under_way()), (100, 8));
}

// identity#45
#[tokio::test(start_paused = true)]
async fn a_renewal_replaces_without_a_gap() {
    let authority = ScriptedAuthority::new();
    authority.lifetime(Duration::from_secs(20));
    let manager = manager(&authority, RotationSettings::default());
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    manager.svid(&cart).await.unwrap();
    let mut serials = HashSet::new();
    for _ in 0..6000 {
        advance(Duration::from_millis(100)).await;
        let svid = manager.try_svid(&cart).expect("a certificate at any time");
        assert!(svid.not_after() >= authority.clock.now() - SECOND);
        serials.insert(svid.serial().to_owned());
    }
    // Ten minutes at 10 to 16 seconds each.
    assert!((36..=61).contains(&serials.len()), "{}", serials.len());
}

// identity#85
#[tokio::test(start_paused = true)]
async fn a_renewal_makes_new_configurations_and_nothing_else_does() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    let (cart, stock) = (id("cart"), id("stock"));
    manager.permit(&cart).unwrap();
    let configs = TlsConfigs::new(Arc::new(manager.clone()), &provider()).unwrap();
    let configs = configs.time_provider(authority.clock.clone());
    let expected = ExpectedPeer::exact([stock.clone()]);
    let first = configs.client(&cart, &expected).await.unwrap();
    manager.permit(&stock).unwrap();
    manager.svid(&stock).await.unwrap();
    assert!(Arc::ptr_eq(&first, &configs.client(&cart, &expected).await.unwrap()));
    sleep(13 * HOUR).await;
    assert!(!Arc::ptr_eq(&first, &configs.client(&cart, &expected).await.unwrap()));
}

// identity#46, identity#47, identity#48, identity#53
#[tokio::test(start_paused = true)]
async fn the_last_good_certificate_serves_to_its_end_and_then_the_last_error_is_the_answer() {
    let authority = ScriptedAuthority::new();
    authority.lifetime(Duration::from_secs(100));
    let manager = manager(&authority, half_life());
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    let svid = manager.svid(&cart).await.unwrap();
    authority.mood(Mood::Refuses);
    while authority.clock.now() <= svid.not_after() {
        assert!(Arc::ptr_eq(&svid, &manager.svid(&cart).await.unwrap()));
        advance(SECOND).await;
    }
    sleep(SECOND).await;
    assert!(manager.try_svid(&cart).is_none());
    let Err(IdentityError::Unavailable { reason, .. }) = manager.svid(&cart).await else {
        panic!("an expired certificate")
    };
    assert!(reason.contains("no such account"), "{reason}");
    let status = manager.status(&cart).unwrap();
    assert!(matches!(status.state, IdentityState::Unavailable(_)) && status.failures > 1);

    sleep(HOUR).await;
    authority.mood(Mood::Issues);
    let before = tokio::time::Instant::now();
    manager.svid(&cart).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(2));
}

// identity#48
#[tokio::test(start_paused = true)]
async fn an_outage_ends_within_seconds_also_for_those_nobody_asks_for() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Unreachable);
    let manager = manager(&authority, half_life());
    let names: HashSet<_> = (0..30).map(id).collect();
    manager.permit_only(&names).unwrap();
    sleep(HOUR).await;
    assert!(manager.metrics().outage);
    authority.mood(Mood::Issues);
    sleep(Duration::from_secs(6)).await;
    assert!(names.iter().all(|name| manager.try_svid(name).is_some()));
    assert!(!manager.metrics().outage);
}

// identity#52, identity#53
#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_not_handed_out_even_before_the_step_of_the_clock_is_noticed() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    manager.svid(&cart).await.unwrap();
    authority.clock.step(48 * 3600);
    assert!(manager.try_svid(&cart).is_none());
    // And whoever asks gets another.
    sleep(SECOND).await;
    assert!(manager.svid(&cart).await.unwrap().not_after() > authority.clock.now());
}

// identity#54, identity#56, identity#61, identity#62
#[tokio::test(start_paused = true)]
async fn who_waits_for_an_identity_that_is_withdrawn_is_told_at_once() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Hangs);
    let manager = manager(&authority, half_life().grace(Duration::from_secs(5)));
    let (cart, stock) = (id("cart"), id("stock"));
    manager.permit(&cart).unwrap();
    let waiting = tokio::spawn({
        let (manager, cart) = (manager.clone(), cart.clone());
        async move { manager.svid(&cart).await }
    });
    sleep(SECOND).await;
    manager.permit_only(&HashSet::from([stock.clone()])).unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(IdentityError::Unknown { .. })));
    sleep(Duration::from_secs(6)).await;
    assert!(manager.status(&cart).is_none() && manager.status(&stock).is_some());
}

// identity#63
#[tokio::test(start_paused = true)]
async fn no_withdrawal_is_lost_in_a_burst_of_identities() {
    let authority = ScriptedAuthority::new();
    authority.latency(SECOND);
    let manager = manager(&authority, half_life().grace(5 * SECOND));
    let (names, stock): (HashSet<_>, _) = ((0..2000).map(id).collect(), id("stock"));
    for _ in 0..3 {
        manager.permit_only(&names).unwrap();
        manager.permit_only(&HashSet::from([stock.clone()])).unwrap();
    }
    sleep(10 * SECOND).await;
    let known: Vec<_> = manager.statuses().unwrap().into_iter().map(|status| status.id).collect();
    assert_eq!(known, std::slice::from_ref(&stock));
    assert!(manager.try_svid(&stock).is_some());
    // Nothing goes on for those that are gone.
    let calls = authority.all_calls();
    sleep(60 * SECOND).await;
    assert!(authority.all_calls() <= calls + 1, "{calls}");
}

// identity#61
#[tokio::test(start_paused = true)]
async fn after_the_grace_period_the_certificate_is_gone_too() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life().grace(Duration::from_secs(5)));
    let cart = id("cart");
    manager.permit(&cart).unwrap();
    manager.svid(&cart).await.unwrap();
    manager.withdraw(&cart);
    sleep(4 * SECOND).await;
    assert!(manager.try_svid(&cart).is_some());
    let generation = manager.generation();
    sleep(2 * SECOND).await;
    assert!(manager.try_svid(&cart).is_none());
    assert_ne!(manager.generation(), generation);
    assert_eq!(manager.bundles().iter().count(), 0);
}

// identity#57
#[tokio::test(start_paused = true)]
async fn dropping_the_manager_ends_everything() {
    let authority = ScriptedAuthority::new();
    authority.mood(Mood::Hangs);
    let manager = manager(&authority, half_life());
    manager.permit(&id("cart")).unwrap();
    sleep(SECOND).await;
    assert_eq!(authority.under_way(), 1);
    drop(manager);
    sleep(SECOND).await;
    assert_eq!(authority.under_way(), 0);
    assert_eq!(Arc::strong_count(&authority), 1);
}

// identity#57
#[tokio::test(start_paused = true)]
async fn after_a_shutdown_whoever_waits_or_asks_is_told() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    manager.permit(&id("stock")).unwrap();
    manager.svid(&id("stock")).await.unwrap();
    authority.mood(Mood::Hangs);
    manager.permit(&id("cart")).unwrap();
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.svid(&id("cart")).await }
    });
    sleep(SECOND).await;
    manager.shut_down().await;
    assert!(matches!(waiting.await.unwrap(), Err(IdentityError::Unavailable { .. })));
    assert!(matches!(manager.svid(&id("cart")).await, Err(IdentityError::Unavailable { .. })));
    assert!(manager.svid(&id("stock")).await.is_ok());
    assert_eq!(authority.under_way(), 0);
}

// identity#65, identity#66, identity#67
#[tokio::test(start_paused = true)]
async fn roots_overlap_while_they_are_replaced_and_a_withdrawn_one_goes_within_minutes() {
    let authority = ScriptedAuthority::new();
    let (old, new) = (authority.signer(), Arc::new(Authority::new("example.org")));
    let manager = manager(&authority, half_life().withdrawal_spread(Duration::from_secs(300)));
    let [cart, stock] = [id("cart"), id("stock")];
    manager.permit(&cart).unwrap();
    manager.svid(&cart).await.unwrap();
    let accepts = |signer: &Authority| {
        let svid = signer.svid(cart.as_str());
        let verifier = PeerVerifier::new(&provider(), manager.bundles(), ExpectedPeer::exact([cart.clone()]));
        verifier.verify(&svid.chain()[0], &[], Role::Client, SystemTime::now()).is_ok()
    };
    assert!(accepts(&old) && !accepts(&new));

    // The new root counts for all from the first answer with it.
    authority.rotate(&old, &[&old, &new]);
    manager.permit(&stock).unwrap();
    manager.svid(&stock).await.unwrap();
    assert!(accepts(&old) && accepts(&new));
    sleep(13 * HOUR).await;

    // The old root counts until nobody's certificate came with it.
    authority.rotate(&new, &[&new]);
    let another = id("another");
    manager.permit(&another).unwrap();
    manager.svid(&another).await.unwrap();
    assert!(accepts(&old) && accepts(&new));
    sleep(Duration::from_secs(301)).await;
    assert!(!accepts(&old) && accepts(&new));
}

// identity#82
#[tokio::test(start_paused = true)]
async fn status_says_how_each_identity_is() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    let (cart, stock) = (id("cart"), id("stock"));
    manager.permit(&stock).unwrap();
    let svid = manager.svid(&stock).await.unwrap();
    authority.mood(Mood::Refuses);
    manager.permit(&cart).unwrap();
    assert_eq!(manager.status(&cart).unwrap().state.to_string(), "Initializing");
    manager.svid(&cart).await.unwrap_err();

    let statuses = manager.statuses().unwrap();
    let [of_cart, of_stock] = &statuses[..] else { panic!("{statuses:?}") };
    assert_eq!((&of_cart.id, of_cart.failures), (&cart, 1));
    assert!(of_cart.state.to_string().starts_with("Unavailable: "), "{}", of_cart.state);
    assert!(of_cart.next_attempt.unwrap() > authority.clock.now());
    assert_eq!(of_stock.state, IdentityState::Available);
    assert_eq!(of_stock.svid.as_ref().unwrap().serial(), svid.serial());
    let half = svid.not_before() + (svid.not_after().duration_since(svid.not_before()).unwrap()) / 2;
    assert_eq!(of_stock.next_attempt, Some(half));
}

// identity#83
#[tokio::test(start_paused = true)]
async fn metrics_count_what_happened() {
    let authority = ScriptedAuthority::new();
    authority.latency(SECOND);
    let manager = manager(&authority, half_life());
    let names: HashSet<_> = (0..20).map(id).collect();
    manager.permit_only(&names).unwrap();
    sleep(SECOND / 2).await;
    let metrics = manager.metrics();
    assert_eq!((metrics.identities, metrics.available, metrics.first_expiry), (20, 0, None));
    assert_eq!((metrics.calls_in_flight, metrics.queued.prefetch, metrics.issued), (8, 12, 0));
    sleep(3 * SECOND).await;
    let metrics = manager.metrics();
    assert_eq!((metrics.issued, metrics.available, metrics.calls_in_flight), (20, 20, 0));
    let first = names.iter().filter_map(|name| manager.try_svid(name)).map(|svid| svid.not_after()).min();
    assert_eq!(metrics.first_expiry, first);
    assert_eq!(metrics.root_expiry.len(), 1);
    assert!(metrics.last_success.is_some());
}

#[tokio::test(start_paused = true)]
async fn while_nothing_is_due_nobody_wakes_up_for_a_minute() {
    let authority = ScriptedAuthority::new();
    let manager = manager(&authority, half_life());
    manager.permit(&id("cart")).unwrap();
    manager.svid(&id("cart")).await.unwrap();
    sleep(SECOND).await;
    // The driver reads the clock whenever it wakes up.
    let before = authority.clock.readings();
    sleep(Duration::from_secs(58)).await;
    assert_eq!(authority.clock.readings(), before);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(authority.clock.readings(), before + 1);
}
