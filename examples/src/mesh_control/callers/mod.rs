//! Who calls, and for whom they may ask.

mod jwt;
mod tokens;

use std::{collections::HashMap, path::PathBuf, str::FromStr, sync::Arc};

use mesh_identity::{SpiffeId, TrustDomain};
use thiserror::Error;
use tonic::metadata::MetadataMap;

pub use self::{jwt::JwtError, tokens::TokensError};

use self::{jwt::JwtCallers, tokens::TokenCallers};
use super::{options::Options, workloads::Workloads};

/// Finds out who calls.
pub(super) struct Callers {
    tokens: Option<TokenCallers>,
    jwt: Option<JwtCallers>,
}

impl Callers {
    pub(super) async fn new(options: &Options) -> Result<Self, CallersError> {
        let tokens = match options.tokens.clone() {
            Some(path) => Some(TokenCallers::open(path).await?),
            None => None,
        };
        let jwt = match options.jwks.clone() {
            Some(path) => Some(JwtCallers::open(path, options).await?),
            None => None,
        };
        Ok(Self { tokens, jwt })
    }

    /// Who sends these headers.
    pub(super) async fn authenticate(&self, headers: &MetadataMap) -> Result<Arc<Caller>, Unknown> {
        if self.tokens.is_none() && self.jwt.is_none() {
            return Ok(Arc::new(Caller::anybody()));
        }
        let token = one(headers, "authorization").ok_or(Unknown::NoToken)?;
        let token = token.strip_prefix("Bearer ").ok_or(Unknown::NoToken)?;
        if let Some(tokens) = &self.tokens
            && let Some(caller) = tokens.find(token).await
        {
            return Ok(caller);
        }
        match &self.jwt {
            Some(jwt) => Ok(Arc::new(jwt.verify(token).await?)),
            None => Err(Unknown::Token),
        }
    }
}

/// The only value of a header, as text.
pub(super) fn one<'a>(headers: &'a MetadataMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Somebody who calls.
#[derive(Debug, PartialEq)]
pub(super) struct Caller {
    /// For logs.
    pub(super) name: String,
    pub(super) rights: Rights,
}

/// For whom somebody may ask.
#[derive(Debug, PartialEq)]
pub(super) enum Rights {
    /// For everybody, as no caller proves who they are.
    Anybody,
    /// For themselves, for some others, and for the workloads of a node.
    Listed { own: SpiffeId, others: Vec<SpiffeId>, node: Option<Place> },
}

/// The node of a caller: known, or that of its pod, found by its name and service account. Uids are not compared, since
/// workloads files have none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Place {
    Node(String),
    Pod { namespace: String, name: String },
}

impl Caller {
    fn anybody() -> Self {
        Self { name: "an unauthenticated caller".to_owned(), rights: Rights::Anybody }
    }

    /// Whose certificate the caller gets who asks for `requested`, or for nobody in particular.
    pub(super) fn identity(
        &self,
        requested: Option<&str>,
        cluster: Cluster<'_>,
        trust_domain: &TrustDomain,
        workloads: Option<&Workloads>,
    ) -> Result<SpiffeId, Forbidden> {
        let Some(requested) = requested else {
            return match &self.rights {
                Rights::Listed { own, .. } => Ok(own.clone()),
                Rights::Anybody => Err(Forbidden::Nobody),
            };
        };
        let id: SpiffeId = requested.parse().map_err(|_| Forbidden::NoId { text: shorten(requested) })?;
        if id.service_account().is_none() {
            return Err(Forbidden::NoId { text: shorten(requested) });
        }
        // As Istio: the workloads are those of a registered cluster, named exactly.
        if cluster.sent != Some(cluster.own) {
            return Err(Forbidden::Cluster { sent: cluster.sent.map(shorten) });
        }
        match &self.rights {
            Rights::Anybody => match workloads {
                Some(workloads) if workloads.has(&id) => Ok(id),
                Some(_) => Err(Forbidden::NoWorkload { id }),
                None if id.trust_domain() == trust_domain => Ok(id),
                None => Err(Forbidden::TrustDomain { id }),
            },
            Rights::Listed { own, others, .. } if *own == id || others.contains(&id) => Ok(id),
            Rights::Listed { node: None, .. } => Err(Forbidden::NotNode { id }),
            Rights::Listed { own, node: Some(place), .. } => {
                let workloads = workloads.ok_or(Forbidden::NoWorkloads)?;
                let node = match place {
                    Place::Node(node) => Some(node.as_str()),
                    Place::Pod { namespace, name } => workloads.node_of(namespace, name, own),
                };
                let node = node.ok_or(Forbidden::NoNode)?;
                if workloads.on_node(node, &id) {
                    Ok(id)
                } else {
                    Err(Forbidden::OtherNode { id, node: node.to_owned() })
                }
            }
        }
    }
}

