//! What a condition is about.

use std::fmt;

use super::header::Header;
use crate::set::Folding;

/// An attribute of a stream or a request that policies restrict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Attribute {
    Audience,
    Claim(Box<[Box<str>]>),
    DestinationIp,
    DestinationPort,
    Header(Header),
    Host,
    Metadata { filter: Box<str>, key: Box<str> },
    Method,
    Namespace,
    Path,
    Presenter,
    Principal,
    RemoteIp,
    RequestPrincipal,
    ServiceAccount,
    Sni,
    SourceIp,
    TrustDomain,
}

impl Attribute {
    /// Whether only requests have it.
    pub(crate) fn is_of_requests(&self) -> bool {
        match self {
            Self::Audience
            | Self::Claim(_)
            | Self::Header(_)
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::Presenter
            | Self::RequestPrincipal => true,
            Self::DestinationIp
            | Self::DestinationPort
            | Self::Metadata { .. }
            | Self::Namespace
            | Self::Principal
            | Self::RemoteIp
            | Self::ServiceAccount
            | Self::Sni
            | Self::SourceIp
            | Self::TrustDomain => false,
        }
    }

    /// Whether it is about who the peer or the bearer of a token is, which is not to be asked before a provider
    /// is: tokens are validated later.
    pub(crate) fn is_about_identity(&self) -> bool {
        matches!(
            self,
            Self::Audience
                | Self::Claim(_)
                | Self::Namespace
                | Self::Presenter
                | Self::Principal
                | Self::RequestPrincipal
                | Self::ServiceAccount
                | Self::TrustDomain
        )
    }

    /// Whether case counts where its values are compared.
    pub(super) fn folding(&self) -> Folding {
        match self {
            Self::Host | Self::Sni => Folding::Ascii,
            _ => Folding::None,
        }
    }

    /// The attribute that the key of a condition names.
    pub(crate) fn parse(key: &str) -> Result<Self, KeyError> {
        Ok(match key {
            "connection.sni" => Self::Sni,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "remote.ip" => Self::RemoteIp,
            "request.auth.audiences" => Self::Audience,
            "request.auth.presenter" => Self::Presenter,
            "request.auth.principal" => Self::RequestPrincipal,
            "source.ip" => Self::SourceIp,
            "source.namespace" => Self::Namespace,
            "source.principal" => Self::Principal,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            key => {
                if let Some(name) = key.strip_prefix("request.headers") {
                    return bracketed(name)
                        .map(|name| Self::Header(Header::new(name)))
                        .ok_or(KeyError::Brackets);
                }
                if let Some(names) = key.strip_prefix("request.auth.claims") {
                    return claim(names).map(Self::Claim).ok_or(KeyError::Brackets);
                }
                let filter =
                    key.strip_prefix("experimental.").filter(|key| key.starts_with("envoy.filters."));
                let filter = filter.ok_or(KeyError::Unknown)?;
                let parts = filter.strip_suffix(']').unwrap_or(filter).split_once('[');
                let (filter, key) = parts.ok_or(KeyError::Brackets)?;
                Self::Metadata { filter: filter.into(), key: key.into() }
            }
        })
    }
}

/// Why a key names no attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// It would, but for its brackets.
    Brackets,
    Unknown,
}

/// The name in `[name]`.
fn bracketed(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|name| !name.is_empty())
}

/// The names in `[name][name]…`. Where brackets within do not pair, the text between the outer ones is one name.
fn claim(text: &str) -> Option<Box<[Box<str>]>> {
    let inner = bracketed(text)?;
    let names: Vec<_> = inner.split("][").collect();
    let is_nested = names.iter().all(|name| !name.is_empty() && !name.contains(['[', ']']));
    Some(if is_nested { names.into_iter().map(Box::from).collect() } else { Box::new([inner.into()]) })
}

/// As the keys of conditions are written.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audience => f.write_str("request.auth.audiences"),
            Self::Claim(path) => {
                f.write_str("request.auth.claims")?;
                path.iter().try_for_each(|name| write!(f, "[{name}]"))
            }
            Self::DestinationIp => f.write_str("destination.ip"),
            Self::DestinationPort => f.write_str("destination.port"),
            Self::Header(header) => write!(f, "request.headers[{}]", header.name()),
            Self::Host => f.write_str("host"),
            Self::Metadata { filter, key } => write!(f, "experimental.{filter}[{key}]"),
            Self::Method => f.write_str("method"),
            Self::Namespace => f.write_str("source.namespace"),
            Self::Path => f.write_str("path"),
            Self::Presenter => f.write_str("request.auth.presenter"),
            Self::Principal => f.write_str("source.principal"),
            Self::RemoteIp => f.write_str("remote.ip"),
            Self::RequestPrincipal => f.write_str("request.auth.principal"),
            Self::ServiceAccount => f.write_str("source.serviceAccount"),
            Self::Sni => f.write_str("connection.sni"),
            Self::SourceIp => f.write_str("source.ip"),
            Self::TrustDomain => f.write_str("source.trustDomain"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: &str) -> Result<String, KeyError> {
        Attribute::parse(key).map(|attribute| format!("{attribute:?}"))
    }

    // policy#84, policy#85
    #[test]
    fn claims_nest_by_brackets_and_never_by_dots() {
        for (key, expected) in [
            ("request.auth.claims[a]", r#"Claim(["a"])"#),
            ("request.auth.claims[a.b]", r#"Claim(["a.b"])"#),
            ("request.auth.claims[a][b][c]", r#"Claim(["a", "b", "c"])"#),
            ("request.auth.claims[a]b]", r#"Claim(["a]b"])"#),
            ("request.auth.claims[a][]", r#"Claim(["a]["])"#),
        ] {
            assert_eq!(of(key), Ok(expected.to_owned()), "{key}");
        }
        for key in
            ["request.auth.claims", "request.auth.claims[]", "request.auth.claims[a", "request.auth.claimsa]"]
        {
            assert_eq!(of(key), Err(KeyError::Brackets), "{key}");
        }
    }

    // policy#102
    #[test]
    fn unknown_keys_are_told_from_broken_ones() {
        for key in [
            "",
            "source.ips",
            "source.serviceaccount",
            "destination.labels[app]",
            "destination.namespace",
            "any",
        ] {
            assert_eq!(of(key), Err(KeyError::Unknown), "{key}");
        }
        assert_eq!(of("request.headers"), Err(KeyError::Brackets));
        assert_eq!(of("experimental.envoy.filters.a"), Err(KeyError::Brackets));
    }
}
