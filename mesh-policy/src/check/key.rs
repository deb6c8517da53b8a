//! The attributes that conditions may name.

/// The key of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Audiences,
    Claim(&'a str),
    DestinationIp,
    DestinationPort,
    Experimental,
    Header(&'a str),
    Presenter,
    RemoteIp,
    RequestPrincipal,
    ServerName,
    SourceIp,
    SourceNamespace,
    SourcePrincipal,
    SourceServiceAccount,
    SourceTrustDomain,
}

impl<'a> Key<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        Some(match text {
            "connection.sni" => Self::ServerName,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "remote.ip" => Self::RemoteIp,
            "request.auth.audiences" => Self::Audiences,
            "request.auth.presenter" => Self::Presenter,
            "request.auth.principal" => Self::RequestPrincipal,
            "source.ip" => Self::SourceIp,
            "source.namespace" => Self::SourceNamespace,
            "source.principal" => Self::SourcePrincipal,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            _ => return Self::with_brackets(text),
        })
    }

    fn with_brackets(text: &'a str) -> Option<Self> {
        let (name, rest) = text.split_once('[')?;
        let inner = rest.strip_suffix(']').filter(|inner| !inner.is_empty())?;
        match name {
            "request.auth.claims" => Some(Self::Claim(inner)),
            "request.headers" => Some(Self::Header(inner)),
            _ if name.starts_with("experimental.") => Some(Self::Experimental),
            _ => None,
        }
    }

    /// Whether the attribute is known when a provider is asked, before tokens and identities are.
    pub(super) fn is_early(self) -> bool {
        !matches!(
            self,
            Self::Audiences
                | Self::Claim(_)
                | Self::Presenter
                | Self::RequestPrincipal
                | Self::SourceNamespace
                | Self::SourcePrincipal
                | Self::SourceServiceAccount
                | Self::SourceTrustDomain
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_key() {
        for (text, key) in [
            ("source.serviceAccount", Some(Key::SourceServiceAccount)),
            ("request.headers[X-Tenant]", Some(Key::Header("X-Tenant"))),
            ("request.auth.claims[a][b]", Some(Key::Claim("a][b"))),
            ("experimental.envoy.filters.network.mysql_proxy[db.table]", Some(Key::Experimental)),
            ("source.serviceaccount", None),
            ("request.headers", None),
            ("request.headers[]", None),
            ("request.headers[x", None),
            ("destination.namespace", None),
            ("destination.labels[app]", None),
            ("", None),
        ] {
            assert_eq!(Key::parse(text), key, "{text}");
        }
    }
}
