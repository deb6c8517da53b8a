//! Service-account tokens, checked with the keys that sign them.

use std::{io, path::PathBuf};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use mesh_identity::{SpiffeId, TrustDomain};
use serde::Deserialize;
use thiserror::Error;

use super::{Account, Caller, CallersError, Place, Rights, Unknown};
use crate::mesh_control::{options::Options, reread::Reread};

/// The callers whose tokens are signed with the keys of a file.
pub(super) struct JwtCallers {
    path: PathBuf,
    keys: Reread<Keys>,
    audience: String,
    issuer: Option<String>,
    trust_domain: TrustDomain,
    node_accounts: Vec<Account>,
}

impl JwtCallers {
    pub(super) async fn open(path: PathBuf, options: &Options) -> Result<Self, CallersError> {
        let failed = |source| CallersError::Jwks { path: path.clone(), source };
        let text = tokio::fs::read(&path).await.map_err(JwtError::Read).map_err(failed)?;
        let keys = Keys::parse(&text).map_err(failed)?;
        Ok(Self {
            path,
            keys: Reread::new("the key set", &text, keys),
            audience: options.jwt_audience.clone(),
            issuer: options.jwt_issuer.clone(),
            trust_domain: options.trust_domain.clone(),
            node_accounts: options.node_accounts.clone(),
        })
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Caller, Unknown> {
        let read = async || match tokio::fs::read(&self.path).await {
            // Keys that are taken away admit nobody.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(JwtError::Read),
        };
        let make =
            async |text: Option<Vec<u8>>| text.map_or_else(|| Ok(Keys::none()), |text| Keys::parse(&text));
        let keys = self.keys.get(read, make).await;
        let claims = keys.verify(token, &self.audience, self.issuer.as_deref())?;
        self.caller(claims)
    }

    fn caller(&self, claims: Claims) -> Result<Caller, Unknown> {
        let Kubernetes { namespace, serviceaccount, pod, node } = claims.kubernetes;
        let own = format!("spiffe://{}/ns/{namespace}/sa/{}", self.trust_domain, serviceaccount.name);
        let own: SpiffeId = own.parse().map_err(|_| Unknown::NoServiceAccount)?;
        if own.service_account().is_none() {
            return Err(Unknown::NoServiceAccount);
        }
        let account = Account::new(&namespace, &serviceaccount.name);
        // Newer clusters say the node; in older ones it is that of the pod.
        let place = match (node, pod) {
            (Some(node), _) => Some(Place::Node(node.name)),
            (None, Some(pod)) => Some(Place::Pod { namespace, name: pod.name }),
            (None, None) => None,
        };
        let node = place.filter(|_| self.node_accounts.contains(&account));
        Ok(Caller { name: own.to_string(), rights: Rights::Listed { own, others: Vec::new(), node } })
    }
}

/// Keys that sign tokens.
struct Keys(JwkSet);

impl Keys {
    fn none() -> Self {
        Self(JwkSet { keys: Vec::new() })
    }

    fn parse(text: &[u8]) -> Result<Self, JwtError> {
        let set: JwkSet = serde_json::from_slice(text).map_err(JwtError::Syntax)?;
        if set.keys.is_empty() { Err(JwtError::Empty) } else { Ok(Self(set)) }
    }

    /// The claims of a token that is signed, in date, and for this audience.
    fn verify(&self, token: &str, audience: &str, issuer: Option<&str>) -> Result<Claims, Unknown> {
        let header = decode_header(token)?;
        // What the token says is no reason to trust it: only these are ever used.
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(Unknown::Key);
        }
        let key = match &header.kid {
            Some(kid) => self.0.find(kid),
            None => self.0.keys.first().filter(|_| self.0.keys.len() == 1),
        };
        let key = DecodingKey::from_jwk(key.ok_or(Unknown::Key)?)?;
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud"]);
        validation.validate_nbf = true;
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        }
        Ok(decode::<Claims>(token, &key, &validation)?.claims)
    }
}

/// What a projected service-account token says.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Named>,
    node: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// Why a file is no set of keys.
#[derive(Debug, Error)]
pub enum JwtError {
    /// It has none.
    #[error("there is no key")]
    Empty,
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It is not such a set.
    #[error("not a JSON web key set")]
    Syntax(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData};
    use serde_json::{Value, json};

    use super::*;

    /// Signs tokens.
    struct Signer {
        algorithm: Algorithm,
        key: EncodingKey,
        keys: Keys,
    }

