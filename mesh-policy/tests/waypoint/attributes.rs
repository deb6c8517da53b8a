//! Each attribute, and each form of its values.

use mesh_policy::{
    Semantics::{Istio, Strict},
    Verdict,
    object::{Action, AuthorizationPolicy, Operation, Rule, Source},
    waypoint::{ClaimValue, ForwardedFor, Headers, RequestFacts},
};

use crate::support::*;

// Who is denied a host writes it in another way.
#[test]
fn strictly_no_way_to_write_a_host_leads_around_a_deny() {
    let excluded = |value: &str| Rule {
        to: vec![Operation { not_hosts: vec![value.to_owned()], ..Operation::default() }],
        ..Rule::default()
    };
    for (value, host, wide) in [
        ("example.com", "example.com:80", true),
        ("example.com", "example.com.", true),
        ("example.com", "EXAMPLE.com.:8443", true),
        ("example.com:443", "example.com", true),
        ("example.com:443", "example.com:80", false),
        ("*.example.com", "a.example.com:80", true),
        ("example.com", "example.com.evil.org", false),
    ] {
        let call = Call { authority: Some(host.to_owned()), ..get("/") };
        let denied = |semantics, set: &AuthorizationPolicy| {
            let set = requests(semantics, std::slice::from_ref(set));
            reason_of(&set, &call, |reason| reason.verdict()) == Verdict::Deny
        };
        let by_deny = policy(Action::Deny, "p", vec![to(vec![hosts(&[value])])]);
        let by_exclusion = policy(Action::Allow, "p", vec![excluded(value)]);
        for policy in [by_deny, by_exclusion] {
            assert_eq!(denied(Strict, &policy), wide, "{policy:?} {host}");
            assert!(!denied(Istio, &policy), "{policy:?} {host}");
        }
        // What lets in does so for what is written: no ALLOW is wider, and no exception of a DENY.
        let by_allow = policy(Action::Allow, "p", vec![to(vec![hosts(&[value])])]);
        let by_exception = policy(Action::Deny, "p", vec![excluded(value)]);
        for policy in [by_allow, by_exception] {
            assert!(denied(Strict, &policy) && denied(Istio, &policy), "{policy:?} {host}");
        }
    }
}

// policy#65, policy#66, policy#67
#[test]
fn hosts_are_compared_without_case_and_with_their_port() {
    for (value, host, expected) in [
        ("example.com", "Example.COM", true),
        ("Example.COM", "example.com", true),
        ("h", "h:8080", false),
        ("h:*", "h:8080", true),
        ("h:*", "h", false),
        ("*.EXAMPLE.com", "cart.example.COM", true),
        ("CART*", "cart.example.com", true),
        ("*", "cart", true),
        ("*", "", true),
        ("example.com", "example.com.", false),
        ("example.com.", "example.com.", true),
        ("example.com.", "example.com", false),
        ("example.com*", "example.com.", true),
        ("*.example.com", "a.example.com.", false),
        ("*.example.com", "a.example.com:80", false),
        ("example.com:80", "EXAMPLE.com:80", true),
        ("[2001:db8::1]:80", "[2001:DB8::1]:80", true),
        ("example.com", " example.com", false),
    ] {
        let call = Call { authority: Some(host.to_owned()), ..get("/") };
        let rule = to(vec![hosts(&[value])]);
        assert_eq!(matches(Istio, &rule, &call), expected, "{value} {host}");
        // Strictly, a DENY matches more.
        assert_eq!(admits(Strict, &[allow(vec![rule])], &call), expected, "{value} {host}");
    }
    let without = Call { authority: None, ..get("/") };
    assert!(!matches_by_both(&to(vec![hosts(&["*"])]), &without));
}

// policy#68
#[test]
fn methods_are_compared_with_case() {
    for (value, expected) in
        [("GET", true), ("get", false), ("G*", true), ("*T", true), ("*", true), ("POST", false)]
    {
        assert_eq!(matches_by_both(&to(vec![methods(&[value])]), &get("/")), expected, "{value}");
    }
    for (value, method, expected) in [
        ("GET", "get", false),
        ("get", "get", true),
        ("PURGE", "PURGE", true),
        ("PURGE", "purge", false),
        ("P*", "PROPFIND", true),
        ("M-SEARCH", "M-SEARCH", true),
        ("*", "X-CUSTOM", true),
        ("*", "", true),
        ("GET", "", false),
        ("GET", " GET", false),
    ] {
        let call = Call { method: method.to_owned(), ..get("/") };
        assert_eq!(matches_by_both(&to(vec![methods(&[value])]), &call), expected, "{value} {method}");
    }
}

