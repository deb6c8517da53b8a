//! Policies that arrive on the wire.

use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, ConnectionFacts, MissingPolicy, Policy, PolicyName, Scope, StringMatch, Verdict,
    wire::{
        InPlace, PolicyChange, ReceivedPolicies, WireAddress, WireClause, WireMatch, WirePolicy,
        WirePolicyError, WireRule,
    },
};
use proptest::{collection::vec, prelude::*, sample::select};

fn policy(action: i32, one: WireMatch) -> WirePolicy {
    let clauses = vec![WireClause { matches: vec![WireMatch::default(), one] }];
    WirePolicy {
        namespace: "shop".into(),
        name: "p".into(),
        scope: 1,
        action,
        rules: vec![WireRule::default(), WireRule { clauses }],
        dry_run: false,
    }
}

fn address(address: &[u8], length: u32) -> WireAddress {
    WireAddress { address: address.to_vec(), length }
}

fn verdict(policies: &ReceivedPolicies, namespace: &str, listed: &[PolicyName]) -> Verdict {
    let peer: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse().expect("a value");
    let facts = ConnectionFacts {
        source: "192.0.2.1".parse().expect("a value"),
        peer: Some(&peer),
        destination: "192.0.2.2:80".parse().expect("a value"),
        namespace,
        policies: listed,
    };
    policies.set().evaluate_connection(&facts).verdict()
}

// policy#36, policy#37, policy#38, policy#39
#[test]
fn what_a_node_proxy_would_drop_is_refused_by_its_place() {
    let at = |field: &str| format!("rules[1].clauses[0].matches[1].{field}");
    let v4 = [10, 0, 0, 1];
    for (one, expected) in [
        (
            WireMatch { source_ips: vec![address(&v4, 32), address(&v4, 33)], ..WireMatch::default() },
            WirePolicyError::Address { field: at("source_ips[1]"), bytes: 4, length: 33 },
        ),
        (
            WireMatch { not_source_ips: vec![address(&[], 0)], ..WireMatch::default() },
            WirePolicyError::Address { field: at("not_source_ips[0]"), bytes: 0, length: 0 },
        ),
        (
            WireMatch { destination_ips: vec![address(&[0; 16], 129)], ..WireMatch::default() },
            WirePolicyError::Address { field: at("destination_ips[0]"), bytes: 16, length: 129 },
        ),
        // Cut to eight bits, that would be 24.
        (
            WireMatch { not_destination_ips: vec![address(&v4, 280)], ..WireMatch::default() },
            WirePolicyError::Address { field: at("not_destination_ips[0]"), bytes: 4, length: 280 },
        ),
        // Cut to sixteen, 80.
        (
            WireMatch { destination_ports: vec![80, 65616], ..WireMatch::default() },
            WirePolicyError::Port { field: at("destination_ports[1]"), port: 65616 },
        ),
        (
            WireMatch { not_destination_ports: vec![u32::MAX], ..WireMatch::default() },
            WirePolicyError::Port { field: at("not_destination_ports[0]"), port: u32::MAX },
        ),
        (
            WireMatch { principals: vec![Some(StringMatch::Presence), None], ..WireMatch::default() },
            WirePolicyError::StringMatch { field: at("principals[1]") },
        ),
        (
            WireMatch { not_namespaces: vec![None], ..WireMatch::default() },
            WirePolicyError::StringMatch { field: at("not_namespaces[0]") },
        ),
    ] {
        for action in [0, 1] {
            assert_eq!(Policy::try_from(&policy(action, one.clone())), Err(expected.clone()));
        }
    }
    let usable = policy(0, WireMatch { source_ips: vec![address(&v4, 0)], ..WireMatch::default() });
    for number in [-1, 2, 7, i32::MAX] {
        let error = Policy::try_from(&WirePolicy { action: number, ..usable.clone() }).unwrap_err();
        assert_eq!(error, WirePolicyError::Action { action: number });
    }
    for number in [-1, 3, i32::MIN] {
        let error = Policy::try_from(&WirePolicy { scope: number, ..usable.clone() }).unwrap_err();
        assert_eq!(error, WirePolicyError::Scope { scope: number });
    }
    for (namespace, name) in [("", "p"), ("shop", ""), ("shop", "a/b")] {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let error = Policy::try_from(&WirePolicy { namespace, name, ..usable.clone() }).unwrap_err();
        assert!(matches!(error, WirePolicyError::Name(_)), "{error}");
    }
    let good = Policy::try_from(&usable).unwrap();
    assert_eq!((good.action, good.scope, good.rules.len()), (Action::Allow, Scope::Namespace, 2));
}

// policy#36, policy#39: refused, and what was good stays.
#[test]
fn the_last_good_version_stays() {
    let mut policies = ReceivedPolicies::new(MissingPolicy::Deny);
    // Its first rule has no clauses, and allows everything.
    let good = policy(0, WireMatch::default());
    assert_eq!(policies.apply([PolicyChange::Upsert(good.clone())]), []);
    let broken = policy(0, WireMatch { destination_ports: vec![65616], ..WireMatch::default() });
    let other = WirePolicy { name: "other".into(), ..good.clone() };
    let refused = policies.apply([PolicyChange::Upsert(broken.clone()), PolicyChange::Upsert(other.clone())]);
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].policy.as_str(), refused[0].in_place), ("shop/p", InPlace::LastGood));
    assert_eq!(policies.set().get(&"shop/p".parse().unwrap()), Some(&Policy::try_from(&good).unwrap()));
    // The others of the batch are in force.
    assert_eq!(policies.set().len(), 2);
    assert_eq!((verdict(&policies, "shop", &[]), policies.closed().len()), (Verdict::Allow, 0));
    // Once it is gone, there is no good one left.
    let gone = [PolicyChange::Remove("shop/p".parse().unwrap()), PolicyChange::Upsert(broken)];
    assert_eq!(policies.apply(gone)[0].in_place, InPlace::Closed);
    assert_eq!(policies.closed().map(ToString::to_string).collect::<Vec<_>>(), ["shop/p"]);
}

