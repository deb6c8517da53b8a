use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::{
    crypto::CryptoProvider,
    pki_types::ServerName,
    time_provider::{DefaultTimeProvider, TimeProvider},
};

use super::{CaAddress, IstioCa, Shared, address::Place};
use crate::{
    ConfigError, RootSource, TlsSettings, TokenSource,
    config::{narrowed, versions},
    grpc::{Channel, Dialer, TlsDialer},
};

/// Describes a certificate authority and how to call it. Everything but the address has a default.
#[must_use]
pub struct IstioCaBuilder {
    address: CaAddress,
    provider: Arc<CryptoProvider>,
    roots: RootSource,
    alternate_host_name: Option<String>,
    token: Option<TokenSource>,
    cluster_id: String,
    headers: Vec<(String, String)>,
    impersonate: bool,
    packet_mark: Option<u32>,
    tls: TlsSettings,
    connect_timeout: Duration,
    call_timeout: Duration,
    time: Arc<dyn TimeProvider>,
}

impl IstioCaBuilder {
    pub(super) fn new(address: CaAddress, provider: Arc<CryptoProvider>) -> Self {
        Self {
            address,
            provider,
            roots: RootSource::system(),
            alternate_host_name: None,
            token: None,
            cluster_id: DEFAULT_CLUSTER_ID.to_owned(),
            headers: Vec::new(),
            impersonate: false,
            packet_mark: None,
            tls: TlsSettings::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            time: Arc::new(DefaultTimeProvider),
        }
    }

    /// Checks the server's certificate with these roots; those of the operating system by default. Has no
    /// effect on a Unix socket.
    pub fn roots(self, roots: RootSource) -> Self {
        Self { roots, ..self }
    }

    /// Takes the server under this name too, if its certificate is good but for the name in the address.
    pub fn alternate_host_name(self, name: impl Into<String>) -> Self {
        Self { alternate_host_name: Some(name.into()), ..self }
    }

    /// Proves itself with this token; with none by default.
    pub fn token(self, token: TokenSource) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Says which cluster the token and the workloads are of, `Kubernetes` by default. An authority looks up
    /// workloads by it, so it has to be the registered name.
    pub fn cluster_id(self, cluster_id: impl Into<String>) -> Self {
        Self { cluster_id: cluster_id.into(), ..self }
    }

    /// Sends one more header with each call, for a gateway in front of the authority.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Asks for the identities of others, as a node's proxy does for its workloads; off by default, which is
    /// for a proxy of one workload that has the workload's token.
    pub fn impersonate(self, impersonate: bool) -> Self {
        Self { impersonate, ..self }
    }

    /// Marks its packets (`SO_MARK`; Linux, needs `CAP_NET_ADMIN`), so that rules which redirect a pod's traffic
    /// to the proxy let its own pass.
    pub fn packet_mark(self, mark: u32) -> Self {
        Self { packet_mark: Some(mark), ..self }
    }

    /// Sets which versions of TLS and which key exchange are spoken with the authority. What else the settings say is about
    /// peers in a mesh, and has no effect here.
    pub fn tls(self, tls: TlsSettings) -> Self {
        Self { tls, ..self }
    }