// policy#69, policy#70, policy#71, policy#72, policy#73, and part D 6
#[test]
fn paths_are_compared_without_their_query() {
    for (value, path, expected) in [
        ("/a", "/a", true),
        ("/a", "/a?b=/c", true),
        ("/a", "/a/", false),
        ("/a*", "/ab", true),
        ("*.txt", "/a.txt?x", true),
        ("*.txt", "/a?x=.txt", false),
        ("*", "/", true),
        ("/A", "/a", false),
        ("/foo/{*}", "/foo/a?x", true),
        ("/foo/{*}", "/foo/a/b", false),
        ("/foo/{**}/", "/foo//", true),
        ("/foo/{**}/", "/foo/bar/baz.txt", false),
        ("/foo/{*}/bar/{**}", "/foo/x/bar/", true),
        ("/{**}/end", "/end", false),
    ] {
        assert_eq!(matches_by_both(&to(vec![paths(&[value])]), &get(path)), expected, "{value} {path}");
    }
}

// policy#10, policy#11, policy#12 at requests
#[test]
fn fields_and_values_or_and_negations() {
    let operation = Operation { not_paths: texts(&["/a/secret"]), ..paths(&["/a/*", "/b"]) };
    for (path, expected) in [("/a/x", true), ("/b", true), ("/a/secret", false), ("/c", false)] {
        assert_eq!(matches_by_both(&to(vec![operation.clone()]), &get(path)), expected, "{path}");
    }
    let both = Operation { methods: texts(&["POST"]), ..paths(&["/b"]) };
    assert!(!matches_by_both(&to(vec![both.clone()]), &get("/b")));
    assert!(matches_by_both(&to(vec![both, paths(&["/c", "/b"])]), &get("/b")), "any operation");
    let mut rule = to(vec![paths(&["/b"])]);
    rule.from = vec![principals(&["example.org/ns/shop/sa/other"])];
    assert!(!matches_by_both(&rule, &get("/b")), "sources and operations");
    rule.from.push(principals(&["example.org/ns/shop/sa/web"]));
    rule.when = vec![condition("source.ip", &["192.0.2.0/24"]), condition("source.ip", &["192.0.2.1"])];
    assert!(matches_by_both(&rule, &get("/b")));
    rule.when.push(condition("destination.port", &["80"]));
    assert!(!matches_by_both(&rule, &get("/b")), "all conditions");
}

// policy#79, policy#80, policy#81, and part D 1, 13
#[test]
fn headers_are_compared_line_by_line() {
    let call = get("/").with_header("x-tenant", "a").with_header("X-Tenant", "b");
    for (value, expected) in
        [("a", true), ("b", true), ("a,b", false), ("A", false), ("*", true), ("c", false)]
    {
        assert_eq!(matches_by_both(&when("request.headers[X-TENANT]", &[value]), &call), expected, "{value}");
    }
    assert!(!matches_by_both(&when_not("request.headers[x-tenant]", &["b"]), &call), "one line is enough");
    let joined = get("/").with_header("x-tenant", "a,b");
    assert!(matches_by_both(&when("request.headers[x-tenant]", &["a,b"]), &joined));
    assert!(!matches_by_both(&when("request.headers[x-tenant]", &["a", "b"]), &joined), "never split");
    assert!(matches_by_both(
        &when("request.headers[x-tenant]", &["*"]),
        &get("/").with_header("x-tenant", "")
    ));
    assert!(!matches_by_both(&when("request.headers[x-tenant]", &["*"]), &get("/")));
    assert!(matches_by_both(&when_not("request.headers[x-tenant]", &["*"]), &get("/")));
    assert!(matches_by_both(&when("request.headers[Host]", &["cart.example.com"]), &get("/")));
    assert!(matches_by_both(&when("request.headers[:method]", &["GET"]), &get("/")));
    assert!(matches_by_both(&when("request.headers[:path]", &["/?q"]), &get("/?q")));
}

// part B4: Envoy keeps one header joined.
#[test]
fn user_agents_are_joined_by_istios_reading_only() {
    let call = get("/").with_header("user-agent", "a").with_header("User-Agent", "b");
    for (value, istio, strict) in
        [("a,b", true, false), ("a", false, true), ("a*", true, true), ("*,b", true, false)]
    {
        let rule = when("request.headers[user-agent]", &[value]);
        assert_eq!((matches(Istio, &rule, &call), matches(Strict, &rule, &call)), (istio, strict), "{value}");
    }
}