/// The cluster a caller says it is in, and ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cluster<'a> {
    pub(super) sent: Option<&'a str>,
    pub(super) own: &'a str,
}

/// A service account.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Account {
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl FromStr for Account {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(namespace, name))
            }
            _ => Err(()),
        }
    }
}

/// Why nobody knows who calls. The caller is told nothing of it.
#[derive(Debug, Error)]
pub(super) enum Unknown {
    #[error("the token is no service-account token that counts here")]
    Jwt(#[from] jsonwebtoken::errors::Error),
    #[error("the token is signed with a key that is not in the key set")]
    Key,
    #[error("there is not exactly one authorization header with a bearer token")]
    NoToken,
    #[error("the token names no service account")]
    NoServiceAccount,
    #[error("the token is in no list")]
    Token,
}

/// Why a caller may not ask for an identity. The caller is told nothing of it.
#[derive(Debug, Error, PartialEq)]
pub(super) enum Forbidden {
    #[error("cluster {sent:?} is not the one of this authority")]
    Cluster { sent: Option<String> },
    #[error("{text:?} is not the identity of a service account")]
    NoId { text: String },
    #[error("the node of the caller is unknown")]
    NoNode,
    #[error("{id} is no workload")]
    NoWorkload { id: SpiffeId },
    #[error("there are no workloads (--workloads)")]
    NoWorkloads,
    #[error("it asks for nobody in particular, and nobody knows who it is")]
    Nobody,
    #[error("it is not a node's proxy, and so may not ask for {id}")]
    NotNode { id: SpiffeId },
    #[error("{id} is no workload on its node {node}")]
    OtherNode { id: SpiffeId, node: String },
    #[error("{id} is in another trust domain")]
    TrustDomain { id: SpiffeId },
}

/// Why callers cannot be known.
#[derive(Debug, Error)]
pub enum CallersError {
    /// The key set.
    #[error("{}", .path.display())]
    Jwks {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: JwtError,
    },
    /// The list of tokens.
    #[error("{}", .path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokensError,
    },
}

/// Of a text from outside, for one log line.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Callers by their tokens.
type ByToken = HashMap<String, Arc<Caller>>;

#[cfg(test)]
mod tests {
    use super::*;

    const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
    const STOCK: &str = "spiffe://cluster.local/ns/shop/sa/stock";
    const ZTUNNEL: &str = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";

    fn workloads() -> Workloads {
        let workload = |namespace: &str, name: &str, account: &str, node: &str| {
            format!(
                "- uid: c//Pod/{namespace}/{name}\n  name: {name}\n  namespace: {namespace}\n  \
                 serviceAccount: {account}\n  node: {node}\n  workloadIps: []\n  services: {{}}\n"
            )
        };
        let text = format!(
            "workloads:\n{}{}{}",
            workload("shop", "cart-0", "cart", "node-1"),
            workload("shop", "stock-0", "stock", "node-2"),
            workload("istio-system", "ztunnel-0", "ztunnel", "node-1"),
        );
        Workloads::of(text.parse().unwrap())
    }

    fn caller(rights: Rights) -> Caller {
        Caller { name: "test".to_owned(), rights }
    }

