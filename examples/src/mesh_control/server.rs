//! Taking connections and serving calls on them.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mesh_identity::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use mesh_proxy::{Report, config::local::LocalConfigError};
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    authority::Limits,
    authority_files::{AuthorityFilesError, AuthoritySource},
    callers::{Callers, CallersError},
    options::{Listen, Options},
    service::CertificateService,
    workloads::WorkloadsFile,
};

/// A certificate authority that listens.
pub struct Server {
    listener: Listener,
    authority: Arc<AuthoritySource>,
    service: IstioCertificateServiceServer<CertificateService>,
    connections: Arc<Semaphore>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Reads everything that `options` name, and listens.
    ///
    /// # Errors
    ///
    /// If anything of it is no good.
    pub async fn bind(options: Options, provider: Arc<CryptoProvider>) -> Result<Self, ServerError> {
        let callers = Callers::new(&options).await?;
        let workloads = match options.workloads.clone() {
            Some(path) => Some(WorkloadsFile::open(path).await?),
            None => None,
        };
        let authority = AuthoritySource::open(
            options.ca_dir.clone(),
            &options.trust_domain,
            options.server_names.clone(),
            provider,
            options.write_root.clone(),
        );
        let authority = Arc::new(authority.await?);
        let failed = |source| ServerError::Listen { listen: format!("{:?}", options.listen), source };
        let listener = match &options.listen {
            Listen::Tcp(address) => Listener::Tcp(TcpListener::bind(address).await.map_err(failed)?),
            Listen::Unix(path) => Listener::Unix(bind_unix(path).map_err(failed)?, path.clone()),
        };
        if !options.authenticates() {
            tracing::warn!("callers are not authenticated: whoever reaches this socket gets any identity");
        }
        let service = CertificateService {
            authority: Arc::clone(&authority),
            callers,
            workloads,
            trust_domain: options.trust_domain,
            cluster_id: options.cluster_id,
            limits: Limits { default: options.default_lifetime, most: options.max_lifetime },
            failure: options.failure,
            fail_first: options.fail_first,
            calls: AtomicU64::new(0),
        };
        let service = IstioCertificateServiceServer::new(service).max_decoding_message_size(MAX_REQUEST);
        Ok(Self { listener, authority, service, connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)) })
    }

    /// The address to call it at.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn address(&self) -> io::Result<String> {
        match &self.listener {
            Listener::Tcp(listener) => Ok(format!("https://{}", listener.local_addr()?)),
            Listener::Unix(_, path) => Ok(format!("unix://{}", path.display())),
        }
    }

    /// The roots of the authority, in PEM.
    pub async fn roots(&self) -> String {
        self.authority.get().await.authority.roots().to_owned()
    }

    /// Serves until it is dropped. Connections beyond 1,024 wait to be taken.
    pub async fn run(self) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let taken = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    tokio::spawn(self.connection().tls(stream, peer, permit));
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    let connection = self.connection();
                    tokio::spawn(async move { connection.serve(stream, "a local process", permit).await });
                }),
            };
            if let Err(error) = taken {
                // Out of descriptors, most likely: some connection has to end first.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn connection(&self) -> Connection {
        Connection { authority: Arc::clone(&self.authority), service: self.service.clone() }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What a connection is served with.
struct Connection {
    authority: Arc<AuthoritySource>,
    service: IstioCertificateServiceServer<CertificateService>,
}

impl Connection {
    async fn tls(self, stream: tokio::net::TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let config = Arc::clone(&self.authority.get().await.server);
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream, &peer.to_string(), permit).await,
            Ok(Err(error)) => tracing::info!("no TLS with {peer}: {error}"),
            Err(_) => tracing::info!("no TLS with {peer} within {HANDSHAKE_TIMEOUT:?}"),
        }
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: &str,
        _permit: OwnedSemaphorePermit,
    ) {
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.service))
            .await;
        if let Err(error) = served {
            tracing::debug!("connection of {peer} ended: {}", Report(&error));
        }
    }
}

/// A socket that only this user may connect to; one left by a dead process is replaced.
fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err() =>
        {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Why an authority cannot serve.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The authority itself.
    #[error("the authority")]
    Authority(#[from] AuthorityFilesError),
    /// Who may call.
    #[error("the callers")]
    Callers(#[from] CallersError),
    /// The socket.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Where.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// The workloads.
    #[error("the workloads")]
    Workloads(#[from] LocalConfigError),
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_CONNECTIONS: usize = 1024;
const MAX_STREAMS: u32 = 256;
const MAX_HEADERS: u32 = 64 * 1024;
/// A signing request is one KiB.
const MAX_REQUEST: usize = 64 * 1024;
