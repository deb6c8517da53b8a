//! Values about a peer's identity.

use std::fmt;

use super::glob::after_each;

/// The parts of an identity in Istio's form, `spiffe://<trust domain>/ns/<namespace>/sa/<account>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IstioIdentity<'a> {
    pub(crate) trust_domain: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
}

impl<'a> IstioIdentity<'a> {
    /// Nothing if the URI has any other form.
    pub(crate) fn parse(uri: &'a str) -> Option<Self> {
        let (trust_domain, path) = cut(uri.strip_prefix(SCHEME)?)?;
        let (namespace, rest) = cut(path.strip_prefix("ns/")?)?;
        let account = rest.strip_prefix("sa/")?;
        let none_is_empty = !trust_domain.is_empty() && !namespace.is_empty() && !account.is_empty();
        (none_is_empty && cut(account).is_none()).then_some(Self { trust_domain, namespace, account })
    }
}

/// What precedes and follows the first slash. Done for every request: in a text this short, faster than a search.
fn cut(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().position(|byte| byte == b'/')?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The trust domain of a SPIFFE ID that has a path, if only an empty one.
pub(crate) fn trust_domain(uri: &str) -> Option<&str> {
    Some(uri.strip_prefix(SCHEME)?.split_once('/')?.0)
}

/// A service account of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    /// `/ns/<namespace>/`
    namespace_part: Box<str>,
    /// `sa/<name>`
    name_part: Box<str>,
}

impl Account {
    /// As written: `name`, or `namespace/name`.
    pub(crate) fn new(text: &str, policy_namespace: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or((policy_namespace, text));
        Self {
            namespace: namespace.into(),
            name: name.into(),
            namespace_part: format!("/ns/{namespace}/").into(),
            name_part: format!("sa/{name}").into(),
        }
    }

    /// Whether a SPIFFE ID has the namespace and later the account somewhere in its path, whatever stands
    /// before, between and after.
    pub(crate) fn is_within(&self, uri: &str) -> bool {
        let Some(id) = uri.strip_prefix(SCHEME) else { return false };
        // Something has to precede the namespace.
        let Some(start) = id.chars().next().map(char::len_utf8) else { return false };
        let Some((_, path)) = id.get(start..).and_then(|id| id.split_once(&*self.namespace_part)) else {
            return false;
        };
        after_each(path, &self.name_part).any(|rest| {
            let at = path.len() - rest.len() - self.name_part.len();
            let begins_a_segment = at == 0 || at > 1 && path.as_bytes().get(at - 1) == Some(&b'/');
            begins_a_segment && (rest.is_empty() || rest.len() > 1 && rest.starts_with('/'))
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pairs of a namespace and an account that [`Account::is_within`] finds in a URI, and maybe more.
pub(crate) fn accounts_within(uri: &str) -> impl Iterator<Item = (&str, &str)> {
    let path = uri.strip_prefix(SCHEME).unwrap_or_default();
    after_each(path, "/ns/").filter_map(|rest| rest.split_once('/')).flat_map(|(namespace, rest)| {
        let first = rest.strip_prefix("sa/");
        let segments = first.into_iter().chain(after_each(rest, "/sa/"));
        segments.map(move |rest| (namespace, rest.split('/').next().unwrap_or_default()))
    })
}

/// The namespaces that are in a URI, by the reading of [`Glob::matches_after_ns`](super::Glob::matches_after_ns).
pub(crate) fn namespaces_within(uri: &str) -> impl Iterator<Item = &str> {
    after_each(uri, "/ns/").filter_map(|rest| Some(rest.split_once('/')?.0))
}

pub(crate) const SCHEME: &str = "spiffe://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_form_is_istios() {
        let parse = |uri| IstioIdentity::parse(uri).map(|id| (id.trust_domain, id.namespace, id.account));
        assert_eq!(parse("spiffe://example.org/ns/shop/sa/cart"), Some(("example.org", "shop", "cart")));
        for uri in [
            "",
            "https://example.org/ns/shop/sa/cart",
            "spiffe:///ns/shop/sa/cart",
            "spiffe://example.org/ns//sa/cart",
            "spiffe://example.org/ns/shop/sa/",
            "spiffe://example.org/ns/shop/sa/cart/x",
            "spiffe://example.org/x/ns/shop/sa/cart",
            "spiffe://example.org/ns/shop",
        ] {
            assert_eq!(parse(uri), None, "{uri}");
        }
    }

    // policy#92
    #[test]
    fn an_account_is_found_in_longer_paths_and_never_read_as_a_pattern() {
        let account = Account::new("a.b", "shop");
        for (uri, expected) in [
            ("spiffe://example.org/ns/shop/sa/a.b", true),
            ("spiffe://example.org/ns/shop/sa/a-b", false),
            ("spiffe://example.org/ns/shop/sa/a.bc", false),
            ("spiffe://example.org/ns/shop/sa/a.b/", false),
            ("spiffe://example.org/ns/shop/sa/a.b/x", true),
            ("spiffe://example.org/ns/shop/x/sa/a.b", true),
            ("spiffe://example.org/ns/shop//sa/a.b", false),
            ("spiffe://example.org/ns/shop/xsa/a.b", false),
            ("spiffe:///ns/shop/sa/a.b", false),
            ("spiffe://x/ns/shop/ns/shop/sa/a.b", true),
            ("https://example.org/ns/shop/sa/a.b", false),
        ] {
            assert_eq!(account.is_within(uri), expected, "{uri}");
            if expected {
                assert!(accounts_within(uri).any(|found| found == ("shop", "a.b")), "{uri}");
            }
        }
        assert_eq!(Account::new("bank/till", "shop").to_string(), "bank/till");
    }
}
