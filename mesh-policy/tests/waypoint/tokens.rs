//! Which tokens count, and where they are.

use mesh_policy::{
    object::{JwtHeader, JwtRule, Metadata, RequestAuthentication},
    waypoint::{Authentication, TokenRules, TokenState},
};

use crate::support::*;

fn rule(issuer: &str) -> JwtRule {
    JwtRule { issuer: issuer.to_owned(), ..JwtRule::default() }
}

fn rules(jwt_rules: Vec<JwtRule>) -> TokenRules {
    let object = RequestAuthentication {
        metadata: Metadata::named("shop", "tokens"),
        target_refs: vec![service("cart")],
        jwt_rules,
        ..RequestAuthentication::default()
    };
    let elsewhere = RequestAuthentication { target_refs: vec![service("other")], ..object.clone() };
    get("/").with_facts(|facts| TokenRules::new([&object, &elsewhere], &facts.stream.target, &mesh()))
}

fn found(rules: &TokenRules, call: &Call) -> Vec<(String, String)> {
    call.with_facts(|facts| {
        rules.tokens(facts).map(|token| (token.rule.issuer.clone(), token.text.to_owned())).collect()
    })
}

#[test]
fn tokens_are_bearers_or_parameters_unless_a_rule_says_otherwise() {
    let default = rules(vec![rule("iss")]);
    let call = get("/?x=1&access_token=b")
        .with_header("authorization", "Bearer a")
        .with_header("Authorization", "Basic c");
    assert_eq!(
        found(&default, &call),
        [("iss".to_owned(), "a".to_owned()), ("iss".to_owned(), "b".to_owned())]
    );
    let own = rules(vec![JwtRule {
        from_headers: vec![JwtHeader { name: "X-Token".to_owned(), prefix: "t:".to_owned() }],
        from_params: vec!["tok".to_owned()],
        from_cookies: vec!["session".to_owned()],
        ..rule("iss")
    }]);
    let call = get("/?tok=b&token=no")
        .with_header("authorization", "Bearer a")
        .with_header("x-token", "t:c")
        .with_header("x-token", "no")
        .with_header("cookie", "a=b; session=d; sessions=no");
    let texts: Vec<_> = found(&own, &call).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["c", "b", "d"]);
    assert!(found(&own, &get("/")).is_empty());
    assert!(rules(vec![]).is_empty());
}

// waypoint#74
#[test]
fn a_preflight_has_no_token() {
    let default = rules(vec![rule("iss")]);
    let with_token = || get("/").with_header("authorization", "Bearer a");
    let preflight = |method: &str| {
        let call = with_token().with_header("Origin", "https://example.org");
        Call { method: method.to_owned(), ..call.with_header("access-control-request-method", "PUT") }
    };
    assert!(found(&default, &preflight("OPTIONS")).is_empty());
    assert_eq!(found(&default, &preflight("GET")).len(), 1, "another method");
    let options = Call { method: "OPTIONS".to_owned(), ..with_token() };
    assert_eq!(found(&default, &options).len(), 1, "nothing that a preflight asks");
}

// policy#88
#[test]
fn missing_tokens_go_on_and_invalid_ones_do_not() {
    use TokenState::{Invalid, Missing, Valid};
    let both = rules(vec![rule("b"), rule("a")]);
    for (a, b, expected) in [
        (Missing, Missing, Ok(None)),
        (Valid, Missing, Ok(Some("a"))),
        (Invalid, Valid, Ok(Some("b"))),
        (Invalid, Missing, Err(())),
        (Invalid, Invalid, Err(())),
    ] {
        let decided = both.decide(|rule| if rule.issuer == "a" { a } else { b });
        let decided = match decided {
            Authentication::Continue(rule) => Ok(rule.map(|rule| rule.issuer.as_str())),
            Authentication::Unauthorized => Err(()),
        };
        assert_eq!(decided, expected, "{a:?} {b:?}");
    }
}