#[test]
fn header_maps_are_read_like_lines() {
    let mut map = http::HeaderMap::new();
    map.append("x-tenant", "a".parse().unwrap());
    map.append("x-tenant", "b".parse().unwrap());
    let set = requests(Strict, &[deny(vec![when("request.headers[X-Tenant]", &["b"])])]);
    let denied = get("/").with_facts(|facts| {
        let facts = RequestFacts { headers: Headers::Map(&map), ..*facts };
        set.evaluate_request(&facts).without_providers().reason().rule()
    });
    assert_eq!(denied, Some(0));
}

// policy#82, policy#83, policy#87, policy#106, and part D 5
#[test]
fn request_principals_are_issuer_and_subject() {
    let by = |issuer: &str, subject: &str| get("/").with_claims(&token(issuer, subject));
    let alice = by("https://iss.example.org/realm", "alice");
    for (value, expected) in [
        ("*", true),
        ("https://iss.example.org/realm/alice", true),
        ("https://iss.example.org/realm/*", true),
        ("https://iss.example.org/realm/al*", true),
        ("*/alice", true),
        ("*/realm/alice", true),
        ("*ice", true),
        ("iss*", false),
        ("https://iss.example.org/*", false),
    ] {
        let rule = from(vec![Source { request_principals: texts(&[value]), ..Source::default() }]);
        assert_eq!(matches_by_both(&rule, &alice), expected, "{value}");
        assert_eq!(matches_by_both(&when("request.auth.principal", &[value]), &alice), expected, "{value}");
    }
    for (value, call, expected) in [
        ("*/*", alice.clone(), false),
        ("*/*", by("x", "*"), true),
        ("plain", by("plain", ""), true),
        ("plain", by("plain", "alice"), false),
        ("https://iss*", by("https:/", "issue"), true),
    ] {
        assert_eq!(matches(Istio, &when("request.auth.principal", &[value]), &call), expected, "{value}");
    }
    let anyone = |negated: bool| {
        let values = texts(&["*"]);
        from(vec![match negated {
            false => Source { request_principals: values, ..Source::default() },
            true => Source { not_request_principals: values, ..Source::default() },
        }])
    };
    assert!(!matches_by_both(&anyone(false), &get("/")), "no token");
    assert!(matches_by_both(&anyone(true), &get("/")), "no token");
    assert!(!matches_by_both(&anyone(false), &by("", "")));
}

// policy#84, policy#85, policy#86, and part D 12
#[test]
fn claims_are_texts_and_lists_of_texts() {
    let list = |texts: &[&str]| ClaimValue::List(texts.iter().map(|text| (*text).into()).collect());
    let call = get("/").with_claims(&[
        ("aud", list(&["cart", "web"])),
        ("azp", "cli".into()),
        ("group", "admin".into()),
        ("groups", list(&["dev", "admin"])),
        ("realm", object(&[("roles", list(&["owner"])), ("deep", object(&[("er", "x".into())]))])),
        ("a.b", "dotted".into()),
        ("n", ClaimValue::Other),
        ("mixed", ClaimValue::List(vec![ClaimValue::Other, list(&["inner"]), "outer".into()])),
        ("empty", "".into()),
    ]);
    for (key, value, expected) in [
        ("request.auth.audiences", "web", true),
        ("request.auth.audiences", "we*", true),
        ("request.auth.audiences", "other", false),
        ("request.auth.presenter", "cli", true),
        ("request.auth.claims[group]", "admin", true),
        ("request.auth.claims[group]", "Admin", false),
        ("request.auth.claims[groups]", "admin", true),
        ("request.auth.claims[groups]", "dev,admin", false),
        ("request.auth.claims[realm][roles]", "own*", true),
        ("request.auth.claims[realm][deep][er]", "x", true),
        ("request.auth.claims[realm]", "*", false),
        ("request.auth.claims[a.b]", "dotted", true),
        ("request.auth.claims[a][b]", "*", false),
        ("request.auth.claims[n]", "*", false),
        ("request.auth.claims[mixed]", "outer", true),
        ("request.auth.claims[mixed]", "inner", false),
        ("request.auth.claims[empty]", "*", false),
        ("request.auth.claims[absent]", "*", false),
    ] {
        assert_eq!(matches_by_both(&when(key, &[value]), &call), expected, "{key} {value}");
        assert_eq!(matches_by_both(&when_not(key, &[value]), &call), !expected, "{key} {value}");
    }
    assert!(!matches_by_both(&when("request.auth.audiences", &["*"]), &get("/")));
}

