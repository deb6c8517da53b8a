//! Callers with the tokens that a cluster projects into their pods (`--jwks`).

use std::fs;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use mesh_identity::{IstioCa, TokenSource};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Value, json};

use crate::running::{CART, Folder, HOUR, Running, STOCK, id, issue, refused_with, workload};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ZTUNNEL: &str = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";

/// A cluster's key for tokens.
struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn ecdsa(kid: &'static str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        // An uncompressed point: a tag, then both coordinates.
        let [x, y] = [1..33, 33..65].map(|part| URL_SAFE_NO_PAD.encode(&key.der_bytes()[part]));
        Self {
            kid,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(&key.serialize_der()),
            jwk: json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": x, "y": y }),
        }
    }

    /// As clusters sign unless they are set up otherwise.
    fn rsa(kid: &'static str) -> Self {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        // PKCS#8 with 2048 bits: a header, then the key as PKCS#1. Of the public one the first number is the modulus.
        let modulus = URL_SAFE_NO_PAD.encode(&key.der_bytes()[9..265]);
        Self {
            kid,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_der(&key.serialize_der()[26..]),
            jwk: json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": modulus, "e": "AQAB" }),
        }
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

fn key_set(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>() }).to_string()
}

/// What a node's proxy has on a cluster of today; older ones say the pod and not its node.
fn claims() -> Value {
    let now = get_current_timestamp();
    json!({
        "aud": ["istio-ca"],
        "exp": now + 43_200,
        "iat": now,
        "iss": ISSUER,
        "jti": "6c2fa9c4-0d3f-4d8e-8ffb-6f2b9b6c1f7e",
        "kubernetes.io": {
            "namespace": "istio-system",
            "node": { "name": "node-1", "uid": "64f7a0e0-9b5e-4c5c-b0c1-2f9b5a1f0001" },
            "pod": { "name": "ztunnel-abcde", "uid": "64f7a0e0-9b5e-4c5c-b0c1-2f9b5a1f0002" },
            "serviceaccount": { "name": "ztunnel", "uid": "64f7a0e0-9b5e-4c5c-b0c1-2f9b5a1f0003" },
        },
        "nbf": now,
        "sub": "system:serviceaccount:istio-system:ztunnel",
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims();
    change(&mut claims);
    claims
}

fn without_node(pod: &str) -> Value {
    with(|claims| {
        claims["kubernetes.io"].as_object_mut().unwrap().remove("node");
        claims["kubernetes.io"]["pod"]["name"] = pod.into();
    })
}

async fn authority(signers: &[&Signer]) -> Running {
    let folder = Folder::new();
    let proxy = |name: &str, account: &str, node: &str| {
        format!(
            "- uid: Kubernetes//Pod/istio-system/{name}\n  name: {name}\n  namespace: istio-system\n  \
             serviceAccount: {account}\n  node: {node}\n  workloadIps: []\n  services: {{}}\n"
        )
    };
    let workloads = [
        workload("cart", "node-1"),
        workload("stock", "node-2"),
        proxy("ztunnel-abcde", "ztunnel", "node-1"),
        proxy("ztunnel-fghij", "ztunnel", "node-2"),
        proxy("other-abcde", "other", "node-1"),
    ];
    folder.write("workloads.yaml", &format!("workloads:\n{}", workloads.concat()));
    folder.write("keys.json", &key_set(signers));
    let issuer = format!("--jwt-issuer={ISSUER}");
    Running::start_in(folder, &["--jwks=DIR/keys.json", "--workloads=DIR/workloads.yaml", &issuer]).await
}

impl Running {
    fn node_proxy(&self, token: &str) -> IstioCa {
        self.client().impersonate(true).token(TokenSource::fixed(token)).build().unwrap()
    }
}

// identity §4.3, identity#29
#[tokio::test]
async fn a_nodes_proxy_gets_the_workloads_of_its_node() {
    let (rsa, ecdsa) = (Signer::rsa("rsa"), Signer::ecdsa("ecdsa"));
    let authority = authority(&[&rsa, &ecdsa]).await;
    for signer in [&rsa, &ecdsa] {
        for claims in [claims(), without_node("ztunnel-abcde")] {
            let proxy = authority.node_proxy(&signer.sign(&claims));
            let issued = issue(&proxy, CART, HOUR).await.unwrap();
            assert_eq!(issued.svid.id(), &id(CART));
            assert_eq!(refused_with(issue(&proxy, STOCK, HOUR).await), "UNAUTHENTICATED");
        }
        let elsewhere = authority.node_proxy(&signer.sign(&without_node("ztunnel-fghij")));
        issue(&elsewhere, STOCK, HOUR).await.unwrap();
        assert_eq!(refused_with(issue(&elsewhere, CART, HOUR).await), "UNAUTHENTICATED");
    }
}

#[tokio::test]
async fn a_token_that_is_flawed_gets_nothing() {
    let (signer, stranger) = (Signer::ecdsa("k1"), Signer::ecdsa("k1"));
    let authority = authority(&[&signer]).await;
    let now = get_current_timestamp();
    let set = |claim: &'static str, value: Value| with(move |claims| claims[claim] = value);
    let flawed = [
        ("expired", signer.sign(&set("exp", (now - 3600).into()))),
        ("not yet valid", signer.sign(&set("nbf", (now + 3600).into()))),
        ("for another audience", signer.sign(&set("aud", json!(["https://kubernetes.default.svc"])))),
        ("of another issuer", signer.sign(&set("iss", "https://example.org".into()))),
        ("of nobody", signer.sign(&set("kubernetes.io", json!({})))),
        ("signed with another key of that name", stranger.sign(&claims())),
        ("signed with a key of another name", Signer::ecdsa("k2").sign(&claims())),
        ("not a token", "x".to_owned()),
    ];
    for (what, token) in flawed {
        let refused = issue(&authority.node_proxy(&token), CART, HOUR).await;
        assert_eq!(refused_with(refused), "UNAUTHENTICATED", "{what}");
    }
    issue(&authority.node_proxy(&signer.sign(&claims())), CART, HOUR).await.unwrap();
}

#[tokio::test]
async fn what_a_caller_may_ask_for_ends_with_its_account_and_pod() {
    let signer = Signer::ecdsa("k1");
    let authority = authority(&[&signer]).await;
    let account = |name: &'static str, claims: Value| {
        let mut claims = claims;
        claims["kubernetes.io"]["serviceaccount"]["name"] = name.into();
        signer.sign(&claims)
    };
    for (what, token) in [
        ("not a node's account", account("other", claims())),
        ("a pod that does not exist", signer.sign(&without_node("ztunnel-zzzzz"))),
        ("a pod of another account", signer.sign(&without_node("other-abcde"))),
    ] {
        let refused = issue(&authority.node_proxy(&token), CART, HOUR).await;
        assert_eq!(refused_with(refused), "UNAUTHENTICATED", "{what}");
    }
    // Everybody may be who they are.
    let client = |token: &str| authority.client().token(TokenSource::fixed(token)).build().unwrap();
    let own = "spiffe://cluster.local/ns/istio-system/sa/other";
    assert_eq!(issue(&client(&account("other", claims())), own, HOUR).await.unwrap().svid.id(), &id(own));
    let issued = issue(&client(&signer.sign(&claims())), ZTUNNEL, HOUR).await.unwrap();
    assert_eq!(issued.svid.id(), &id(ZTUNNEL));
}

// identity#29
#[tokio::test]
async fn tokens_and_keys_are_replaced_while_all_runs() {
    let (first, second) = (Signer::ecdsa("k1"), Signer::ecdsa("k2"));
    let authority = authority(&[&first]).await;
    let folder = &authority.folder;
    folder.write("token", &first.sign(&with(|claims| claims["exp"] = 1.into())));
    let file = TokenSource::file(folder.0.join("token"));
    let proxy = authority.client().impersonate(true).token(file).build().unwrap();
    assert_eq!(refused_with(issue(&proxy, CART, HOUR).await), "UNAUTHENTICATED");
    // As the kubelet does before the old one ends.
    folder.write("token", &format!("{}\n", first.sign(&claims())));
    issue(&proxy, CART, HOUR).await.unwrap();

    folder.write("keys.json", &key_set(&[&first, &second]));
    folder.write("token", &second.sign(&claims()));
    issue(&proxy, CART, HOUR).await.unwrap();
    folder.write("keys.json", &key_set(&[&second]));
    issue(&proxy, CART, HOUR).await.unwrap();
    let old = authority.node_proxy(&first.sign(&claims()));
    assert_eq!(refused_with(issue(&old, CART, HOUR).await), "UNAUTHENTICATED");

    // Keys that cannot be read change nothing, and none admit nobody until there are some again.
    folder.write("keys.json", "{");
    issue(&proxy, CART, HOUR).await.unwrap();
    fs::remove_file(folder.0.join("keys.json")).unwrap();
    assert_eq!(refused_with(issue(&proxy, CART, HOUR).await), "UNAUTHENTICATED");
    folder.write("keys.json", &key_set(&[&second]));
    issue(&proxy, CART, HOUR).await.unwrap();
}
