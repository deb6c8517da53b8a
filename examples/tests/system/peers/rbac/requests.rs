//! Requests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use examples::lab::Host;
use mesh_policy::{
    Semantics, Verdict,
    waypoint::{
        Answer, Claims, ForwardedFor, Headers, PathNormalization, RequestFacts, RequestPolicySet, Step,
        StreamFacts, Target,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Set,
    bootstrap::{PROVIDERS, http_port},
    claims::encode,
};

/// A set of policies on each.
pub(super) const POLICIES: &[&str] = &[
    "{}",
    "{rules: [{}]}",
    "{action: DENY, rules: [{}]}",
    "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}\n{rules: [{}]}",
    "{rules: [{to: [{operation: {methods: [GET, 'P*']}}]}]}",
    "{rules: [{to: [{operation: {methods: [get]}}]}]}",
    "{rules: [{to: [{operation: {notMethods: [GET]}}]}]}",
    // Hosts: policy#65 to policy#67.
    "{rules: [{to: [{operation: {hosts: [Example.COM]}}]}]}",
    "{rules: [{to: [{operation: {hosts: ['example.com:*']}}]}]}",
    "{rules: [{to: [{operation: {hosts: ['*.COM', 'sh*']}}]}]}",
    "{rules: [{to: [{operation: {hosts: ['*']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {notHosts: [example.com]}}]}]}",
    // Ports.
    "{rules: [{to: [{operation: {ports: ['8080']}}]}]}",
    "{rules: [{to: [{operation: {notPorts: ['8080']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {ports: ['65616']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {ports: ['65616', '81']}}]}]}",
    "{rules: [{to: [{operation: {ports: ['65616', '8080']}}]}]}",
    // Paths: policy#69 to policy#73, and part D, 6.
    "{rules: [{to: [{operation: {paths: [/admin]}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo*', '*/end']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['*']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/{*}']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/{**}']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/{**}/']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/{*}/bar/{**}']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/{**}/end']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {notPaths: ['/foo/{*}', /admin]}}]}]}",
    // Identities.
    "{rules: [{from: [{source: {principals: [cluster.local/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/foo/sa/a']}}]}]}",
    "{rules: [{from: [{source: {principals: ['cluster.local/ns/foo/*']}}]}]}",
    "{rules: [{from: [{source: {principals: ['*/sa/a']}}]}]}",
    "{rules: [{from: [{source: {principals: ['*']}}]}]}",
    "{rules: [{from: [{source: {notPrincipals: ['*']}}]}]}",
    "{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {namespaces: [foo]}}]}]}",
    "{rules: [{from: [{source: {namespaces: ['f*']}}]}]}",
    "{rules: [{from: [{source: {namespaces: ['*o*']}}]}]}",
    "{rules: [{from: [{source: {namespaces: ['*']}}]}]}",
    "{rules: [{from: [{source: {namespaces: [a.b]}}]}]}",
    "{rules: [{from: [{source: {notNamespaces: [foo]}}]}]}",
    "{rules: [{from: [{source: {serviceAccounts: [a]}}]}]}",
    "{rules: [{from: [{source: {serviceAccounts: [a.b]}}]}]}",
    "{rules: [{from: [{source: {notServiceAccounts: [foo/a]}}]}]}",
    "{rules: [{from: [{source: {trustDomains: [cluster.local]}}]}]}",
    "{rules: [{from: [{source: {trustDomains: ['*']}}]}]}",
    "{rules: [{from: [{source: {trustDomains: ['other.*']}}]}]}",
    "{rules: [{from: [{source: {notTrustDomains: ['*.local']}}]}]}",
    // Addresses.
    "{rules: [{from: [{source: {ipBlocks: [192.0.2.99/24]}}]}]}",
    "{rules: [{from: [{source: {ipBlocks: ['::ffff:192.0.2.10']}}]}]}",
    "{rules: [{from: [{source: {remoteIpBlocks: [203.0.113.9]}}]}]}",
    "{rules: [{from: [{source: {notRemoteIpBlocks: [203.0.113.0/24]}}]}]}",
    "{rules: [{when: [{key: source.ip, values: [192.0.2.10]}, {key: remote.ip, notValues: [203.0.113.9]}]}]}",
    "{rules: [{when: [{key: destination.ip, values: [192.0.2.0/24]}, {key: destination.port, values: ['8080']}]}]}",
    // Headers: policy#79 to policy#81, and part D, 1 and 13.
    "{rules: [{when: [{key: 'request.headers[X-Tenant]', values: [a, 'b*']}]}]}",
    "{rules: [{when: [{key: 'request.headers[x-tenant]', values: ['a,b']}]}]}",
    "{rules: [{when: [{key: 'request.headers[x-tenant]', values: ['*']}]}]}",
    "{rules: [{when: [{key: 'request.headers[x-tenant]', notValues: ['*']}]}]}",
    "{rules: [{when: [{key: 'request.headers[x-tenant]', notValues: [a]}]}]}",
    "{action: DENY, rules: [{when: [{key: 'request.headers[x-tenant]', values: ['*bad']}]}]}",
    "{action: DENY, rules: [{when: [{key: 'request.headers[User-Agent]', values: ['a,b']}]}]}",
    // Tokens: policy#82 to policy#87, and part D, 5 and 12.
    "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['*/*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['https://issuer.example.org/alice']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['https://issuer.example.org/*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['https://iss*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['*/alice']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['*.org/alice']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['*ice']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['iss*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: ['issuer/al*']}}]}]}",
    "{rules: [{from: [{source: {requestPrincipals: [plain]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}",
    "{rules: [{when: [{key: request.auth.principal, values: ['*']}]}]}",
    "{rules: [{when: [{key: request.auth.audiences, values: [web]}]}]}",
    "{rules: [{when: [{key: request.auth.presenter, values: ['app*']}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[groups]', values: [dev]}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[groups]', values: ['*']}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[groups]', notValues: [dev]}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[nested][role]', values: [admin]}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[dotted.name]', values: [x]}]}]}",
    "{rules: [{when: [{key: 'request.auth.claims[level]', values: ['7', 'true']}]}]}",
    // The same by condition, and what else has a negation.
    "{rules: [{when: [{key: source.namespace, values: [foo]}, {key: source.principal, notValues: ['*/sa/b']}]}]}",
    "{rules: [{when: [{key: source.serviceAccount, values: [foo/a, a.b]}]}]}",
    "{rules: [{when: [{key: source.trustDomain, values: ['other.*']}]}]}",
    "{rules: [{from: [{source: {notIpBlocks: [192.0.2.10]}}]}]}",
    "{rules: [{from: [{source: {notRequestPrincipals: ['https://issuer.example.org/*']}}]}]}",
    "{rules: [{when: [{key: request.auth.audiences, notValues: [web]}, {key: request.auth.presenter, notValues: ['app*']}]}]}",
    "{action: DENY, rules: [{to: [{operation: {hosts: [example.com]}}]}]}",
    // How they combine.
    "{action: DENY, rules: [{when: [{key: no.such.key, values: [a]}]}]}",
    "{rules: [{when: [{key: no.such.key, values: [a]}]}, {to: [{operation: {methods: [PUT]}}]}]}",
    "{rules: [{from: [{source: {namespaces: [foo]}}, {source: {ipBlocks: [198.51.100.1]}}], to: [{operation: {methods: [GET], notPaths: [/admin]}}, {operation: {paths: [/foo/a]}}], when: [{key: 'request.headers[x-tenant]', notValues: [bad]}]}]}",
    "{action: DENY, rules: [{from: [{source: {notNamespaces: [foo]}}], to: [{operation: {paths: [/admin]}}]}]}\n{rules: [{to: [{operation: {methods: [GET]}}]}]}",
    "{action: AUDIT, rules: [{}]}\n{action: DENY, rules: [{to: [{operation: {hosts: [shop]}}]}]}",
];

/// In a mesh of another trust domain that has an alias: policy#94, policy#95.
pub(super) const ALIASED_POLICIES: &[&str] = &[
    "{rules: [{from: [{source: {principals: [mesh.example.org/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {principals: [old.example.org/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {principals: [cluster.local/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {principals: ['*/ns/foo/sa/a', other.domain/ns/foo/sa/a]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notPrincipals: [old.example.org/ns/foo/sa/a]}}]}]}",
    "{rules: [{from: [{source: {trustDomains: [old.example.org]}}]}]}",
    "{rules: [{from: [{source: {trustDomains: [cluster.local]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notTrustDomains: [mesh.example.org]}}]}]}",
    "{rules: [{when: [{key: source.principal, values: [cluster.local/ns/foo/sa/a]}]}]}",
    "{rules: [{when: [{key: source.trustDomain, notValues: [mesh.example.org]}]}]}",
    "{rules: [{from: [{source: {namespaces: [foo], notPrincipals: [cluster.local/ns/foo/sa/b]}}]}]}",
];

/// Where `asks` is a provider of the mesh, and no other: policy#61, policy#100, and part B2.
pub(super) const CUSTOM_POLICIES: &[&str] = &[
    "{action: CUSTOM, provider: {name: asks}, rules: [{}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{to: [{operation: {paths: ['/admin*']}}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{}]}\n{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{to: [{operation: {paths: [/admin]}}]}]}\n{rules: [{to: [{operation: {methods: [GET]}}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{when: [{key: 'request.headers[x-tenant]', notValues: [a]}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{when: [{key: request.auth.principal, notValues: ['*']}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
    "{action: CUSTOM, provider: {name: gone}, rules: [{to: [{operation: {paths: ['/foo*']}}]}]}",
    "{action: CUSTOM, provider: {name: gone}, rules: [{to: [{operation: {hosts: [shop]}}]}]}\n{rules: [{}]}",
];

/// Where there are two providers, `also` and `asks`, both of which Istio asks if it may ask several, or else neither: part B2.
pub(super) const SEVERAL_PROVIDERS: &[&str] = &[
    "{action: CUSTOM, provider: {name: asks}, rules: [{}]}\n{action: CUSTOM, provider: {name: also}, rules: [{}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{to: [{operation: {methods: [GET]}}]}]}\n{action: CUSTOM, provider: {name: also}, rules: [{to: [{operation: {paths: ['/foo*']}}]}]}",
    "{action: CUSTOM, provider: {name: asks}, rules: [{to: [{operation: {paths: ['/admin*']}}]}]}\n{action: CUSTOM, provider: {name: gone}, rules: [{to: [{operation: {hosts: [shop]}}]}]}",
    "{action: CUSTOM, provider: {name: also}, rules: [{to: [{operation: {paths: ['/foo*']}}]}]}\n{rules: [{to: [{operation: {methods: [GET]}}]}]}",
];

/// Of which one in dry run, whatever it is, decides nothing.
pub(super) const DRY_RUN_POLICIES: &[&str] = &[
    "dry run {action: CUSTOM, provider: {name: asks}, rules: [{}]}",
    "dry run {action: CUSTOM, provider: {name: gone}, rules: [{}]}\n{rules: [{to: [{operation: {methods: [GET]}}]}]}",
    "dry run {action: CUSTOM, provider: {name: gone}, rules: [{}]}\n{action: CUSTOM, provider: {name: asks}, rules: [{to: [{operation: {paths: ['/foo*']}}]}]}",
    "dry run {action: DENY, rules: [{}]}\n{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}",
    "dry run {rules: [{to: [{operation: {paths: [/foo]}}]}]}",
    "dry run {rules: [{}]}\n{rules: [{to: [{operation: {paths: ['/foo*']}}]}]}",
];

/// On paths, in other spellings: policy#75.
pub(super) const PATH_POLICIES: &[&str] = &[
    "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}",
    "{rules: [{to: [{operation: {paths: [/admin, /foo/a, /end]}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/*', '*/end']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/foo/{*}']}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {notPaths: ['/foo/{**}', '/%2Fadmin']}}]}]}",
];

#[derive(Debug)]
struct Request {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    peer: Option<&'static str>,
    headers: &'static [(&'static str, &'static str)],
    claims: Value,
}

const DEFAULT: Request = Request {
    method: "GET",
    host: "example.com",
    path: "/admin",
    peer: Some(FOO_A),
    headers: &[],
    claims: Value::Null,
};
const FOO_A: &str = "spiffe://cluster.local/ns/foo/sa/a";

fn requests() -> Vec<Request> {
    let mut all =
        vec![Request { method: "PUT", ..DEFAULT }, Request { method: "PATCH", peer: None, ..DEFAULT }];
    for host in ["EXAMPLE.com", "example.com:8080", "example.com.", "shop", "other.com.", "example.org"] {
        all.push(Request { host, ..DEFAULT });
    }
    for path in [
        "/",
        "/admin?x=/foo",
        "/admin/",
        "//admin",
        "/%2Fadmin",
        "/%61dmin",
        "/a/../admin",
        "/foo",
        "/foo/",
        "/foo//",
        "/foo/a",
        "/foo/a/",
        "/foo/a/b",
        "/foo/a/bar/",
        "/foo/a/bar/x/y",
        "/foo/*",
        "/foo/%2F",
        "/foo/a|b",
        "/foo/[",
        "/foo/a;v=1",
        "/end",
        "//end",
        "/x/y/end",
        "/foo/bar/baz.txt",
        "/foo%2Fa",
        "/%252Fadmin",
        "/foo\\a",
        "/foo//a",
        "/foo%2f%2Fa",
        "/foo%5ca",
        "/foo/%5C..%2f../admin",
        "/foo/..//admin",
        "/foo%2F..%2Fadmin",
        "///admin//",
    ] {
        all.push(Request { path, ..DEFAULT });
    }
    for peer in [
        None,
        Some("spiffe://cluster.local/ns/foo/sa/b"),
        Some("spiffe://cluster.local/ns/foo/sa/a/x"),
        Some("spiffe://other.domain/ns/foo/sa/a"),
        Some("spiffe://cluster.local/ns/bar/sa/a"),
        Some("spiffe://cluster.local/ns/bar/ns/foo/sa/a"),
        Some("spiffe://cluster.local/ns/a.b/sa/a.b"),
        Some("spiffe://cluster.local/ns/foo/sa/a-b"),
        Some("spiffe://mesh.example.org/ns/foo/sa/a"),
        Some("spiffe://mesh.example.org/ns/foo/sa/b"),
        Some("spiffe://old.example.org/ns/foo/sa/a"),
        Some("spiffe://cluster.local"),
        Some("https://cluster.local/ns/foo/sa/a"),
        Some("cluster.local/ns/foo/sa/a"),
    ] {
        all.push(Request { peer, ..DEFAULT });
    }
    for headers in [
        &[("x-tenant", "a")][..],
        &[("X-TENANT", "A")],
        &[("x-tenant", "a,b")],
        &[("x-tenant", "a"), ("x-tenant", "b")],
        &[("x-tenant", "bcd")],
        &[("x-tenant", "very bad")],
        &[("x-tenant", "good"), ("x-tenant", "bad")],
        &[("x-tenant", "")],
        &[("user-agent", "a"), ("user-agent", "b")],
        &[("user-agent", "a,b")],
        &[("x-forwarded-for", "203.0.113.9")],
        &[("x-forwarded-for", "203.0.113.9, 198.51.100.7")],
        &[("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "203.0.113.9")],
        &[("x-forwarded-for", "203.0.113.9:80")],
        &[("x-forwarded-for", "nonsense")],
        &[("x-answer", "allow")],
        &[("x-answer", "deny")],
        &[("x-answer", "allow"), ("x-tenant", "a")],
    ] {
        all.push(Request { headers, ..DEFAULT });
    }
    for headers in
        [&[("x-answer", "allow")][..], &[("x-also", "allow")], &[("x-answer", "allow"), ("x-also", "allow")]]
    {
        for (method, path) in [("GET", "/admin"), ("PUT", "/admin"), ("GET", "/foo/a"), ("PUT", "/foo/a")] {
            all.push(Request { method, path, headers, ..DEFAULT });
        }
    }
    let alice = |more: Value| {
        let mut claims = json!({ "iss": "https://issuer.example.org", "sub": "alice" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    for claims in [
        alice(json!({})),
        alice(
            json!({ "aud": "web", "azp": "app-1", "groups": ["dev", "ops"], "nested": { "role": "admin" } }),
        ),
        alice(
            json!({ "aud": ["api", "web"], "groups": "dev", "nested": { "role": ["admin"] }, "dotted.name": "x" }),
        ),
        alice(json!({ "groups": [], "level": 7, "dotted": { "name": "x" }, "nested": ["admin"] })),
        alice(json!({ "groups": "", "level": true, "nested": { "role": { "admin": "admin" } } })),
        alice(json!({ "groups": [["dev"]], "level": "7" })),
        json!({ "iss": "issuer", "sub": "al*" }),
        json!({ "iss": "https:/", "sub": "issuer" }),
        json!({ "iss": "issuer", "sub": "*" }),
        json!({ "iss": "plain", "sub": "" }),
        json!({ "iss": "https://issuer.example.org/alice", "sub": "" }),
        json!({ "sub": "alice" }),
    ] {
        all.push(Request { claims, ..DEFAULT });
    }
    all
}

/// What Envoy decides otherwise.
pub(super) fn compare(client: &Host, server: &Host, sets: &[Set]) -> Vec<String> {
    let mut differences = Vec::new();
    let requests = requests();
    let mut denied = 0_usize;
    for (index, Set { policies, mesh, spec, paths }) in sets.iter().enumerate() {
        let destination = SocketAddr::new(server.v4(), http_port(*paths));
        let mut envoy = BufReader::new(client.connect(destination).unwrap());
        let set = RequestPolicySet::istio(mesh.clone()).replaced(policies).unwrap();
        for request in &requests {
            let ours = decide(&set, request, *paths, client, destination);
            let status = ask(&mut envoy, index, request);
            let envoys = if status == 200 { Verdict::Allow } else { Verdict::Deny };
            assert!(matches!(status, 200 | 403), "{status} for {request:?}");
            denied += usize::from(envoys == Verdict::Deny);
            if ours != envoys {
                differences.push(format!("{paths:?}, {spec}\n  {request:?}: Envoy {envoys}, ours {ours}"));
            }
        }
    }
    // A translation that allows or denies everything proves nothing.
    let all = requests.len() * sets.len();
    assert!(denied > all / 4 && denied < all - all / 4, "{denied} of {all} denied");
    differences
}

fn decide(
    set: &RequestPolicySet,
    request: &Request,
    paths: PathNormalization,
    client: &Host,
    destination: SocketAddr,
) -> Verdict {
    let Ok(path) = paths.normalize(request.path, Semantics::Istio) else {
        return Verdict::Deny;
    };
    let lines: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let told = request.headers.iter().filter(|(name, _)| *name == "x-forwarded-for").map(|(_, value)| *value);
    let hops = ForwardedFor { trusted_hops: 1, use_remote_address: true };
    let claims = (!request.claims.is_null()).then(|| Claims::deserialize(&request.claims).unwrap());
    let facts = RequestFacts {
        stream: StreamFacts {
            target: Target::Workload { namespace: "foo", labels: &[] },
            source: client.v4(),
            remote: hops.client(client.v4(), told.collect::<Vec<_>>()),
            peer: request.peer,
            destination,
            sni: None,
            metadata: &[],
        },
        method: request.method,
        authority: Some(request.host),
        path: &path,
        headers: Headers::Lines(&lines),
        claims: claims.as_ref(),
    };
    let allows = |name: &str| {
        let provider = PROVIDERS.iter().find(|provider| provider.name == name).unwrap();
        request.headers.contains(&(provider.header, "allow"))
    };
    let mut step = set.evaluate_request(&facts);
    loop {
        match step {
            Step::Ask(question) => {
                let answer = if allows(question.provider()) { Answer::Allow } else { Answer::Deny };
                step = question.answer(answer);
            }
            Step::Decided(decision) => return decision.verdict(),
        }
    }
}

/// The status of Envoy's answer.
fn ask(envoy: &mut BufReader<TcpStream>, index: usize, request: &Request) -> u16 {
    let Request { method, host, path, peer, headers, claims } = request;
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nx-case: {index}\r\ncontent-length: 0\r\n");
    peer.iter().for_each(|peer| text += &format!("x-peer: {peer}\r\n"));
    headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
    if !claims.is_null() {
        text += &format!("x-claims: {}\r\n", STANDARD.encode(encode(claims)));
    }
    text += "\r\n";
    envoy.get_mut().write_all(text.as_bytes()).unwrap();
    let mut status = String::new();
    envoy.read_line(&mut status).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        envoy.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    envoy.by_ref().take(length).read_to_end(&mut Vec::new()).unwrap();
    status
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{status:?} for {request:?}"))
}