    impl Signer {
        fn new(kid: Option<&str>) -> Self {
            use jsonwebtoken::jwk::{
                AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters,
                EllipticCurveKeyType, Jwk,
            };
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
            // An uncompressed point: a tag, then both coordinates.
            let (x, y) = key.der_bytes()[1..].split_at(32);
            let url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let jwk = Jwk {
                common: CommonParameters { key_id: kid.map(str::to_owned), ..CommonParameters::default() },
                algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x: url(x),
                    y: url(y),
                }),
            };
            Self {
                algorithm: Algorithm::ES256,
                key: EncodingKey::from_ec_der(&key.serialize_der()),
                keys: Keys(JwkSet { keys: vec![jwk] }),
            }
        }

        /// As clusters sign unless they are set up otherwise.
        fn rsa(kid: &str) -> Self {
            let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
            // PKCS#8 with 2048 bits: a header, then the key as PKCS#1. Of the public one the first number is the modulus.
            let (private, public) = (key.serialize_der(), key.der_bytes());
            let modulus = URL_SAFE_NO_PAD.encode(&public[9..265]);
            let keys = json!({ "keys": [{ "kty": "RSA", "kid": kid, "n": modulus, "e": "AQAB" }] });
            Self {
                algorithm: Algorithm::RS256,
                key: EncodingKey::from_rsa_der(&private[26..]),
                keys: Keys::parse(keys.to_string().as_bytes()).unwrap(),
            }
        }

        fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
            let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
            encode(&header, claims, &self.key).unwrap()
        }
    }

    fn claims() -> Value {
        json!({
            "aud": ["istio-ca"],
            "exp": get_current_timestamp() + 600,
            "nbf": get_current_timestamp() - 10,
            "iss": "https://kubernetes.default.svc",
            "sub": "system:serviceaccount:istio-system:ztunnel",
            "kubernetes.io": {
                "namespace": "istio-system",
                "node": { "name": "node-1", "uid": "1" },
                "pod": { "name": "ztunnel-abcde", "uid": "2" },
                "serviceaccount": { "name": "ztunnel", "uid": "3" },
            },
        })
    }

    fn verify(signer: &Signer, token: &str) -> Result<Claims, Unknown> {
        signer.keys.verify(token, "istio-ca", Some("https://kubernetes.default.svc"))
    }

    #[test]
    fn a_signed_token_in_date_counts() {
        for kid in [None, Some("k1")] {
            let signer = Signer::new(kid);
            let claims = verify(&signer, &signer.sign(kid, &claims())).unwrap();
            assert_eq!(claims.kubernetes.serviceaccount.name, "ztunnel");
        }
    }

    #[test]
    fn a_token_signed_with_rsa_counts_as_well() {
        let signer = Signer::rsa("k1");
        let token = signer.sign(Some("k1"), &claims());
        assert_eq!(verify(&signer, &token).unwrap().kubernetes.serviceaccount.name, "ztunnel");
        let foreign = Signer::rsa("k1").sign(Some("k1"), &claims());
        assert!(matches!(verify(&signer, &foreign), Err(Unknown::Jwt(_))));
        // The key says which algorithm is its own.
        let other = Signer::new(Some("k1")).sign(Some("k1"), &claims());
        assert!(matches!(verify(&signer, &other), Err(Unknown::Jwt(_))));
    }

    #[test]
    fn every_flaw_of_a_token_is_seen() {
        let signer = Signer::new(None);
        let now = get_current_timestamp();
        for (claim, value) in [
            ("aud", json!(["other"])),
            ("aud", Value::Null),
            ("exp", json!(now - 3600)),
            ("exp", Value::Null),
            ("nbf", json!(now + 3600)),
            ("iss", json!("https://other.example.org")),
            ("iss", Value::Null),
            ("kubernetes.io", json!({})),
        ] {
            let mut claims = claims();
            claims[claim] = value;
            if claims[claim].is_null() {
                claims.as_object_mut().unwrap().remove(claim);
            }
            let found = verify(&signer, &signer.sign(None, &claims));
            assert!(matches!(found, Err(Unknown::Jwt(_))), "{claim}: {found:?}");
        }
        let foreign = Signer::new(None).sign(None, &claims());
        assert!(matches!(verify(&signer, &foreign), Err(Unknown::Jwt(_))));
        let unknown = signer.sign(Some("k2"), &claims());
        assert!(matches!(verify(&signer, &unknown), Err(Unknown::Key)));
        for garbage in ["", "a.b.c", "a"] {
            assert!(matches!(verify(&signer, garbage), Err(Unknown::Jwt(_))));
        }
    }

    #[test]
    fn algorithms_of_the_callers_choice_do_not_count() {
        let signer = Signer::new(None);
        let secret = EncodingKey::from_secret(b"anything");
        let token = encode(&Header::new(Algorithm::HS256), &claims(), &secret).unwrap();
        assert!(matches!(verify(&signer, &token), Err(Unknown::Key)));
    }

    #[test]
    fn only_a_nodes_account_has_a_node() {
        let signer = Signer::new(None);
        let callers = |accounts: Vec<Account>| JwtCallers {
            path: PathBuf::new(),
            keys: Reread::new("", &"", Keys::none()),
            audience: "istio-ca".to_owned(),
            issuer: None,
            trust_domain: "example.org".parse().unwrap(),
            node_accounts: accounts,
        };
        let node_of = |claims: &Value, accounts: Vec<Account>| {
            let claims = verify(&signer, &signer.sign(None, claims)).unwrap();
            match callers(accounts).caller(claims).unwrap().rights {
                Rights::Listed { own, node, .. } => {
                    assert_eq!(own.as_str(), "spiffe://example.org/ns/istio-system/sa/ztunnel");
                    node
                }
                Rights::Anybody => panic!("anybody"),
            }
        };
        let trusted = || vec![Account::new("istio-system", "ztunnel")];
        assert_eq!(node_of(&claims(), trusted()), Some(Place::Node("node-1".into())));
        assert_eq!(node_of(&claims(), vec![Account::new("other", "ztunnel")]), None);
        let mut older = claims();
        older["kubernetes.io"].as_object_mut().unwrap().remove("node");
        let pod = Place::Pod { namespace: "istio-system".into(), name: "ztunnel-abcde".into() };
        assert_eq!(node_of(&older, trusted()), Some(pod));
    }
}
