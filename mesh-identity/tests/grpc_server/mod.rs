//! gRPC servers on sockets of this machine, and a folder for their files.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a failed helper fails its test")]

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

/// A service as tonic generates it.
pub(crate) trait Grpc:
    Service<
        http::Request<Incoming>,
        Response = http::Response<tonic::body::Body>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<T> Grpc for T where
    T: Service<
            http::Request<Incoming>,
            Response = http::Response<tonic::body::Body>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// What connections come from.
trait Listener: Send + Sync + 'static {
    type Stream: Send;

    fn next(&self) -> impl Future<Output = Self::Stream> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> TcpStream {
        self.accept().await.unwrap().0
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> UnixStream {
        self.accept().await.unwrap().0
    }
}

/// A server. Dropping it ends it with all its connections.
pub(crate) struct Server {
    tasks: JoinSet<()>,
    pub(crate) address: Option<SocketAddr>,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Serves over TLS on a free port.
    pub(crate) async fn tls(service: impl Grpc, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().ok();
        let acceptor = TlsAcceptor::from(config);
        let server = Self::accepting(listener, move |stream| {
            let (accepting, service) = (acceptor.accept(stream), service.clone());
            async move {
                if let Ok(stream) = accepting.await {
                    serve(stream, service).await;
                }
            }
        });
        Self { address, ..server }
    }

    /// Serves in plain text on a free port.
    pub(crate) async fn tcp(service: impl Grpc) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().ok();
        Self { address, ..Self::accepting(listener, move |stream| serve(stream, service.clone())) }
    }

    /// Serves in plain text on a Unix socket.
    pub(crate) fn unix(service: impl Grpc, path: &Path) -> Self {
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        Self::accepting(listener, move |stream| serve(stream, service.clone()))
    }

    fn accepting<L: Listener, F>(listener: L, serve: impl Fn(L::Stream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = listener.next().await;
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream));
            }
        });
        Self { tasks, address: None, accepted }
    }

    /// How many connections there have been.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: impl Grpc) {
    let connection = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    // A client that goes away is none of its business.
    let _ = connection.await;
}

/// A folder that is gone with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("mesh-identity-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
