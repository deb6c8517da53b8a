//! Which of a source's identities a connection is made with.

use std::{collections::HashMap, sync::Arc};

use crate::SpiffeId;

/// Chooses the identity that is presented in a handshake, with whichever certificate its source has for it then.
///
/// A server with a workload per connection chooses before the handshake: see [`TlsConfigs`](crate::TlsConfigs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertSelector(Choice);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Fixed(SpiffeId),
    ServerName(Arc<ByServerName>),
}

#[derive(Debug, PartialEq, Eq)]
struct ByServerName {
    names: HashMap<Box<str>, SpiffeId>,
    otherwise: Option<SpiffeId>,
}

impl CertSelector {
    /// Always this identity.
    pub fn fixed(id: SpiffeId) -> Self {
        Self(Choice::Fixed(id))
    }

    /// The identity for the server name (SNI) that the client sends, compared without regard to case and as a whole;
    /// `otherwise` for other names and for clients that send none, as mesh clients do. Without one the handshake fails.
    ///
    /// A connecting side, to which nobody sends a name, presents `otherwise`.
    ///
    /// ```
    /// use mesh_identity::{CertSelector, SpiffeId};
    ///
    /// let cart: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
    /// let stock: SpiffeId = "spiffe://example.org/ns/shop/sa/stock".parse()?;
    /// let selector = CertSelector::by_server_name([("cart.example.org", cart), ("stock.example.org", stock)], None);
    /// # let _ = selector;
    /// # Ok::<(), mesh_identity::SpiffeIdError>(())
    /// ```
    pub fn by_server_name<'a>(
        names: impl IntoIterator<Item = (&'a str, SpiffeId)>,
        otherwise: Option<SpiffeId>,
    ) -> Self {
        let names = names.into_iter().map(|(name, id)| (name.to_ascii_lowercase().into(), id)).collect();
        Self(Choice::ServerName(Arc::new(ByServerName { names, otherwise })))
    }

    pub(crate) fn id(&self, server_name: Option<&str>) -> Option<&SpiffeId> {
        match &self.0 {
            Choice::Fixed(id) => Some(id),
            Choice::ServerName(by) => {
                let named = server_name.and_then(|name| {
                    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                        by.names.get(name.to_ascii_lowercase().as_str())
                    } else {
                        by.names.get(name)
                    }
                });
                named.or(by.otherwise.as_ref())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    #[test]
    fn a_server_name_chooses_and_others_get_the_rest() {
        let (a, b, c) =
            (id("spiffe://example.org/a"), id("spiffe://example.org/b"), id("spiffe://example.org/c"));
        let names = || [("a.example.org", a.clone()), ("B.example.org", b.clone())];
        for otherwise in [None, Some(c.clone())] {
            let selector = CertSelector::by_server_name(names(), otherwise.clone());
            for (name, expected) in [
                (Some("a.example.org"), Some(&a)),
                (Some("b.example.org"), Some(&b)),
                (Some("A.EXAMPLE.org"), Some(&a)),
                (Some("x.a.example.org"), otherwise.as_ref()),
                (None, otherwise.as_ref()),
            ] {
                assert_eq!(selector.id(name), expected, "{name:?}");
            }
        }
        assert_eq!(CertSelector::fixed(a.clone()).id(Some("b.example.org")), Some(&a));
    }
}
