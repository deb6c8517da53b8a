//! Policies and requests in few words.

use mesh_policy::{
    Reason, Semantics, Verdict,
    object::{
        Action, AuthorizationPolicy, Condition, Metadata, ObjectError, Operation, Provider, Rule, Source,
        TargetRef,
    },
    waypoint::{
        Answer, ClaimValue, Claims, ExtensionProvider, Mesh, ProviderProtocol, RequestPolicySet, ServiceKind,
        Step, StreamPolicySet,
    },
};

pub(crate) use super::call::{Call, Place};

pub(crate) const BOTH: [Semantics; 2] = [Semantics::Istio, Semantics::Strict];

/// A mesh with an alias and two providers.
pub(crate) fn mesh() -> Mesh {
    let mut mesh = Mesh::new("example.org");
    mesh.trust_domain_aliases = vec!["old.example.org".to_owned()];
    for (name, protocol, fail_open) in [
        ("http", ProviderProtocol::Http, false),
        ("grpc", ProviderProtocol::Grpc, false),
        ("open", ProviderProtocol::Grpc, true),
    ] {
        mesh.providers.insert(name.to_owned(), ExtensionProvider { protocol, fail_open });
    }
    mesh
}

/// A GET of `/a` by `shop/web`, for the service `shop/cart` behind a waypoint.
pub(crate) fn get(path: &str) -> Call {
    Call {
        place: waypoint(Some("cart")),
        source: "192.0.2.1".parse().unwrap(),
        remote: "203.0.113.1".parse().unwrap(),
        peer: Some("spiffe://example.org/ns/shop/sa/web".to_owned()),
        destination: "192.0.2.2:8080".parse().unwrap(),
        sni: None,
        metadata: Vec::new(),
        method: "GET".to_owned(),
        authority: Some("cart.example.com".to_owned()),
        path: path.to_owned(),
        headers: Vec::new(),
        claims: None,
    }
}

pub(crate) fn waypoint(service: Option<&str>) -> Place {
    let service = service.map(|name| (ServiceKind::Service, "shop".to_owned(), name.to_owned()));
    Place::Waypoint { namespace: "shop".to_owned(), name: "waypoint".to_owned(), service }
}

impl Call {
    pub(crate) fn by(mut self, peer: &str) -> Self {
        self.peer = Some(peer.to_owned()).filter(|peer| !peer.is_empty());
        self
    }

    pub(crate) fn with_header(mut self, name: &str, line: &str) -> Self {
        self.headers.push((name.to_owned(), line.as_bytes().to_vec()));
        self
    }

    pub(crate) fn with_claims(mut self, claims: &[(&str, ClaimValue)]) -> Self {
        self.claims = Some(claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
        self
    }
}

pub(crate) fn token(issuer: &str, subject: &str) -> Vec<(&'static str, ClaimValue)> {
    vec![("iss", issuer.into()), ("sub", subject.into())]
}

pub(crate) fn object(claims: &[(&str, ClaimValue)]) -> ClaimValue {
    let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    ClaimValue::Object(claims.collect::<Claims>())
}

/// A policy for the service `shop/cart`.
pub(crate) fn policy(action: Action, name: &str, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        metadata: Metadata::named("shop", name),
        target_refs: vec![service("cart")],
        action,
        rules,
        ..AuthorizationPolicy::default()
    }
}

pub(crate) fn allow(rules: Vec<Rule>) -> AuthorizationPolicy {
    policy(Action::Allow, "allow", rules)
}

pub(crate) fn deny(rules: Vec<Rule>) -> AuthorizationPolicy {
    policy(Action::Deny, "deny", rules)
}

pub(crate) fn custom(provider: &str, rules: Vec<Rule>) -> AuthorizationPolicy {
    AuthorizationPolicy {
        provider: Some(Provider { name: provider.to_owned() }),
        ..policy(Action::Custom, &format!("custom-{provider}"), rules)
    }
}

pub(crate) fn in_dry_run(mut policy: AuthorizationPolicy) -> AuthorizationPolicy {
    policy.metadata.annotations.insert("istio.io/dry-run".to_owned(), "true".to_owned());
    policy.metadata.name.push_str("-dry-run");
    policy
}

pub(crate) fn service(name: &str) -> TargetRef {
    TargetRef { kind: "Service".to_owned(), name: name.to_owned(), ..TargetRef::default() }
}

