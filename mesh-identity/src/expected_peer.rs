//! Whom a connection may be with.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ptr,
    sync::Arc,
};

use crate::{SpiffeId, TrustDomain, spiffe_id::hash_once};

/// The peers a connection may be with: never "anyone", always a named set.
///
/// Equality and hash ignore the order and repetition of what it was made from, so that it can be part of the
/// key under which connections are shared. A clone costs one reference count.
///
/// ```
/// use mesh_identity::{ExpectedPeer, SpiffeId};
///
/// let cart: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
/// assert!(ExpectedPeer::exact([cart.clone()]).matches(&cart));
/// assert!(!ExpectedPeer::exact([]).matches(&cart));
/// # Ok::<(), mesh_identity::SpiffeIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ExpectedPeer {
    /// Of the rule, made once: keys of tables that are asked for each connection contain it.
    hash: u64,
    rule: Rule,
}

/// Sets are sorted and without repetition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Rule {
    Ids(Arc<[SpiffeId]>),
    Predicate(Arc<Predicate>),
    TrustDomains(Arc<[TrustDomain]>),
}

/// Equal to itself only: two functions cannot be compared.
struct Predicate {
    description: Box<str>,
    matches: Box<dyn Fn(&SpiffeId) -> bool + Send + Sync>,
}

impl ExpectedPeer {
    fn new(rule: Rule) -> Self {
        Self { hash: hash_once(&rule), rule }
    }

    /// Exactly one of these ids; none of them means no peer at all.
    pub fn exact(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self::new(Rule::Ids(distinct(ids)))
    }

    /// Any id of this trust domain.
    pub fn trust_domain(trust_domain: TrustDomain) -> Self {
        Self::trust_domains([trust_domain])
    }

    /// Any id of one of these trust domains, for a mesh with aliases or federation; none of them means no
    /// peer at all.
    pub fn trust_domains(trust_domains: impl IntoIterator<Item = TrustDomain>) -> Self {
        Self::new(Rule::TrustDomains(distinct(trust_domains)))
    }

    /// Any id of which `matches` holds, which errors and logs call `description`. It is called in handshakes, on threads
    /// that serve traffic, and must not block.
    ///
    /// Two values made this way differ, even from the same function: clone one to share connections and configurations.
    ///
    /// ```
    /// use mesh_identity::{ExpectedPeer, SpiffeId};
    ///
    /// let shop = ExpectedPeer::matching("the namespace shop", |id: &SpiffeId| {
    ///     id.trust_domain().as_str() == "example.org"
    ///         && id.service_account().is_some_and(|account| account.namespace == "shop")
    /// });
    /// assert!(shop.matches(&"spiffe://example.org/ns/shop/sa/cart".parse()?));
    /// # Ok::<(), mesh_identity::SpiffeIdError>(())
    /// ```
    pub fn matching(
        description: impl Into<Box<str>>,
        matches: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static,
    ) -> Self {
        let predicate = Predicate { description: description.into(), matches: Box::new(matches) };
        Self::new(Rule::Predicate(Arc::new(predicate)))
    }

    /// Whether `id` is such a peer. Takes time logarithmic in the size of a set.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match &self.rule {
            Rule::Ids(ids) => ids.binary_search(id).is_ok(),
            Rule::Predicate(predicate) => (predicate.matches)(id),
            Rule::TrustDomains(domains) => domains.binary_search(id.trust_domain()).is_ok(),
        }
    }
}

impl Hash for ExpectedPeer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExpectedPeer").field(&self.rule).finish()
    }
}

impl fmt::Display for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Ids(ids) if ids.is_empty() => f.write_str("no peer"),
            Rule::Ids(ids) => list(f, ids),
            Rule::Predicate(predicate) => f.write_str(&predicate.description),
            Rule::TrustDomains(domains) if domains.is_empty() => f.write_str("no peer"),
            Rule::TrustDomains(domains) => {
                f.write_str("any identity of ")?;
                list(f, domains)
            }
        }
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Predicate {}

impl Hash for Predicate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(self, state);
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Predicate").field(&self.description).finish()
    }
}

fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> Arc<[T]> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items.dedup();
    items.into()
}

fn list(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    for (index, item) in items.iter().take(MAX_LISTED).enumerate() {
        let separator = if index == 0 { "" } else { " or " };
        write!(f, "{separator}{item}")?;
    }
    match items.len().saturating_sub(MAX_LISTED) {
        0 => Ok(()),
        more => write!(f, " or {more} more"),
    }
}

/// Names that are displayed: a service can have hundreds, and each refused handshake writes them into a log.
const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    // identity#16
    #[test]
    fn order_and_repetition_do_not_matter() {
        let (a, b) = (id("spiffe://example.org/a"), id("spiffe://example.org/b"));
        let one = ExpectedPeer::exact([a.clone(), b.clone()]);
        let other = ExpectedPeer::exact([b.clone(), a.clone(), b.clone()]);
        let hasher = RandomState::new();
        assert_eq!(one, other);
        assert_eq!(hasher.hash_one(&one), hasher.hash_one(&other));
        assert!(one.matches(&a) && one.matches(&b) && other.matches(&a) && other.matches(&b));
        assert_ne!(one, ExpectedPeer::exact([a]));
    }

    #[test]
    fn a_long_list_is_shown_by_its_beginning() {
        let ids = |count| (0..count).map(|number| id(&format!("spiffe://example.org/{number:03}")));
        let text = ExpectedPeer::exact(ids(300)).to_string();
        assert!(text.starts_with("spiffe://example.org/000 or ") && text.ends_with(" or 292 more"), "{text}");
        assert!(text.len() < 300);
        assert!(ExpectedPeer::exact(ids(8)).to_string().ends_with("spiffe://example.org/007"));
    }

    // identity#17
    #[test]
    fn an_empty_set_matches_nothing() {
        let a = id("spiffe://example.org/a");
        for nobody in [ExpectedPeer::exact([]), ExpectedPeer::trust_domains([])] {
            assert!(!nobody.matches(&a));
            assert_eq!(nobody.to_string(), "no peer");
        }
    }

    #[test]
    fn a_predicate_is_equal_to_its_clones_only() {
        let make = || ExpectedPeer::matching("batch jobs", |id| id.path().starts_with("/batch/"));
        let (one, other) = (make(), make());
        let hasher = RandomState::new();
        assert_eq!(one, one.clone());
        assert_eq!(hasher.hash_one(&one), hasher.hash_one(one.clone()));
        assert_ne!(one, other);
        assert!(one.matches(&id("spiffe://example.org/batch/7")));
        assert!(!one.matches(&id("spiffe://example.org/a")));
        assert_eq!(one.to_string(), "batch jobs");
    }

    // identity#20
    #[test]
    fn a_trust_domain_matches_its_own_ids_only() {
        let domain = |name: &str| name.parse::<TrustDomain>().unwrap();
        let expected = ExpectedPeer::trust_domains([domain("example.org"), domain("old.example.org")]);
        assert!(expected.matches(&id("spiffe://example.org/a")));
        assert!(expected.matches(&id("spiffe://old.example.org/a")));
        assert!(!expected.matches(&id("spiffe://example.org.evil.example/a")));
        assert!(!expected.matches(&id("spiffe://example.or/a")));
    }
}