// policy#36, policy#39: and where nothing was, what stands in fails closed.
#[test]
fn without_a_good_version_it_fails_closed() {
    let bad = WireMatch { destination_ports: vec![65616], ..WireMatch::default() };
    let start = |sent: WirePolicy| {
        let mut policies = ReceivedPolicies::new(MissingPolicy::Deny);
        let refused = policies.apply([PolicyChange::Upsert(sent)]);
        (policies, refused[0].in_place)
    };
    // An ALLOW matches nothing, and still denies what no other allows.
    let (mut policies, in_place) = start(policy(0, bad.clone()));
    assert_eq!((in_place, verdict(&policies, "shop", &[])), (InPlace::Closed, Verdict::Deny));
    assert_eq!(verdict(&policies, "bank", &[]), Verdict::Allow);
    let allow = WirePolicy { name: "allow".into(), ..policy(0, WireMatch::default()) };
    assert_eq!(policies.apply([PolicyChange::Upsert(allow)]), []);
    assert_eq!(verdict(&policies, "shop", &[]), Verdict::Allow);
    // A second version that is broken otherwise is stood in for anew: the first was never good.
    let refused = policies.apply([PolicyChange::Upsert(policy(1, bad.clone()))]);
    assert_eq!((refused[0].in_place, verdict(&policies, "shop", &[])), (InPlace::Closed, Verdict::Deny));
    assert_eq!(policies.apply([PolicyChange::Upsert(policy(0, WireMatch::default()))]), []);
    assert_eq!((verdict(&policies, "shop", &[]), policies.closed().len()), (Verdict::Allow, 0));
    // What may have been a DENY is one; of an unknown scope, in its namespace and where it is listed.
    for sent in [
        policy(1, bad.clone()),
        WirePolicy { action: 9, ..policy(0, WireMatch::default()) },
        WirePolicy { scope: 9, ..policy(1, WireMatch::default()) },
    ] {
        let (policies, _) = start(sent);
        assert_eq!(verdict(&policies, "shop", &[]), Verdict::Deny);
        assert_eq!(verdict(&policies, "bank", &["shop/p".parse().unwrap()]), Verdict::Deny);
        assert_eq!(verdict(&policies, "bank", &[]), Verdict::Allow);
    }
    // In dry run it stays, and without a name there is nothing to hold anything by.
    let (policies, _) = start(WirePolicy { dry_run: true, ..policy(1, bad.clone()) });
    assert_eq!(verdict(&policies, "shop", &[]), Verdict::Allow);
    let (policies, in_place) = start(WirePolicy { name: String::new(), ..policy(1, bad) });
    assert_eq!((in_place, policies.set().len()), (InPlace::Nothing, 0));
}

fn any_policy() -> impl Strategy<Value = WirePolicy> {
    let string = prop_oneof![
        4 => Just(Some(StringMatch::Prefix("example".into()))),
        1 => Just(None),
    ];
    let range = (select(vec![4, 4, 16, 3]), any::<u8>(), 0_u32..140)
        .prop_map(|(bytes, byte, length)| WireAddress { address: vec![byte; bytes], length });
    let one = (vec(string, 0..3), vec(range, 0..3), vec(select(vec![80, 443, 65616]), 0..3)).prop_map(
        |(principals, source_ips, destination_ports)| WireMatch {
            principals,
            source_ips,
            destination_ports,
            ..WireMatch::default()
        },
    );
    let rules = vec(vec(vec(one, 0..3).prop_map(|matches| WireClause { matches }), 0..3), 0..3);
    (rules, -1..3_i32, -1..4_i32, select(vec!["a", "b", ""])).prop_map(|(rules, action, scope, name)| {
        WirePolicy {
            namespace: "shop".into(),
            name: name.into(),
            scope,
            action,
            rules: rules.into_iter().map(|clauses| WireRule { clauses }).collect(),
            dry_run: false,
        }
    })
}

proptest! {
    // Whatever arrives, in whatever order: the set has for each name the last good version, or what fails closed.
    #[test]
    fn the_set_is_what_was_good_or_closed(sent in vec(any_policy(), 0..12)) {
        let mut policies = ReceivedPolicies::new(MissingPolicy::Deny);
        let refused = policies.apply(sent.iter().cloned().map(PolicyChange::Upsert));
        let bad = sent.iter().filter(|one| Policy::try_from(*one).is_err());
        prop_assert_eq!(refused.len(), bad.count());
        for name in ["shop/a", "shop/b"].map(|name| name.parse::<PolicyName>().unwrap()) {
            let of_name = sent.iter().filter(|one| one.name == name.name());
            let last_good = of_name.clone().rev().find_map(|one| Policy::try_from(one).ok());
            let closed = policies.closed().any(|closed| *closed == name);
            match (last_good, policies.set().get(&name)) {
                (Some(good), Some(found)) => prop_assert!(!closed && good == *found),
                (None, Some(found)) => {
                    prop_assert!(closed);
                    prop_assert_eq!(found.rules.len(), usize::from(found.action == Action::Deny));
                    prop_assert!(found.rules.iter().all(|rule| rule.clauses.is_empty()));
                }
                (None, None) => prop_assert_eq!(of_name.count(), 0),
                (Some(good), None) => prop_assert!(false, "{:?} is gone", good),
            }
        }
    }
}
