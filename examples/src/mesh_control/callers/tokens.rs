//! A file of tokens.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc};

use mesh_identity::SpiffeId;
use serde::Deserialize;
use thiserror::Error;

use super::{ByToken, Caller, CallersError, Place, Rights};
use crate::mesh_control::reread::Reread;

/// The callers of a file.
pub(super) struct TokenCallers {
    path: PathBuf,
    current: Reread<ByToken>,
}

impl TokenCallers {
    pub(super) async fn open(path: PathBuf) -> Result<Self, CallersError> {
        let failed = |source| CallersError::Tokens { path: path.clone(), source };
        let text = tokio::fs::read(&path).await.map_err(TokensError::Read).map_err(failed)?;
        let callers = parse(&text).map_err(failed)?;
        Ok(Self { current: Reread::new("the list of tokens", &text, callers), path })
    }

    pub(super) async fn find(&self, token: &str) -> Option<Arc<Caller>> {
        let read = async || match tokio::fs::read(&self.path).await {
            // A list of secrets that is taken away admits nobody.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(b"[]".to_vec()),
            text => text.map_err(TokensError::Read),
        };
        self.current.get(read, async |text| parse(&text)).await.get(token).cloned()
    }
}

/// A caller as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    identities: Vec<SpiffeIdText>,
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct SpiffeIdText(SpiffeId);

impl TryFrom<String> for SpiffeIdText {
    type Error = mesh_identity::SpiffeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// Reads YAML, and so JSON.
fn parse(text: &[u8]) -> Result<ByToken, TokensError> {
    let entries: Vec<Entry> = serde_yaml_ng::from_slice(text).map_err(TokensError::Syntax)?;
    let mut callers = HashMap::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let mut identities = entry.identities.into_iter().map(|SpiffeIdText(id)| id);
        let own = identities.next().ok_or(TokensError::NoIdentity { index })?;
        let token = entry.token.trim().to_owned();
        if token.is_empty() {
            return Err(TokensError::NoToken { index });
        }
        let name = match &entry.node {
            Some(node) => format!("{own} on {node}"),
            None => own.to_string(),
        };
        let rights = Rights::Listed { own, others: identities.collect(), node: entry.node.map(Place::Node) };
        if callers.insert(token, Arc::new(Caller { name, rights })).is_some() {
            return Err(TokensError::Twice { index });
        }
    }
    Ok(callers)
}

/// Why a file is no list of tokens. Callers are counted from zero; tokens are not told.
#[derive(Debug, Error)]
pub enum TokensError {
    /// A caller is nobody.
    #[error("caller {index} has no identity")]
    NoIdentity {
        /// Which.
        index: usize,
    },
    /// A caller has no token.
    #[error("caller {index} has no token")]
    NoToken {
        /// Which.
        index: usize,
    },
    /// It cannot be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// It is not such a list.
    #[error("not a list of token, identities and node")]
    Syntax(#[source] serde_yaml_ng::Error),
    /// A token is given twice.
    #[error("the token of caller {index} has been given before")]
    Twice {
        /// Which.
        index: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = b"- token: \"abc \"\n  identities: [spiffe://example.org/ns/a/sa/b]\n  node: node-1\n";
        let json =
            br#"[{"token": "abc", "identities": ["spiffe://example.org/ns/a/sa/b"], "node": "node-1"}]"#;
        let [yaml, json] = [&yaml[..], json].map(|text| parse(text).unwrap());
        assert_eq!(yaml, json);
        let caller = &yaml["abc"];
        let Rights::Listed { own, others, node } = &caller.rights else { panic!("{caller:?}") };
        assert_eq!(own.as_str(), "spiffe://example.org/ns/a/sa/b");
        assert!(others.is_empty());
        assert_eq!(*node, Some(Place::Node("node-1".into())));
    }

    #[test]
    fn flaws_are_named() {
        let entry = |token: &str, ids: &str| format!("- token: {token}\n  identities: [{ids}]\n");
        let id = "spiffe://example.org/ns/a/sa/b";
        let error = |text: String| parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error(entry("a", "")), TokensError::NoIdentity { index: 0 }));
        assert!(matches!(error(entry("\" \"", id)), TokensError::NoToken { index: 0 }));
        assert!(matches!(error(entry("a", id) + &entry("a", id)), TokensError::Twice { index: 1 }));
        assert!(matches!(error(entry("a", "x")), TokensError::Syntax(_)));
        assert!(matches!(error("a: b".into()), TokensError::Syntax(_)));
        assert!(matches!(error(entry("a", id) + "  nodes: x\n"), TokensError::Syntax(_)));
    }
}
