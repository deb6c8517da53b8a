//! The name of a workload, independent of where it runs.

use std::{
    cmp::Ordering,
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use crate::{ServiceAccount, TrustDomain, TrustDomainError};

/// A SPIFFE ID, such as `spiffe://example.org/ns/shop/sa/cart`.
///
/// A value always obeys the grammar and limits of the SPIFFE-ID standard; any path does, Istio's [service
/// account](Self::service_account) form is one reading of it. Two ids are equal if their text is: the path is
/// case-sensitive. A clone costs one reference count, and the value is one pointer wide.
///
/// ```
/// use mesh_identity::SpiffeId;
///
/// let id: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
/// assert_eq!(id.trust_domain().as_str(), "example.org");
/// assert_eq!(id.service_account().map(|account| account.namespace), Some("shop"));
/// # Ok::<(), mesh_identity::SpiffeIdError>(())
/// ```
#[derive(Clone)]
pub struct SpiffeId(Arc<Inner>);

struct Inner {
    text: Box<str>,
    trust_domain: TrustDomain,
    /// Of the text, made once: tables of ids are asked for each connection.
    hash: u64,
}

/// A hash to be kept with a value, keyed anew in each process: peers choose ids.
pub(crate) fn hash_once(value: impl Hash) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(value)
}

impl SpiffeId {
    /// The longest id, in bytes (SPIFFE-ID §2.3).
    pub const MAX_LENGTH: usize = 2048;

    /// The id of a Kubernetes service account, in Istio's form.
    ///
    /// # Errors
    ///
    /// If one of the parts is empty or has a character that the grammar forbids, or the whole is too long.
    pub fn for_service_account(
        trust_domain: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Self, SpiffeIdError> {
        // Checked one by one: a slash within a part must not shift the others.
        TrustDomain::check(trust_domain)?;
        let before_namespace = SCHEME.len() + trust_domain.len() + "/ns/".len();
        check_segment(namespace, before_namespace)?;
        check_segment(name, before_namespace + namespace.len() + "/sa/".len())?;
        Self::parse(format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{name}"))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The domain that vouches for the id.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// What follows the trust domain: starts with `/`, or is empty for the id of the trust domain itself.
    pub fn path(&self) -> &str {
        self.as_str().get(SCHEME.len() + self.trust_domain().as_str().len()..).unwrap_or_default()
    }

    /// The service account the id names, if its path has Istio's form.
    pub fn service_account(&self) -> Option<ServiceAccount<'_>> {
        ServiceAccount::from_path(self.trust_domain(), self.path())
    }

    fn parse(text: impl AsRef<str> + Into<Box<str>>) -> Result<Self, SpiffeIdError> {
        let trust_domain = check(text.as_ref())?.parse()?;
        let hash = hash_once(text.as_ref());
        Ok(Self(Arc::new(Inner { text: text.into(), trust_domain, hash })))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.as_str() == other.as_str())
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// Not the hash of the text, so that there is no `Borrow<str>`.
impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl AsRef<str> for SpiffeId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a text is not a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// A path segment has a character outside `A-Z a-z 0-9 . - _`: a query, a fragment, percent-encoding.
    #[error(
        "spiffe id path has the character {character:?} at byte {position}, allowed are A-Z a-z 0-9 . - _"
    )]
    Character {
        /// The first such character.
        character: char,
        /// Where it begins in the id, in bytes from zero.
        position: usize,
    },
    /// A path segment is `.` or `..`.
    #[error("spiffe id path has a relative segment at byte {position}")]
    DotSegment {
        /// Where it begins in the id, in bytes from zero.
        position: usize,
    },
    /// A path segment is empty: two slashes in a row, or an empty part of a service account.
    #[error("spiffe id path has an empty segment at byte {position}")]
    EmptySegment {
        /// Where it would begin in the id, in bytes from zero.
        position: usize,
    },
    /// Does not start with `spiffe://`, in lower case.
    #[error("spiffe id does not start with {SCHEME}")]
    Scheme,
    /// More than [`SpiffeId::MAX_LENGTH`] bytes.
    #[error("spiffe id has {length} bytes, allowed are {}", SpiffeId::MAX_LENGTH)]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
    /// The path ends in a slash.
    #[error("spiffe id ends in a slash")]
    TrailingSlash,
    /// The trust domain is not one.
    #[error("spiffe id has no valid trust domain")]
    TrustDomain(#[from] TrustDomainError),
}

/// Checks a whole id and returns its trust domain.
fn check(text: &str) -> Result<&str, SpiffeIdError> {
    if text.len() > SpiffeId::MAX_LENGTH {
        return Err(SpiffeIdError::TooLong { length: text.len() });
    }
    let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
    let Some((trust_domain, path)) = rest.split_once('/') else {
        return TrustDomain::check(rest).map(|()| rest).map_err(Into::into);
    };
    TrustDomain::check(trust_domain)?;
    if path.is_empty() || path.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash);
    }
    let mut position = SCHEME.len() + trust_domain.len() + 1;
    for segment in path.split('/') {
        check_segment(segment, position)?;
        position += segment.len() + 1;
    }
    Ok(trust_domain)
}

