use std::{
    ffi::OsStr,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::Arc,
    time::Duration,
};

use super::{
    capture::{Capture, CaptureError},
    exec,
    http::{self, HttpResponse},
    namespace::Namespace,
    process::Process,
};

/// Bound on everything a client in the lab waits for: a hang becomes an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace with one interface; clones are the same host.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    namespace: Arc<Namespace>,
}

impl Host {
    pub(super) fn new(name: &str, v4: Ipv4Addr, v6: Ipv6Addr, namespace: Namespace) -> Self {
        Self { name: name.to_owned(), v4, v6, namespace: Arc::new(namespace) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.v4.into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.v6.into()
    }

    /// The namespace it is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command that will run `program` so that it dies with this process, for [`spawn`](Self::spawn).
    ///
    /// # Errors
    ///
    /// If this program cannot find itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        exec::dying_with_parent(program.as_ref())
    }

    /// Starts a command on this host and collects what it writes.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub fn spawn(&self, command: Command) -> io::Result<Process> {
        Process::start(Arc::clone(&self.namespace), command)
    }

    /// Redirects the host's traffic to the proxy's ports.
    ///
    /// # Errors
    ///
    /// If neither `nft` nor `iptables` is installed, or the kernel refuses the rules.
    pub fn capture(&self, capture: &Capture) -> Result<(), CaptureError> {
        capture.apply(&self.namespace)
    }

    /// Listens on a port of every address of both families; 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind`].
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        self.namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))?
    }

    /// Connects from this host. Connecting, reading and writing each fail after 10 s.
    ///
    /// # Errors
    ///
    /// As [`TcpStream::connect_timeout`].
    pub fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        self.namespace.run(|| {
            let stream = TcpStream::connect_timeout(&destination, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })?
    }

    /// Asks an HTTP server, from this host.
    ///
    /// # Errors
    ///
    /// If it cannot be reached or does not answer in HTTP.
    pub fn get(&self, server: SocketAddr, path: &str) -> io::Result<HttpResponse> {
        http::get(self.connect(server)?, path)
    }
}
