//! Any policy, any rule, all clauses, any match, all fields; and what emptiness means at each level.

mod support;

use mesh_policy::{Match, Reason, Verdict};
use support::*;

// policy#1
#[test]
fn no_policies_allow() {
    for call in [Call::default(), Call::plaintext()] {
        assert_eq!(call.decide(&set([])).reason(), Reason::NoAllowPolicies);
    }
}

// policy#2
#[test]
fn an_allow_without_rules_denies_all() {
    for call in [Call::default(), Call::plaintext()] {
        assert_eq!(call.decide(&set([allow("bank/none", nothing())])).reason(), Reason::NoneAllowed);
    }
}

// policy#3
#[test]
fn a_deny_without_rules_denies_none() {
    for call in [Call::default(), Call::plaintext()] {
        assert_eq!(verdict([deny("bank/none", nothing())], &call), Verdict::Allow);
    }
}

// policy#4, policy#5
#[test]
fn a_rule_without_clauses_matches_all() {
    for call in [Call::default(), Call::plaintext()] {
        assert!(rules_match(everything(), &call));
    }
}

// policy#6 to policy#10
#[test]
fn the_algebra() {
    let yes = || ports(&[8080]);
    let no = || ports(&[1]);
    let empty = Match::default;
    for (rules, expected) in [
        (vec![], false),
        // One rule: all clauses.
        (vec![vec![]], true),
        (vec![vec![vec![yes()], vec![yes()]]], true),
        (vec![vec![vec![yes()], vec![no()]]], false),
        (vec![vec![vec![no()], vec![yes()]]], false),
        // One clause: any match; without matches true.
        (vec![vec![vec![]]], true),
        (vec![vec![vec![], vec![yes()]]], true),
        (vec![vec![vec![], vec![no()]]], false),
        (vec![vec![vec![yes(), no()]]], true),
        (vec![vec![vec![no(), yes()]]], true),
        (vec![vec![vec![no(), no()]]], false),
        // An empty match is false, and neutral beside others.
        (vec![vec![vec![empty()]]], false),
        (vec![vec![vec![empty(), empty()]]], false),
        (vec![vec![vec![empty(), yes()]]], true),
        (vec![vec![vec![yes(), empty()]]], true),
        (vec![vec![vec![empty(), no()]]], false),
        (vec![vec![vec![empty()], vec![yes()]]], false),
        // Rules: any.
        (vec![vec![vec![no()]], vec![vec![yes()]]], true),
        (vec![vec![vec![yes()]], vec![vec![no()]]], true),
        (vec![vec![vec![no()]], vec![vec![no()]]], false),
        (vec![vec![vec![no()]], vec![]], true),
        (vec![vec![vec![empty()]], vec![vec![yes()]]], true),
    ] {
        assert_eq!(rules_match(rules.clone(), &Call::default()), expected, "{rules:?}");
    }
}

// policy#10
#[test]
fn fields_of_a_match_all_have_to_fit() {
    let fits = Match {
        namespaces: vec![exact("shop")],
        principals: vec![exact("example.org/ns/shop/sa/cart")],
        service_accounts: vec![account("shop", "cart")],
        source_ips: vec!["192.0.2.1/32".parse().unwrap()],
        destination_ips: vec!["192.0.2.2/32".parse().unwrap()],
        destination_ports: vec![8080],
        ..Match::default()
    };
    assert!(matches(fits.clone(), &Call::default()));
    for misses in [
        Match { namespaces: vec![exact("other")], ..fits.clone() },
        Match { principals: vec![exact("other")], ..fits.clone() },
        Match { service_accounts: vec![account("shop", "other")], ..fits.clone() },
        Match { source_ips: vec!["198.51.100.0/24".parse().unwrap()], ..fits.clone() },
        Match { destination_ips: vec!["198.51.100.0/24".parse().unwrap()], ..fits.clone() },
        Match { destination_ports: vec![1], ..fits.clone() },
        Match { not_namespaces: vec![exact("shop")], ..fits.clone() },
        Match { not_principals: vec![exact("example.org/ns/shop/sa/cart")], ..fits.clone() },
        Match { not_service_accounts: vec![account("shop", "cart")], ..fits.clone() },
        Match { not_source_ips: vec!["192.0.2.1/32".parse().unwrap()], ..fits.clone() },
        Match { not_destination_ips: vec!["192.0.2.2/32".parse().unwrap()], ..fits.clone() },
        Match { not_destination_ports: vec![8080], ..fits.clone() },
    ] {
        assert!(!matches(misses.clone(), &Call::default()), "{misses:?}");
    }
}

// policy#10
#[test]
fn of_a_positive_field_one_value_has_to_fit() {
    assert!(matches(ports(&[1, 8080]), &Call::default()));
    assert!(matches(namespaces(vec![exact("a"), prefix("sh")]), &Call::default()));
    assert!(!matches(ports(&[1, 2]), &Call::default()));
}

// policy#11
#[test]
fn of_a_negative_field_no_value_may_fit() {
    assert!(matches(not_ports(&[1, 2]), &Call::default()));
    assert!(!matches(not_ports(&[1, 8080]), &Call::default()));
    assert!(!matches(not_ports(&[8080, 1]), &Call::default()));
}

// policy#12
#[test]
fn a_field_and_its_negation_both_count() {
    let shop_but_not_cart = Match {
        principals: vec![prefix("example.org/ns/shop/")],
        not_principals: vec![suffix("/sa/cart")],
        ..Match::default()
    };
    assert!(!matches(shop_but_not_cart.clone(), &Call::default()));
    assert!(matches(shop_but_not_cart.clone(), &Call::by("spiffe://example.org/ns/shop/sa/pay")));
    assert!(!matches(shop_but_not_cart, &Call::by("spiffe://example.org/ns/bank/sa/pay")));
}
