//! What each field of a match is compared with.

mod support;

use mesh_policy::{Match, StringMatch};
use support::*;

const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

// policy#22, policy#23, policy#24, policy#30
#[test]
fn a_principal_is_the_id_without_its_scheme() {
    for (pattern, expected) in [
        (exact("example.org/ns/shop/sa/cart"), true),
        (exact(CART), false),
        (exact("example.org/ns/shop/sa/Cart"), false),
        (exact("example.org/ns/shop/sa/car"), false),
        (exact("*"), false),
        (prefix("example.org/ns/shop/"), true),
        (prefix("spiffe://"), false),
        (prefix("example.org/ns/bank/"), false),
        (prefix(""), true),
        (suffix("/sa/cart"), true),
        (suffix("/sa/pay"), false),
        (suffix(""), true),
        (StringMatch::Presence, true),
    ] {
        assert_eq!(matches(principals(vec![pattern.clone()]), &Call::by(CART)), expected, "{pattern:?}");
        assert_eq!(matches(not_principals(vec![pattern.clone()]), &Call::by(CART)), !expected, "{pattern:?}");
    }
}

// policy#24, policy#25
#[test]
fn a_peer_without_identity_has_no_principal() {
    let any =
        [exact(""), prefix(""), suffix(""), StringMatch::Presence, exact("example.org/ns/shop/sa/cart")];
    for pattern in any {
        assert!(!matches(principals(vec![pattern.clone()]), &Call::plaintext()), "{pattern:?}");
        assert!(matches(not_principals(vec![pattern.clone()]), &Call::plaintext()), "{pattern:?}");
    }
}

#[test]
fn an_id_of_another_form_is_no_identity() {
    for id in ["spiffe://example.org", "spiffe://example.org/cart", "spiffe://example.org/ns/shop/sa/cart/x"]
    {
        let call = Call::by(id);
        assert!(!matches(principals(vec![StringMatch::Presence]), &call), "{id}");
        assert!(matches(not_principals(vec![StringMatch::Presence]), &call), "{id}");
        assert!(!matches(namespaces(vec![exact("shop")]), &call), "{id}");
    }
}

// policy#26, policy#27, policy#30
#[test]
fn a_namespace_is_the_peers() {
    let not = |pattern| Match { not_namespaces: vec![pattern], ..Match::default() };
    for (pattern, with_identity, plaintext) in [
        (exact("shop"), true, false),
        (exact("Shop"), false, false),
        // That of the destination.
        (exact("bank"), false, false),
        (exact(""), false, true),
        (prefix("sh"), true, false),
        (prefix("ba"), false, false),
        (prefix(""), true, true),
        (suffix("op"), true, false),
        (suffix("nk"), false, false),
        (suffix(""), true, true),
        (StringMatch::Presence, true, false),
    ] {
        for (call, expected) in [(Call::by(CART), with_identity), (Call::plaintext(), plaintext)] {
            assert_eq!(matches(namespaces(vec![pattern.clone()]), &call), expected, "{pattern:?} {call:?}");
            assert_eq!(matches(not(pattern.clone()), &call), !expected, "{pattern:?} {call:?}");
        }
    }
}

// policy#28, policy#29, policy#30
#[test]
fn a_service_account_has_two_parts_and_any_trust_domain() {
    let has = |account| Match { service_accounts: vec![account], ..Match::default() };
    let not = |account| Match { not_service_accounts: vec![account], ..Match::default() };
    for call in [Call::by(CART), Call::by("spiffe://other.example/ns/shop/sa/cart")] {
        for (one, expected) in [
            (account("shop", "cart"), true),
            (account("shop", "Cart"), false),
            (account("shop", "pay"), false),
            (account("bank", "cart"), false),
            (account("", "cart"), false),
            (account("cart", "shop"), false),
        ] {
            assert_eq!(matches(has(one.clone()), &call), expected, "{one}");
            assert_eq!(matches(not(one.clone()), &call), !expected, "{one}");
        }
    }
    for one in [account("shop", "cart"), account("", "")] {
        assert!(!matches(has(one.clone()), &Call::plaintext()), "{one}");
        assert!(matches(not(one.clone()), &Call::plaintext()), "{one}");
    }
}

// policy#31, policy#32, policy#33
#[test]
fn address_ranges_hold_their_own_family() {
    for (range, address, expected) in [
        ("192.0.2.0/24", "192.0.2.1", true),
        ("192.0.2.0/24", "198.51.100.1", false),
        ("192.0.2.1/32", "192.0.2.1", true),
        ("192.0.2.1/32", "192.0.2.2", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "192.0.2.1", false),
        ("2001:db8::1/128", "2001:db8::1", true),
        ("2001:db8::1/128", "2001:db8::2", false),
        ("2001:db8::/64", "2001:db8::ffff", true),
        ("2001:db8::/64", "2001:db8:0:1::1", false),
        // Host bits are masked.
        ("192.0.2.77/24", "192.0.2.1", true),
        ("2001:db8::77/64", "2001:db8::1", true),
        // A mapped address is an IPv4 address.
        ("192.0.2.0/24", "::ffff:192.0.2.1", true),
        ("::/0", "::ffff:192.0.2.1", false),
        // A mapped range is an IPv6 range, and so holds none.
        ("::ffff:192.0.2.1/128", "::ffff:192.0.2.1", false),
        ("::ffff:192.0.2.1/128", "192.0.2.1", false),
    ] {
        let (ranges, port) = (vec![range.parse().unwrap()], 8080);
        let from = Call::default().from(address);
        let to = Call { destination: (from.source, port).into(), ..Call::default() };
        for (call, one) in [
            (&from, Match { source_ips: ranges.clone(), ..Match::default() }),
            (&to, Match { destination_ips: ranges.clone(), ..Match::default() }),
        ] {
            assert_eq!(matches(one, call), expected, "{range} {address}");
        }
        for (call, one) in [
            (&from, Match { not_source_ips: ranges.clone(), ..Match::default() }),
            (&to, Match { not_destination_ips: ranges.clone(), ..Match::default() }),
        ] {
            assert_eq!(matches(one, call), !expected, "{range} {address}");
        }
    }
}

// policy#34
#[test]
fn the_port_is_that_of_the_destination() {
    for port in [0, 1, 8080, u16::MAX] {
        let call = Call::default().on_port(port);
        assert!(matches(ports(&[port]), &call));
        assert!(!matches(ports(&[port ^ 1]), &call));
    }
}

// policy#35
#[test]
fn excluded_ports_are_exempt() {
    assert!(!matches(not_ports(&[8080, 8081]), &Call::default().on_port(8080)));
    assert!(matches(not_ports(&[8080, 8081]), &Call::default().on_port(8082)));
}