    fn on(node: Option<Place>) -> Caller {
        caller(Rights::Listed { own: ZTUNNEL.parse().unwrap(), others: vec![], node })
    }

    fn identity(caller: &Caller, requested: Option<&str>) -> Result<String, Forbidden> {
        let cluster = Cluster { sent: Some("c1"), own: "c1" };
        caller
            .identity(requested, cluster, &"cluster.local".parse().unwrap(), Some(&workloads()))
            .map(|id| id.to_string())
    }

    #[test]
    fn everybody_may_ask_for_themselves() {
        for node in [None, Some(Place::Node("node-1".into()))] {
            let caller = on(node);
            assert_eq!(identity(&caller, None).unwrap(), ZTUNNEL);
            assert_eq!(identity(&caller, Some(ZTUNNEL)).unwrap(), ZTUNNEL);
        }
        assert_eq!(identity(&Caller::anybody(), None), Err(Forbidden::Nobody));
    }

    #[test]
    fn impersonation_ends_at_the_node() {
        let known = on(Some(Place::Node("node-1".into())));
        let pod = |name: &str| Place::Pod { namespace: "istio-system".into(), name: name.into() };
        for caller in [known, on(Some(pod("ztunnel-0")))] {
            assert_eq!(identity(&caller, Some(CART)).unwrap(), CART);
            assert!(matches!(identity(&caller, Some(STOCK)), Err(Forbidden::OtherNode { .. })));
        }
        assert_eq!(identity(&on(Some(pod("gone"))), Some(CART)), Err(Forbidden::NoNode));
        // A pod of that name that runs as somebody else is another.
        let place = Place::Pod { namespace: "shop".into(), name: "cart-0".into() };
        assert_eq!(identity(&on(Some(place)), Some(CART)), Err(Forbidden::NoNode));
        assert!(matches!(identity(&on(None), Some(CART)), Err(Forbidden::NotNode { .. })));
    }

    #[test]
    fn listed_identities_need_no_node() {
        let rights = Rights::Listed {
            own: ZTUNNEL.parse().unwrap(),
            others: vec![STOCK.parse().unwrap()],
            node: None,
        };
        assert_eq!(identity(&caller(rights), Some(STOCK)).unwrap(), STOCK);
    }

    // identity#86
    #[test]
    fn cluster_has_to_be_the_registered_one() {
        let caller = on(Some(Place::Node("node-1".into())));
        let trust_domain = "cluster.local".parse().unwrap();
        for sent in [None, Some(""), Some("c2"), Some("C1")] {
            let cluster = Cluster { sent, own: "c1" };
            let found = caller.identity(Some(CART), cluster, &trust_domain, Some(&workloads()));
            assert!(matches!(found, Err(Forbidden::Cluster { .. })), "{sent:?}");
        }
    }

    #[test]
    fn what_is_no_service_account_is_refused() {
        for text in ["", "cart", "spiffe://cluster.local", "spiffe://cluster.local/x", "spiffe://c/ns/a/sa/"]
        {
            let found = identity(&on(Some(Place::Node("node-1".into()))), Some(text));
            assert_eq!(found, Err(Forbidden::NoId { text: text.into() }));
        }
    }

    #[test]
    fn without_callers_the_workloads_are_the_limit_and_else_the_trust_domain() {
        let anybody = Caller::anybody();
        assert_eq!(identity(&anybody, Some(STOCK)).unwrap(), STOCK);
        let other = "spiffe://cluster.local/ns/shop/sa/other";
        assert!(matches!(identity(&anybody, Some(other)), Err(Forbidden::NoWorkload { .. })));
        let (cluster, domain) = (Cluster { sent: Some("c"), own: "c" }, "cluster.local".parse().unwrap());
        assert!(anybody.identity(Some(other), cluster, &domain, None).is_ok());
        let foreign = anybody.identity(Some("spiffe://example.org/ns/a/sa/b"), cluster, &domain, None);
        assert!(matches!(foreign, Err(Forbidden::TrustDomain { .. })));
    }
}
