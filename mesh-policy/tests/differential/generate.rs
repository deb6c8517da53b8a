//! Objects and calls of few values, so that they often meet.

use std::net::{IpAddr, SocketAddr};

use mesh_policy::{
    object::{
        Action, AuthorizationPolicy, Condition, Extent, Metadata, Operation, Provider, Rule, Selector,
        Source, TargetRef,
    },
    waypoint::{
        Answer, ClaimValue, Claims, ExtensionProvider, Mesh, ProviderProtocol, ServiceKind, Step,
        WaypointDecision,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::call::{Call, Place};

const NAMESPACES: [&str; 3] = ["shop", "bank", "istio-system"];

pub(crate) fn mesh() -> impl Strategy<Value = Mesh> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(aliases, multiple_providers, gateway_selectors)| {
            let provider = |protocol, fail_open| ExtensionProvider { protocol, fail_open };
            let mut mesh = Mesh::new("example.org");
            if aliases {
                mesh.trust_domain_aliases = vec!["old.example.org".into(), "example.net".into()];
            }
            mesh.multiple_providers = multiple_providers;
            mesh.gateway_selectors = gateway_selectors;
            mesh.providers.insert("http".into(), provider(ProviderProtocol::Http, false));
            mesh.providers.insert("grpc".into(), provider(ProviderProtocol::Grpc, false));
            mesh.providers.insert("open".into(), provider(ProviderProtocol::Grpc, true));
            mesh
        },
    )
}

pub(crate) fn objects() -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    vec(object(), 0..9).prop_map(|objects| {
        // One name for each.
        let numbered = objects.into_iter().enumerate().map(|(index, mut object)| {
            object.metadata.name = format!("{}{index}", object.metadata.name);
            object
        });
        numbered.collect()
    })
}

fn object() -> impl Strategy<Value = AuthorizationPolicy> {
    let actions = [Action::Allow, Action::Allow, Action::Deny, Action::Deny, Action::Audit, Action::Custom];
    let dry_run = select(vec![None, None, None, None, None, Some("true"), Some("false"), Some("maybe")]);
    let metadata = (select(&NAMESPACES[..]), select(vec!["a", "b", "c"]), dry_run).prop_map(
        |(namespace, name, dry_run)| {
            let mut metadata = Metadata::named(namespace, name);
            metadata
                .annotations
                .extend(dry_run.map(|value| ("istio.io/dry-run".to_owned(), value.to_owned())));
            metadata
        },
    );
    let provider = select(vec!["http", "grpc", "open", "missing", ""]);
    (metadata, target(), select(actions.to_vec()), provider, vec(rule(), 0..4)).prop_map(
        |(metadata, (selector, target_refs), action, provider, rules)| AuthorizationPolicy {
            metadata,
            selector,
            target_ref: None,
            target_refs,
            action,
            provider: (action == Action::Custom).then(|| Provider { name: provider.into() }),
            rules,
            extent: Extent::Written,
        },
    )
}

