//! Taking connections and serving calls on them.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use mesh_identity::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer;
use mesh_proxy::config::local::LocalConfigError;
use rustix::fs::{Mode, fchmod};
use rustls::crypto::CryptoProvider;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    authority::Limits,
    authority_files::{AuthorityFilesError, AuthoritySource},
    callers::{Callers, CallersError},
    connection,
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

    /// Serves until it is dropped. Connections beyond 1,024 wait to be taken; one ends after 20 seconds without a call by
    /// a caller that is known, and later after five minutes without a call.
    pub async fn run(self) {
        loop {
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let service = self.service.clone();
            let taken = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, peer)| {
                    tokio::spawn(serve_tls(Arc::clone(&self.authority), service, stream, peer, permit));
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        connection::serve(service, stream, "a local process").await;
                        drop(permit);
                    });
                }),
            };
            if let Err(error) = taken {
                // Out of descriptors, most likely: some connection has to end first.
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
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

async fn serve_tls(
    authority: Arc<AuthoritySource>,
    service: IstioCertificateServiceServer<CertificateService>,
    stream: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
) {
    let config = Arc::clone(&authority.recent().await.server);
    match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => connection::serve(service, stream, peer).await,
        Ok(Err(error)) => tracing::info!("no TLS with {peer}: {error}"),
        Err(_) => tracing::info!("no TLS with {peer} within {HANDSHAKE_TIMEOUT:?}"),
    }
}

/// A socket that only this user may connect to; one left by a dead process is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bind = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        // The file takes the mode of its socket, less the umask: at no moment is it open to others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        UnixListener::from_std(socket.into())
    };
    match bind() {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && std::fs::symlink_metadata(path).is_ok_and(|there| there.file_type().is_socket())
                && std::os::unix::net::UnixStream::connect(path).is_err() =>
        {
            std::fs::remove_file(path)?;
            bind()
        }
        bound => bound,
    }
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
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MAX_CONNECTIONS: usize = 1024;
const BACKLOG: i32 = 1024;
/// A signing request is one KiB.
const MAX_REQUEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_from_the_start_and_no_file_is_replaced() {
        let folder = std::env::temp_dir().join(format!("mesh-control-socket-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("ca.sock");
        let listener = bind_unix(&path).unwrap();
        // Nothing has changed the mode since the file came to be.
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        bind_unix(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "notes").unwrap();
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