pub(crate) fn gateway(kind: &str, name: &str) -> TargetRef {
    TargetRef {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        ..TargetRef::default()
    }
}

pub(crate) fn from(sources: Vec<Source>) -> Rule {
    Rule { from: sources, ..Rule::default() }
}

pub(crate) fn to(operations: Vec<Operation>) -> Rule {
    Rule { to: operations, ..Rule::default() }
}

pub(crate) fn when(key: &str, values: &[&str]) -> Rule {
    Rule { when: vec![condition(key, values)], ..Rule::default() }
}

pub(crate) fn when_not(key: &str, values: &[&str]) -> Rule {
    let condition = Condition { key: key.to_owned(), not_values: texts(values), ..Condition::default() };
    Rule { when: vec![condition], ..Rule::default() }
}

pub(crate) fn condition(key: &str, values: &[&str]) -> Condition {
    Condition { key: key.to_owned(), values: texts(values), ..Condition::default() }
}

pub(crate) fn paths(values: &[&str]) -> Operation {
    Operation { paths: texts(values), ..Operation::default() }
}

pub(crate) fn hosts(values: &[&str]) -> Operation {
    Operation { hosts: texts(values), ..Operation::default() }
}

pub(crate) fn methods(values: &[&str]) -> Operation {
    Operation { methods: texts(values), ..Operation::default() }
}

pub(crate) fn ports(values: &[&str]) -> Operation {
    Operation { ports: texts(values), ..Operation::default() }
}

pub(crate) fn principals(values: &[&str]) -> Source {
    Source { principals: texts(values), ..Source::default() }
}

pub(crate) fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

pub(crate) fn requests(semantics: Semantics, policies: &[AuthorizationPolicy]) -> RequestPolicySet {
    let empty = match semantics {
        Semantics::Istio => RequestPolicySet::istio(mesh()),
        Semantics::Strict => RequestPolicySet::strict(mesh()),
    };
    empty.replaced(policies).unwrap()
}

pub(crate) fn streams(semantics: Semantics, policies: &[AuthorizationPolicy]) -> StreamPolicySet {
    let empty = match semantics {
        Semantics::Istio => StreamPolicySet::istio(mesh()),
        Semantics::Strict => StreamPolicySet::strict(mesh()),
    };
    empty.replaced(policies).unwrap()
}

/// Whether a request is allowed, with providers that have no objection.
pub(crate) fn admits(semantics: Semantics, policies: &[AuthorizationPolicy], call: &Call) -> bool {
    let set = requests(semantics, policies);
    call.with_facts(|facts| verdict(set.evaluate_request(facts), Answer::Allow) == Verdict::Allow)
}

/// Whether a stream is allowed, with providers that have no objection.
pub(crate) fn admits_stream(semantics: Semantics, policies: &[AuthorizationPolicy], call: &Call) -> bool {
    let set = streams(semantics, policies);
    call.with_facts(|facts| verdict(set.evaluate_stream(&facts.stream), Answer::Allow) == Verdict::Allow)
}

pub(crate) fn verdict(mut step: Step<'_>, answer: Answer) -> Verdict {
    loop {
        match step {
            Step::Ask(question) => step = question.answer(answer),
            Step::Decided(decision) => return decision.verdict(),
        }
    }
}

/// Whether a rule matches: an ALLOW of it lets the request in, a DENY of it keeps it out.
pub(crate) fn matches(semantics: Semantics, rule: &Rule, call: &Call) -> bool {
    let allowed = admits(semantics, &[allow(vec![rule.clone()])], call);
    assert_eq!(allowed, !admits(semantics, &[deny(vec![rule.clone()])], call), "{rule:?} {call:?}");
    allowed
}

pub(crate) fn matches_by_both(rule: &Rule, call: &Call) -> bool {
    let [istio, strict] = BOTH.map(|semantics| matches(semantics, rule, call));
    assert_eq!(istio, strict, "{rule:?} {call:?}");
    istio
}

/// What strict semantics has against a policy.
pub(crate) fn refusal(policy: &AuthorizationPolicy) -> ObjectError {
    RequestPolicySet::strict(mesh()).insert(policy).unwrap_err()
}

pub(crate) fn reason_of<T>(set: &RequestPolicySet, call: &Call, use_it: impl FnOnce(Reason<'_>) -> T) -> T {
    call.with_facts(|facts| use_it(set.evaluate_request(facts).without_providers().reason()))
}