fn target() -> impl Strategy<Value = (Option<Selector>, Vec<TargetRef>)> {
    let gateway = "gateway.networking.k8s.io";
    let target = (
        select(vec![
            ("", "Service"),
            ("", "Service"),
            ("core", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            (gateway, "Gateway"),
            (gateway, "Gateway"),
            (gateway, "GatewayClass"),
            ("apps", "Deployment"),
        ]),
        select(vec!["cart", "cart", "waypoint", "waypoint", "istio-waypoint"]),
        select(vec!["", "", "", "shop"]),
    )
        .prop_map(|((group, kind), name, namespace)| TargetRef {
            group: group.into(),
            kind: kind.into(),
            name: if kind == "GatewayClass" { "istio-waypoint".into() } else { name.into() },
            namespace: namespace.into(),
        });
    let selector = option::of(
        select(vec![Some(("app", "cart")), Some(("app", "other")), Some(("v", "1")), None]).prop_map(
            |label| Selector {
                match_labels: label
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            },
        ),
    );
    prop_oneof![
        4 => selector.prop_map(|selector| (selector, Vec::new())),
        5 => vec(target, 1..3).prop_map(|targets| (None, targets)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (vec(source(), 0..3), vec(operation(), 0..3), vec(condition(), 0..3)).prop_map(
        |(mut from, mut to, when)| {
            // Rules with all three hardly ever match.
            if from.len() + to.len() + when.len() > 3 {
                from.truncate(1);
                to.truncate(1);
            }
            Rule { from, to, when }
        },
    )
}

/// Values of a field, now and then with one that is of no use.
fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(select(values).prop_map(str::to_owned), 1..3)
}

const PRINCIPALS: &[&str] = &[
    "*",
    "example.org/ns/shop/sa/cart",
    "cluster.local/ns/shop/sa/cart",
    "old.example.org/ns/shop/sa/cart",
    "*.org/ns/shop/sa/cart",
    "example.org/*",
    "*/cart",
    "example.org/ns/a/ns/b/sa/c",
    "spiffe://example.org/ns/shop/sa/cart",
    "*old.example.org/ns/shop/sa/cart",
];
const SERVICE_ACCOUNTS: &[&str] =
    &["cart", "shop/cart", "bank/cart", "shop/ca.t", "shop/*", "ns/sa", "a/c", "b/c", "ns/sa/x"];
const NAMESPACE_VALUES: &[&str] =
    &["shop", "bank", "sh*", "*op", "s*p", "*", "a", "b", "ns", "sa", "sho.", "x/y"];
const TRUST_DOMAINS: &[&str] =
    &["*", "example.org", "old.example.org", "*.org", "exam*", "ex*rg", "cluster.local", "a/b"];
const RANGES: &[&str] = &[
    "192.0.2.1",
    "192.0.2.0/24",
    "192.0.2.9/31",
    "0.0.0.0/0",
    "2001:db8::/32",
    "::/0",
    "::ffff:192.0.2.1",
    "192.0.2.300",
];
const REQUEST_PRINCIPALS: &[&str] = &[
    "*",
    "https://iss.example.org/alice",
    "https://iss.example.org/*",
    "https://iss.example.org/al*",
    "*/alice",
    "*.example.org/alice",
    "*ice",
    "https*",
    "https://iss*",
    "*/*",
    "plain",
    "https://*",
];
const PORTS: &[&str] = &["80", "8080", "0", "65616", "http"];
const METHODS: &[&str] = &["GET", "POST", "G*", "*T", "*", "get"];
const PATHS: &[&str] = &[
    "/a",
    "/a/*",
    "*.txt",
    "*",
    "/a/{*}",
    "/a/{**}",
    "/{**}/end",
    "/a/{*}/b/{**}",
    "/a/{**}/",
    "/{**}/a/{*}",
    "/a{*}",
    "/admin",
];
const HOSTS: &[&str] = &[
    "Example.com",
    "example.com:*",
    "*.example.com",
    "*",
    "exam*",
    "*:8080",
    "a*b",
    "example.com:80",
    "*:443",
    "x.",
    "*80",
    "[::1]",
    "example.com.*",
];
const SNIS: &[&str] = &["cart.example.org", "Cart.example.org", "*.example.org", "cart*", "*"];
const TEXTS: &[&str] = &["x", "a,b", "x*", "*x", "*", "ua1,ua2", "ua1*", "*ua2", "ua2"];
const CLAIMS: &[&str] = &["admin", "adm*", "*min", "*", "https://iss.example.org", "alice"];

fn source() -> impl Strategy<Value = Source> {
    let field = prop_oneof![
        (Just(0), some(PRINCIPALS)),
        (Just(1), some(REQUEST_PRINCIPALS)),
        (Just(2), some(NAMESPACE_VALUES)),
        (Just(3), some(SERVICE_ACCOUNTS)),
        (Just(4), some(TRUST_DOMAINS)),
        (Just(5), some(RANGES)),
        (Just(6), some(RANGES)),
    ];
    vec((field, prop::bool::weighted(0.3)), 0..3).prop_map(|fields| {
        let mut source = Source::default();
        for ((field, values), negated) in fields {
            *match (field, negated) {
                (0, false) => &mut source.principals,
                (0, true) => &mut source.not_principals,
                (1, false) => &mut source.request_principals,
                (1, true) => &mut source.not_request_principals,
                (2, false) => &mut source.namespaces,
                (2, true) => &mut source.not_namespaces,
                (3, false) => &mut source.service_accounts,
                (3, true) => &mut source.not_service_accounts,
                (4, false) => &mut source.trust_domains,
                (4, true) => &mut source.not_trust_domains,
                (5, false) => &mut source.ip_blocks,
                (5, true) => &mut source.not_ip_blocks,
                (_, false) => &mut source.remote_ip_blocks,
                (_, true) => &mut source.not_remote_ip_blocks,
            } = values;
        }
        source
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let field = prop_oneof![
        (Just(0), some(HOSTS)),
        (Just(1), some(PORTS)),
        (Just(2), some(METHODS)),
        (Just(3), some(PATHS)),
    ];
    vec((field, prop::bool::weighted(0.3)), 0..3).prop_map(|fields| {
        let mut operation = Operation::default();
        for ((field, values), negated) in fields {
            *match (field, negated) {
                (0, false) => &mut operation.hosts,
                (0, true) => &mut operation.not_hosts,
                (1, false) => &mut operation.ports,
                (1, true) => &mut operation.not_ports,
                (2, false) => &mut operation.methods,
                (2, true) => &mut operation.not_methods,
                (_, false) => &mut operation.paths,
                (_, true) => &mut operation.not_paths,
            } = values;
        }
        operation
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let keyed = |keys: &'static [&'static str], values: &'static [&'static str]| {
        (select(keys), some(values), some(values))
    };
    let known = prop_oneof![
        4 => keyed(&["request.headers[X-Tenant]", "request.headers[user-agent]", "request.headers[Host]"], TEXTS),
        1 => keyed(&["request.headers", "request.headers[a b]", "request.auth.claims[", "experimental.envoy.filters.x"], TEXTS),
        2 => keyed(&["source.ip", "remote.ip", "destination.ip"], RANGES),
        1 => keyed(&["source.namespace"], NAMESPACE_VALUES),
        1 => keyed(&["source.serviceAccount"], SERVICE_ACCOUNTS),
        1 => keyed(&["source.principal"], PRINCIPALS),
        1 => keyed(&["source.trustDomain"], TRUST_DOMAINS),
        1 => keyed(&["request.auth.principal"], REQUEST_PRINCIPALS),
        4 => keyed(
            &["request.auth.audiences", "request.auth.presenter", "request.auth.claims[groups]",
              "request.auth.claims[realm][roles]", "request.auth.claims[a.b]", "request.auth.claims[iss]"],
            CLAIMS,
        ),
        1 => keyed(&["destination.port"], PORTS),
        1 => keyed(&["connection.sni"], SNIS),
        1 => keyed(&["experimental.envoy.filters.a.b[k]"], &["x", "[x]", "*", "[*]"]),
        1 => keyed(&["destination.labels[app]", "source.ips"], TEXTS),
    ];
    (known, 0..5_u8).prop_map(|((key, mut values, mut not_values), kept)| {
        match kept {
            0 => {}
            1 => values.clear(),
            _ => not_values.clear(),
        }
        Condition { key: key.to_owned(), values, not_values }
    })
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    let connection = (
        place(),
        address(),
        address(),
        option::weighted(0.8, select(PEERS).prop_map(str::to_owned)),
        (address(), select(vec![80, 8080, 0])).prop_map(SocketAddr::from),
        option::of(select(vec!["cart.example.org", "Cart.example.org", ""]).prop_map(str::to_owned)),
        option::of(select(vec![ClaimValue::from("x"), ClaimValue::List(vec!["x".into(), "y".into()])])),
    );
    let request = (
        select(vec!["GET", "POST", "get"]),
        option::weighted(
            0.9,
            select(vec![
                "example.com",
                "EXAMPLE.com:8080",
                "www.Example.com",
                "x",
                "",
                "example.com.",
                "Example.com:80",
                "www.example.com.:0443",
                "x:",
                "x:80:80",
                "[::1]:8080",
                "x.",
            ]),
        ),
        select(vec![
            "/a", "/a?x=/b", "/a/", "/a/b", "/a/x/b/", "//end", "/end", "/x/end", "/a/b.txt", "/admin",
            "/a//", "/a/[b]",
        ]),
        vec(
            (
                select(vec!["x-tenant", "X-Tenant", "User-Agent", "other"]),
                select(vec!["x", "a,b", "a", "b", "", "ua1", "ua2"]),
            ),
            0..4,
        ),
        option::weighted(0.7, claims()),
    );
    (connection, request).prop_map(
        |(
            (place, source, remote, peer, destination, sni, note),
            (method, authority, path, headers, claims),
        )| Call {
            place,
            source,
            remote,
            peer,
            destination,
            sni,
            metadata: note
                .into_iter()
                .map(|note| ("envoy.filters.a.b".to_owned(), "k".to_owned(), note))
                .collect(),
            method: method.to_owned(),
            authority: authority.map(str::to_owned),
            path: path.to_owned(),
            headers: headers
                .into_iter()
                .map(|(name, line)| (name.to_owned(), line.as_bytes().to_vec()))
                .collect(),
            claims,
        },
    )
}

const PEERS: &[&str] = &[
    "spiffe://example.org/ns/shop/sa/cart",
    "spiffe://example.org/ns/shop/sa/cart",
    "spiffe://old.example.org/ns/shop/sa/cart",
    "spiffe://example.org/ns/bank/sa/cart",
    "spiffe://example.org/ns/shop/sa/cat",
    "spiffe://example.org/ns/a/ns/b/sa/c",
    "spiffe://example.org/ns/ns/sa/sa",
    "spiffe://ns/ns/shop/x/sa/cart/y",
    "spiffe://example.org",
    "spiffe://example.org/",
    "https://example.org/ns/shop/sa/cart",
    "spiffe:///ns/shop/sa/cart",
    "",
];

fn place() -> impl Strategy<Value = Place> {
    let labels = || {
        select(vec![vec![], vec![("app", "cart")], vec![("app", "cart"), ("v", "1")]]).prop_map(|labels| {
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<Vec<_>>()
        })
    };
    let namespace = || select(&NAMESPACES[..]).prop_map(str::to_owned);
    let name = || select(vec!["cart", "waypoint"]).prop_map(str::to_owned);
    let kind = select(vec![ServiceKind::Service, ServiceKind::ServiceEntry]);
    prop_oneof![
        1 => (namespace(), name(), labels()).prop_map(|(namespace, name, labels)| Place::Gateway { namespace, name, labels }),
        3 => (namespace(), Just("waypoint".to_owned()), option::weighted(0.8, (kind, namespace(), Just("cart".to_owned()))))
            .prop_map(|(namespace, name, service)| Place::Waypoint { namespace, name, service }),
        1 => (namespace(), labels()).prop_map(|(namespace, labels)| Place::Workload { namespace, labels }),
    ]
}

/// A workload in a namespace, with labels or without.
pub(crate) fn workload() -> impl Strategy<Value = Place> {
    let labels = select(vec![vec![], vec![("app", "cart")], vec![("app", "other"), ("v", "1")]]);
    (select(&NAMESPACES[..]), labels).prop_map(|(namespace, labels)| Place::Workload {
        namespace: namespace.to_owned(),
        labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(vec!["192.0.2.1", "192.0.2.8", "198.51.100.1", "2001:db8::1", "::ffff:192.0.2.1"])
        .prop_map(|text| text.parse().unwrap())
}

fn claims() -> impl Strategy<Value = Claims> {
    let text = |values: &'static [&'static str]| select(values).prop_map(ClaimValue::from);
    let value = prop_oneof![
        text(&["admin", "user", ""]),
        vec(prop_oneof![4 => text(&["admin", "user", ""]), 1 => Just(ClaimValue::Other)], 0..3)
            .prop_map(ClaimValue::List),
        Just(ClaimValue::Other),
    ];
    let nested = option::of(value.clone()).prop_map(|roles| {
        ClaimValue::Object(roles.into_iter().map(|roles| ("roles".to_owned(), roles)).collect())
    });
    (
        option::weighted(0.9, text(&["https://iss.example.org", "https:/", "plain", ""])),
        option::weighted(0.9, text(&["alice", "issue", "*", ""])),
        vec((select(vec!["aud", "azp", "groups", "a.b"]), value), 0..4),
        option::of(nested),
    )
        .prop_map(|(iss, sub, others, realm)| {
            let named = |name: &str, value: Option<ClaimValue>| value.map(|value| (name.to_owned(), value));
            let others = others.into_iter().map(|(name, value)| (name.to_owned(), value));
            others.chain(named("iss", iss)).chain(named("sub", sub)).chain(named("realm", realm)).collect()
        })
}

/// What providers say, to this reading as to the compiled one: always the same.
pub(crate) fn answer(provider: &str) -> Answer {
    match provider {
        "http" => Answer::Deny,
        "open" => Answer::Failed,
        _ => Answer::Allow,
    }
}

/// The decision, with what providers say.
pub(crate) fn resolve(mut step: Step<'_>) -> WaypointDecision<'_> {
    loop {
        match step {
            Step::Ask(question) => step = question.answer(answer(question.provider())),
            Step::Decided(decision) => return decision,
        }
    }
}
