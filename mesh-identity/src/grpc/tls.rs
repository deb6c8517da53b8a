//! TLS to a server that proves a host name, with roots that may change.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::{
        Resumption, VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    sync::Mutex,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use super::{DialError, RootSource, RootSourceError, dial::Stream};

/// Dials a host and has it prove its name.
#[derive(Debug)]
pub(crate) struct TlsDialer {
    host: String,
    port: u16,
    name: ServerName<'static>,
    alternate: Option<ServerName<'static>>,
    mark: Option<u32>,
    provider: Arc<CryptoProvider>,
    roots: RootSource,
    versions: &'static [&'static SupportedProtocolVersion],
    current: Mutex<Current>,
}

/// The configuration in use, and the text it was made of.
#[derive(Debug, Default)]
struct Current {
    config: Option<Arc<ClientConfig>>,
    text: Vec<u8>,
    /// The last text that was no good, so that it is tried and told once.
    refused: Option<Vec<u8>>,
    epoch: u64,
}

impl TlsDialer {
    /// Dials `host`, which is a name or an address. `provider` is used as it is.
    pub(crate) fn new(
        host: &str,
        port: u16,
        alternate: Option<ServerName<'static>>,
        mark: Option<u32>,
        roots: RootSource,
        provider: Arc<CryptoProvider>,
        versions: &'static [&'static SupportedProtocolVersion],
    ) -> Option<Self> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let current = Mutex::default();
        Some(Self { host: host.to_owned(), port, name, alternate, mark, provider, roots, versions, current })
    }

    pub(super) async fn epoch(&self) -> Result<u64, DialError> {
        Ok(self.current().await?.1)
    }

    pub(super) async fn dial(&self) -> Result<(Box<dyn Stream>, u64), DialError> {
        let (config, epoch) = self.current().await?;
        let address = || format!("{}:{}", self.host, self.port);
        let stream = self.connect().await.map_err(|error| DialError::connect(&address(), error))?;
        let stream = TlsConnector::from(config).connect(self.name.clone(), stream).await;
        let stream =
            stream.map_err(|error| DialError::Tls { name: self.host.clone(), source: Arc::new(error) })?;
        Ok((Box::new(stream), epoch))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        connect_any(lookup_host((self.host.as_str(), self.port)).await?, self.mark).await
    }

    /// The configuration with the roots as they are now. What is broken is told, and changes nothing.
    ///
    /// Reads the file each time: calls are rare, the file is small, and no change can be missed.
    async fn current(&self) -> Result<(Arc<ClientConfig>, u64), RootSourceError> {
        let mut current = self.current.lock().await;
        if let Some(config) = &current.config
            && !self.roots.may_change()
        {
            return Ok((Arc::clone(config), current.epoch));
        }
        let loaded = match self.roots.read().await {
            Ok(text) if current.config.is_some() && text == current.text => None,
            Ok(text) if current.refused.as_ref() == Some(&text) => None,
            Ok(text) => Some((self.parse(text.clone()).await.and_then(|roots| self.config(roots)), text)),
            Err(error) => Some((Err(error), Vec::new())),
        };
        match (loaded, &current.config) {
            (Some((Ok(config), text)), _) => {
                let epoch = current.epoch + 1;
                *current = Current { config: Some(Arc::clone(&config)), text, refused: None, epoch };
                Ok((config, epoch))
            }
            (Some((Err(error), text)), Some(config)) => {
                let config = Arc::clone(config);
                tracing::warn!(target: "ca", %error, "roots of {} changed and are unusable; the old ones stay", self.host);
                current.refused = Some(text);
                Ok((config, current.epoch))
            }
            (Some((Err(error), _)), None) => Err(error),
            (None, Some(config)) => Ok((Arc::clone(config), current.epoch)),
            // Never: only a text that was refused beside a configuration is remembered.
            (None, None) => Err(RootSourceError::Empty),
        }
    }

    /// What the system trusts is in some hundred files.
    async fn parse(&self, text: Vec<u8>) -> Result<RootCertStore, RootSourceError> {
        let roots = self.roots.clone();
        let parsed = tokio::task::spawn_blocking(move || roots.parse(&text)).await;
        // A panic would be a bug; then there are no roots.
        parsed.unwrap_or(Err(RootSourceError::Empty))
    }

    fn config(&self, roots: RootCertStore) -> Result<Arc<ClientConfig>, RootSourceError> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions)
            .map_err(RootSourceError::Provider)?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| match error {
                    VerifierBuilderError::NoRootAnchors => RootSourceError::Empty,
                    other => RootSourceError::Provider(rustls::Error::General(other.to_string())),
                })?;
        let builder = match self.alternate.clone() {
            None => builder.with_webpki_verifier(verifier),
            Some(alternate) => builder
                // rustls' word for any verifier of one's own.
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TwoNames { verifier, alternate })),
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Connects to the first address that takes it. One that does not answer at once is not given up, but the next one is tried
/// beside it (RFC 8305 §5): a dead one must not hide the others.
async fn connect_any(
    addresses: impl Iterator<Item = SocketAddr>,
    mark: Option<u32>,
) -> io::Result<TcpStream> {
    let mut addresses = addresses.fuse();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            attempts.spawn(connect_one(address, mark));
        }
        let ended = async {
            match attempts.join_next().await {
                Some(Ok(ended)) => Some(ended),
                // A panic would be a bug, and cost this one attempt.
                Some(Err(lost)) => Some(Err(io::Error::other(lost))),
                None => None,
            }
        };
        let ended =
            if is_last { Some(ended.await) } else { tokio::time::timeout(NEXT_ATTEMPT, ended).await.ok() };
        match ended {
            Some(Some(Ok(stream))) => return Ok(stream),
            Some(Some(Err(error))) => last = error,
            Some(None) if is_last => return Err(last),
            Some(None) | None => {}
        }
    }
}

async fn connect_one(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    options.set_tcp_keepalive(&KEEPALIVE)?;
    #[cfg(target_os = "linux")]
    if let Some(mark) = mark {
        options.set_mark(mark)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = mark;
    socket.connect(address).await
}

/// RFC 8305 §8.
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// As Istio's proxies: for a connection that lies idle for hours.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(300))
    .with_interval(Duration::from_secs(75))
    .with_retries(9);

/// Takes a server under a second name if its certificate is good in every way but for the first.
#[derive(Debug)]
struct TwoNames {
    verifier: Arc<WebPkiServerVerifier>,
    alternate: ServerName<'static>,
}

impl ServerCertVerifier for TwoNames {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let check = |name: &ServerName<'_>| {
            self.verifier.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        match check(server_name) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => check(&self.alternate),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// An address that answers nothing, for as long as the rest lives.
    async fn silent() -> (SocketAddr, impl Sized) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(connected) = tokio::time::timeout(NEXT_ATTEMPT, TcpStream::connect(address)).await {
            queue.push(connected.unwrap());
        }
        (address, (listener, queue))
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_does_not_hide_the_next() {
        let (silent, _queue) = silent().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = good.local_addr().map(|address| (address, good)).unwrap();
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let connected = connect_any([silent, closed, good.0].into_iter(), None).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), good.0);
        let refused = connect_any([closed, closed].into_iter(), None).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = connect_any([].into_iter(), None).await.unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