// policy#24, policy#25, policy#94, policy#95, and part D 14
#[test]
fn principals_are_peers_without_their_scheme() {
    let web = "spiffe://example.org/ns/shop/sa/web";
    for (value, peer, expected) in [
        ("example.org/ns/shop/sa/web", web, true),
        ("example.org/ns/shop/*", web, true),
        ("*/sa/web", web, true),
        ("*", web, true),
        ("*", "", false),
        ("example.org/ns/shop/sa/w", web, false),
        ("spiffe://example.org/ns/shop/sa/web", web, false),
        ("cluster.local/ns/shop/sa/web", web, true),
        ("cluster.local/ns/shop/sa/web", "spiffe://old.example.org/ns/shop/sa/web", true),
        ("old.example.org/ns/shop/sa/web", web, true),
        ("example.org/ns/shop/sa/web", "spiffe://old.example.org/ns/shop/sa/web", true),
        ("example.net/ns/shop/sa/web", web, false),
        ("cluster.local/*", web, false),
    ] {
        let rule = from(vec![principals(&[value])]);
        assert_eq!(matches_by_both(&rule, &get("/").by(peer)), expected, "{value} {peer}");
        let not = from(vec![Source { not_principals: texts(&[value]), ..Source::default() }]);
        assert_eq!(matches_by_both(&not, &get("/").by(peer)), !expected, "{value} {peer}");
        assert_eq!(
            matches_by_both(&when("source.principal", &[value]), &get("/").by(peer)),
            expected,
            "{value}"
        );
    }
}

// policy#92, policy#93, and part D 8
#[test]
fn of_odd_identities_strict_semantics_see_principal_and_trust_domain() {
    let cases = [
        ("source.namespace", "b", "spiffe://example.org/ns/a/ns/b/sa/c", true),
        ("source.namespace", "a", "spiffe://example.org/ns/a/ns/b/sa/c", true),
        ("source.namespace", "shop", "https://example.org/ns/shop/sa/web", true),
        ("source.namespace", "shop", "spiffe://example.org/ns/shop", false),
        ("source.serviceAccount", "shop/web", "spiffe://example.org/x/ns/shop/y/sa/web/z", true),
        ("source.serviceAccount", "shop/web", "https://example.org/ns/shop/sa/web", false),
        ("source.principal", "*", "https://example.org/web", true),
        ("source.principal", "example.org/web", "spiffe://example.org/web", true),
        ("source.trustDomain", "*", "spiffe://example.org", true),
        ("source.trustDomain", "example.org", "spiffe://example.org", false),
        ("source.trustDomain", "example.org", "spiffe://example.org/web", true),
        ("source.trustDomain", "*", "https://example.org/web", false),
    ];
    for (key, value, peer, istio) in cases {
        let rule = when(key, &[value]);
        assert_eq!(matches(Istio, &rule, &get("/").by(peer)), istio, "{key} {value} {peer}");
        let call = get("/").by(peer);
        let denies = |rule| !admits(Strict, &[deny(vec![rule])], &call);
        let allows = |rule| admits(Strict, &[allow(vec![rule])], &call);
        if ["source.namespace", "source.serviceAccount"].contains(&key) {
            // Neither has nor lacks any: nobody knows.
            assert!(denies(rule.clone()) && denies(when_not(key, &[value])), "{key} {value} {peer}");
            assert!(!allows(rule) && !allows(when_not(key, &[value])), "{key} {value} {peer}");
        } else {
            assert_eq!((denies(rule.clone()), allows(rule)), (istio, istio), "{key} {value} {peer}");
        }
    }
    // Authenticated, so not what a policy against plaintext is about.
    let plaintext_only =
        deny(vec![from(vec![Source { not_principals: texts(&["*"]), ..Source::default() }])]);
    assert!(admits(Strict, &[plaintext_only], &get("/").by("spiffe://example.org/batch/7")));
    let web = "spiffe://example.org/ns/shop/sa/a-b";
    for (key, value, expected) in [
        ("source.serviceAccount", "a.b", false),
        ("source.serviceAccount", "a-b", true),
        ("source.serviceAccount", "bank/a-b", false),
        ("source.namespace", "sh.p", false),
        ("source.namespace", "s*p", true),
        ("source.namespace", "*", true),
        ("source.trustDomain", "example.org", true),
        ("source.trustDomain", "old.example.org", true),
        ("source.trustDomain", "ex*", true),
        ("source.trustDomain", "cluster.local", false),
    ] {
        assert_eq!(matches_by_both(&when(key, &[value]), &get("/").by(web)), expected, "{key} {value}");
        let is_absent = !matches_by_both(&when(key, &[value]), &get("/").by(""));
        assert!(is_absent && matches_by_both(&when_not(key, &[value]), &get("/").by("")), "plaintext");
    }
}

