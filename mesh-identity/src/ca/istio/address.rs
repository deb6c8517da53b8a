//! Where a certificate authority is.

use std::{path::PathBuf, str::FromStr};

use http::{Uri, uri::Scheme};

/// The address of a certificate authority: `https://host:port`, `host:port`, or `unix:///path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaAddress(pub(super) Place);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Https { host: String, port: u16, origin: Uri },
    Unix { path: PathBuf },
}

impl CaAddress {
    /// What calls name as their target. Over a Unix socket any name would do.
    pub(super) fn origin(&self) -> Uri {
        match &self.0 {
            Place::Https { origin, .. } => origin.clone(),
            Place::Unix { .. } => Uri::from_static("http://localhost"),
        }
    }
}

impl FromStr for CaAddress {
    type Err = CaAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(CaAddressError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self(Place::Unix { path }))
            } else {
                Err(CaAddressError::RelativePath)
            };
        }
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| CaAddressError::Malformed)?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(CaAddressError::Scheme { scheme: uri.scheme_str().unwrap_or_default().to_owned() });
        }
        let (Some(authority), "" | "/", None) = (uri.authority(), uri.path(), uri.query()) else {
            return Err(CaAddressError::Malformed);
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            // Else it has a port that is none, or a user.
            None if authority.as_str() == authority.host() => HTTPS_PORT,
            None => return Err(CaAddressError::Malformed),
        };
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(CaAddressError::Malformed);
        }
        Ok(Self(Place::Https { host, port, origin: uri }))
    }
}

/// Why a text is not the address of a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaAddressError {
    /// There is none.
    #[error("address is empty")]
    Empty,
    /// It is not a URI with a host and perhaps a port.
    #[error("address is not https://host:port or unix:///path")]
    Malformed,
    /// The path of a Unix socket has to be absolute.
    #[error("path of the unix socket is not absolute")]
    RelativePath,
    /// Requests carry a token, so they go over TLS or to a Unix socket.
    #[error("scheme {scheme} is not https or unix")]
    Scheme {
        /// What it has instead.
        scheme: String,
    },
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_the_scheme_they_lack() {
        for (text, host, port, origin) in [
            ("https://istiod.istio-system.svc:15012", "istiod.istio-system.svc", 15012, None),
            (
                "istiod.istio-system.svc:15012",
                "istiod.istio-system.svc",
                15012,
                Some("https://istiod.istio-system.svc:15012"),
            ),
            ("https://ca.example.org/", "ca.example.org", 443, None),
            ("[2001:db8::1]:15012", "2001:db8::1", 15012, Some("https://[2001:db8::1]:15012")),
            ("192.0.2.1:1", "192.0.2.1", 1, Some("https://192.0.2.1:1")),
        ] {
            let address: CaAddress = text.parse().unwrap();
            let expected: Uri = origin.unwrap_or(text).parse().unwrap();
            let Place::Https { host: h, port: p, origin } = address.0 else { panic!("{text}") };
            assert_eq!((h.as_str(), p, origin), (host, port, expected), "{text}");
        }
        let unix: CaAddress = "unix:///run/ca.sock".parse().unwrap();
        assert_eq!(unix.0, Place::Unix { path: "/run/ca.sock".into() });
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, error) in [
            ("", CaAddressError::Empty),
            ("http://192.0.2.1:15012", CaAddressError::Scheme { scheme: "http".into() }),
            ("unix://run/ca.sock", CaAddressError::RelativePath),
            ("https://", CaAddressError::Malformed),
            ("https://user@ca.example.org", CaAddressError::Malformed),
            ("https://ca.example.org/path", CaAddressError::Malformed),
            ("https://ca.example.org?q", CaAddressError::Malformed),
            ("a b", CaAddressError::Malformed),
            ("host:99999", CaAddressError::Malformed),
        ] {
            assert_eq!(text.parse::<CaAddress>().unwrap_err(), error, "{text:?}");
        }
    }
}