/// Checks a segment that begins at byte `position` of its id.
fn check_segment(segment: &str, position: usize) -> Result<(), SpiffeIdError> {
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment { position }),
        "." | ".." => return Err(SpiffeIdError::DotSegment { position }),
        _ => {}
    }
    let allowed = |c: &char| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match segment.char_indices().find(|(_, c)| !allowed(c)) {
        Some((offset, character)) => Err(SpiffeIdError::Character { character, position: position + offset }),
        None => Ok(()),
    }
}

const SCHEME: &str = "spiffe://";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SpiffeId, SpiffeIdError> {
        text.parse()
    }

    // identity#1
    #[test]
    fn prints_back_what_it_read() {
        for text in [
            "spiffe://cluster.local/ns/a/sa/b",
            "spiffe://example.org",
            "spiffe://example.org/Upper/lower/1.2-3_4/...",
        ] {
            let id = parse(text).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.as_str(), text);
        }
    }

    // identity#2, identity#3
    #[test]
    fn refuses_what_the_grammar_does_not_name() {
        let character = |character, position| SpiffeIdError::Character { character, position };
        let domain = |character, position| {
            SpiffeIdError::TrustDomain(TrustDomainError::Character { character, position })
        };
        for (text, error) in [
            ("", SpiffeIdError::Scheme),
            ("example.org/ns/a/sa/b", SpiffeIdError::Scheme),
            ("https://example.org/ns/a/sa/b", SpiffeIdError::Scheme),
            ("SPIFFE://example.org/a", SpiffeIdError::Scheme),
            ("spiffe:/example.org/a", SpiffeIdError::Scheme),
            ("spiffe://", SpiffeIdError::TrustDomain(TrustDomainError::Empty)),
            ("spiffe:///ns/a/sa/b", SpiffeIdError::TrustDomain(TrustDomainError::Empty)),
            ("spiffe://Example.org/a", domain('E', 0)),
            ("spiffe://example.org:8443/a", domain(':', 11)),
            ("spiffe://user@example.org/a", domain('@', 4)),
            ("spiffe://example.org?q", domain('?', 11)),
            ("spiffe://example.org/a?q", character('?', 22)),
            ("spiffe://example.org/a#f", character('#', 22)),
            ("spiffe://example.org/a%20b", character('%', 22)),
            ("spiffe://example.org/a\0b", character('\0', 22)),
            ("spiffe://example.org/a b", character(' ', 22)),
            ("spiffe://example.org/", SpiffeIdError::TrailingSlash),
            ("spiffe://example.org/a/", SpiffeIdError::TrailingSlash),
            ("spiffe://example.org//a", SpiffeIdError::EmptySegment { position: 21 }),
            ("spiffe://example.org/a//b", SpiffeIdError::EmptySegment { position: 23 }),
            ("spiffe://example.org/./a", SpiffeIdError::DotSegment { position: 21 }),
            ("spiffe://example.org/a/..", SpiffeIdError::DotSegment { position: 23 }),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
            assert_eq!(SpiffeId::try_from(text.to_owned()).unwrap_err(), error, "{text:?}");
        }
    }

    // identity#4
    #[test]
    fn takes_2048_bytes_and_not_one_more() {
        let prefix = "spiffe://example.org/";
        let longest = format!("{prefix}{}", "a".repeat(SpiffeId::MAX_LENGTH - prefix.len()));
        assert_eq!(longest.len(), 2048);
        assert!(parse(&longest).is_ok());
        assert_eq!(parse(&format!("{longest}a")).unwrap_err(), SpiffeIdError::TooLong { length: 2049 });
    }

    // identity#2, identity#5
    #[test]
    fn only_the_exact_istio_form_names_a_service_account() {
        let id = parse("spiffe://example.org/ns/shop/sa/cart").unwrap();
        let account = id.service_account().unwrap();
        assert_eq!(
            (account.trust_domain.as_str(), account.namespace, account.name),
            ("example.org", "shop", "cart")
        );
        for path in [
            "",
            "/shop/cart",
            "/ns/shop",
            "/ns/shop/sa",
            "/ns/shop/sa/cart/x",
            "/ns/shop/SA/cart",
            "/NS/shop/sa/cart",
        ] {
            let id = parse(&format!("spiffe://example.org{path}")).unwrap();
            assert_eq!(id.path(), path);
            assert_eq!(id.service_account(), None, "{path}");
        }
    }

    #[test]
    fn a_service_account_part_cannot_hold_a_separator() {
        let make = |td, ns, sa| SpiffeId::for_service_account(td, ns, sa);
        assert_eq!(make("example.org", "a", "b").unwrap(), parse("spiffe://example.org/ns/a/sa/b").unwrap());
        assert_eq!(
            make("example.org", "a/sa/b", "c").unwrap_err(),
            SpiffeIdError::Character { character: '/', position: 25 }
        );
        assert_eq!(make("example.org", "a", "").unwrap_err(), SpiffeIdError::EmptySegment { position: 29 });
        assert_eq!(make("example.org", "..", "b").unwrap_err(), SpiffeIdError::DotSegment { position: 24 });
        assert_eq!(
            make("example.org/x", "a", "b").unwrap_err(),
            SpiffeIdError::TrustDomain(TrustDomainError::Character { character: '/', position: 11 })
        );
    }

    // identity#7
    #[test]
    fn the_path_is_case_sensitive() {
        assert_ne!(parse("spiffe://example.org/a").unwrap(), parse("spiffe://example.org/A").unwrap());
    }
}