    /// Gives up on a connection after so long, all handshakes included; 5 s by default.
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: timeout, ..self }
    }

    /// Gives up on a call after so long, the wait for a connection included; 10 s by default.
    pub fn call_timeout(self, timeout: Duration) -> Self {
        Self { call_timeout: timeout, ..self }
    }

    /// Reads the time, for the validity of what comes back, from here instead of the system's clock.
    pub fn time_provider(self, time: Arc<dyn TimeProvider>) -> Self {
        Self { time, ..self }
    }

    /// Makes the client, which dials when it is first used.
    ///
    /// # Errors
    ///
    /// If a name or header cannot be one, or the provider lacks what TLS needs.
    pub fn build(self) -> Result<IstioCa, IstioCaBuilderError> {
        let headers = self.headers()?;
        let origin = self.address.origin();
        let dialer = match self.address.0 {
            Place::Unix { path } => Dialer::Unix(path),
            Place::Https { host, port, .. } => {
                let provider = narrowed(&self.provider, &self.tls)?;
                let alternate = self.alternate_host_name.map(|name| {
                    ServerName::try_from(name.clone()).map_err(|_| IstioCaBuilderError::HostName { name })
                });
                let dialer = TlsDialer::new(
                    &host,
                    port,
                    alternate.transpose()?,
                    self.packet_mark,
                    self.roots,
                    provider,
                    versions(&self.tls),
                )
                .ok_or(IstioCaBuilderError::HostName { name: host })?;
                Dialer::Tls(Box::new(dialer))
            }
        };
        Ok(IstioCa(Arc::new(Shared {
            channel: Channel::new(dialer, self.connect_timeout, Some(PING_INTERVAL)),
            origin,
            provider: self.provider,
            time: self.time,
            token: self.token,
            headers,
            impersonate: self.impersonate,
            call_timeout: self.call_timeout,
        })))
    }

    /// What is sent with each call but for the token: exactly one cluster id, and the extra headers.
    fn headers(&self) -> Result<HeaderMap, IstioCaBuilderError> {
        let mut headers = HeaderMap::new();
        let invalid = |name: &str| IstioCaBuilderError::Header { name: name.to_owned() };
        let value = HeaderValue::try_from(&self.cluster_id).map_err(|_| invalid(CLUSTER_ID))?;
        headers.insert(CLUSTER_ID, value);
        let mut seen = BTreeSet::new();
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            if OURS.contains(&lower.as_str()) || lower.starts_with("grpc-") || !seen.insert(lower) {
                return Err(IstioCaBuilderError::ReservedHeader { name: name.clone() });
            }
            let key = HeaderName::try_from(name).map_err(|_| invalid(name))?;
            let mut value = HeaderValue::try_from(value).map_err(|_| invalid(name))?;
            // Whatever it is for, it may be a secret.
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }
}

/// Prints nothing that may be a secret.
impl fmt::Debug for IstioCaBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IstioCaBuilder")
            .field("address", &self.address)
            .field("roots", &self.roots)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Why a certificate authority cannot be called as described.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IstioCaBuilderError {
    /// A header has a name or a value that none can have.
    #[error("header {name} is invalid")]
    Header {
        /// Its name.
        name: String,
    },
    /// A host has a name that none can have.
    #[error("{name:?} is not the name of a host")]
    HostName {
        /// The name.
        name: String,
    },
    /// The cryptography provider lacks what TLS needs.
    #[error("tls cannot be set up")]
    Provider(#[from] ConfigError),
    /// A header is given twice, or is one that every call has anyway.
    #[error("header {name} is set already")]
    ReservedHeader {
        /// Its name.
        name: String,
    },
}

/// What a client of Istio's authority calls its cluster if nobody says otherwise.
const DEFAULT_CLUSTER_ID: &str = "Kubernetes";
/// As Istio's proxies.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An authority that has to ask others takes a second or two; one that hangs must not hold a place for long.
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// As Istio's proxies.
const PING_INTERVAL: Duration = Duration::from_secs(30);

const CLUSTER_ID: &str = "clusterid";
const OURS: [&str; 7] =
    ["authorization", CLUSTER_ID, "connection", "content-length", "content-type", "te", "user-agent"];

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> IstioCaBuilder {
        IstioCa::builder("ca.example.org:15012".parse().unwrap(), crate::testing::provider())
    }

    // identity#30, identity#86
    #[test]
    fn every_call_has_one_cluster_id_and_the_extra_headers() {
        let ca = builder().cluster_id("c1").header("X_Route", "blue").build().unwrap();
        let sent: Vec<_> =
            ca.0.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(sent, [("clusterid", &b"c1"[..]), ("x_route", b"blue")]);
    }

    #[test]
    fn headers_that_cannot_be_are_refused() {
        let build = |name, value| builder().header(name, value).build().map(drop).unwrap_err();
        let header = |name: &str| IstioCaBuilderError::Header { name: name.into() };
        let reserved = |name: &str| IstioCaBuilderError::ReservedHeader { name: name.into() };
        assert_eq!(build("a b", "c"), header("a b"));
        assert_eq!(build("", "c"), header(""));
        assert_eq!(build("a", "b\nc"), header("a"));
        for name in ["Authorization", "ClusterID", "te", "grpc-timeout"] {
            assert_eq!(build(name, "c"), reserved(name));
        }
        let twice = builder().header("a", "b").header("A", "c").build().map(drop);
        assert_eq!(twice.unwrap_err(), reserved("A"));
        assert_eq!(builder().cluster_id("a\nb").build().map(drop).unwrap_err(), header("clusterid"));
    }

    #[test]
    fn names_that_no_host_has_are_refused() {
        let name = "not a host".to_owned();
        let built = builder().alternate_host_name(&name).build().map(drop);
        assert_eq!(built.unwrap_err(), IstioCaBuilderError::HostName { name });
    }
}