// policy#31 to policy#33, policy#89, and part D 9
#[test]
fn addresses_are_those_of_peer_client_and_destination() {
    for (key, value, expected) in [
        ("source.ip", "192.0.2.1", true),
        ("source.ip", "192.0.2.77/24", true),
        ("source.ip", "203.0.113.1", false),
        ("source.ip", "::/0", false),
        ("remote.ip", "203.0.113.0/24", true),
        ("remote.ip", "192.0.2.1", false),
        ("destination.ip", "192.0.2.2/32", true),
        ("destination.ip", "192.0.2.1/32", false),
    ] {
        assert_eq!(matches_by_both(&when(key, &[value]), &get("/")), expected, "{key} {value}");
    }
    let mapped = Call { source: "::ffff:192.0.2.1".parse().unwrap(), ..get("/") };
    assert!(matches_by_both(&when("source.ip", &["192.0.2.1"]), &mapped));
    assert!(!matches(Istio, &when("source.ip", &["::ffff:192.0.2.1"]), &get("/")));
    let source = Source {
        ip_blocks: texts(&["192.0.2.1"]),
        not_remote_ip_blocks: texts(&["203.0.113.2"]),
        ..Source::default()
    };
    assert!(matches_by_both(&from(vec![source]), &get("/")));
}

// policy#90
#[test]
fn a_spoofed_entry_does_not_change_the_client() {
    let gateway = ForwardedFor { trusted_hops: 1, use_remote_address: true };
    let rule = from(vec![Source { remote_ip_blocks: texts(&["10.0.0.0/8"]), ..Source::default() }]);
    let remote = gateway.client("192.0.2.1".parse().unwrap(), ["10.1.1.1, 203.0.113.9"]);
    assert!(!matches_by_both(&rule, &Call { remote, ..get("/") }));
}

// policy#91, and part D 7, 13
#[test]
fn server_names_reach_policies_in_lower_case() {
    let named = |sni: Option<&str>| Call { sni: sni.map(str::to_owned), ..get("/") };
    for (value, sni, istio, strict) in [
        ("cart.example.org", Some("Cart.Example.org"), true, true),
        ("*.example.org", Some("cart.example.org"), true, true),
        ("cart*", Some("CART.example.org"), true, true),
        ("Cart.example.org", Some("Cart.example.org"), false, true),
        ("*", Some("x"), true, true),
        ("*", Some(""), false, false),
        ("*", None, false, false),
    ] {
        let rule = when("connection.sni", &[value]);
        assert_eq!(
            (matches(Istio, &rule, &named(sni)), matches(Strict, &rule, &named(sni))),
            (istio, strict),
            "{value}"
        );
    }
}

#[test]
fn notes_of_filters_are_texts_or_lists() {
    let with =
        |note| Call { metadata: vec![("envoy.filters.a.b".to_owned(), "k".to_owned(), note)], ..get("/") };
    let list = || ClaimValue::List(vec!["x".into(), "y".into()]);
    let key = "experimental.envoy.filters.a.b[k]";
    for (value, note, expected) in
        [("x", "x".into(), true), ("[x]", "x".into(), false), ("[y]", list(), true), ("y", list(), false)]
    {
        assert_eq!(matches_by_both(&when(key, &[value]), &with(note)), expected, "{value}");
    }
    assert!(!matches_by_both(&when("experimental.envoy.filters.a.b[other]", &["*"]), &with("x".into())));
}

#[test]
fn ports_are_numbers() {
    assert!(matches_by_both(&to(vec![ports(&["80", "8080"])]), &get("/")));
    assert!(!matches_by_both(
        &to(vec![Operation { not_ports: texts(&["8080"]), ..Operation::default() }]),
        &get("/")
    ));
    assert!(matches_by_both(&when("destination.port", &["8080"]), &get("/")));
}
