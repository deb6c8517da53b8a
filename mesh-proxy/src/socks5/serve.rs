use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hbone::{Destination, Host};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::protocol::{ConnectRequest, Greeting, GreetingError, LONGEST_MESSAGE, Reply, RequestError};
use crate::{
    context::WorkerContext,
    error::ConnectionError,
    outbound::{establish, relay},
    socket::{DialError, canonical, reset_on_close},
    telemetry::Direction,
};

/// How long a client may take to say what it wants.
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a SOCKS5 connection of a local application.
pub(crate) async fn serve(context: &Arc<WorkerContext>, mut stream: TcpStream, source: SocketAddr) {
    let Ok(accepted_on) = stream.local_addr().map(canonical) else { return };
    let result = match timeout(NEGOTIATION_TIMEOUT, negotiate(&mut stream)).await {
        Ok(Ok(requested)) => resolve(context, &requested, source.ip()).await,
        Ok(Err(error)) => Err(error),
        Err(_elapsed) => Err(NegotiationError::Stalled),
    };
    let destination = match result {
        Ok(destination) => destination,
        Err(error) => {
            context.refuse_early(Direction::Outbound, source, accepted_on, &error);
            if let Some(reply) = error.reply() {
                // The connection ends either way.
                let _ = stream.write_all(&reply.encode()).await;
            }
            return;
        }
    };
    match establish(context, &stream, source, destination, accepted_on.ip()).await {
        Ok(established) => match stream.write_all(&Reply::Succeeded.encode()).await {
            Ok(()) => relay(context, stream, established).await,
            Err(_gone) => reset_on_close(&stream),
        },
        Err(error) => {
            let _ = stream.write_all(&reply_to(&error).encode()).await;
        }
    }
}

/// Exchanges greetings and reads the request.
async fn negotiate(stream: &mut TcpStream) -> Result<Destination, NegotiationError> {
    let mut input = Input { bytes: [0; LONGEST_MESSAGE], filled: 0 };
    let greeting = loop {
        match Greeting::parse(input.received())? {
            Some((greeting, length)) => {
                input.consume(length);
                break greeting;
            }
            None => input.read(stream).await?,
        }
    };
    stream.write_all(&greeting.answer()).await?;
    if !greeting.offers_no_authentication {
        return Err(NegotiationError::Authentication);
    }
    loop {
        match ConnectRequest::parse(input.received())? {
            Some((request, length)) if length == input.filled => return Ok(request.destination),
            // What follows would be lost; a client that waits for the answer never does this.
            Some(_) => return Err(NegotiationError::EarlyData),
            None => input.read(stream).await?,
        }
    }
}

/// What was received and not yet understood.
struct Input {
    bytes: [u8; LONGEST_MESSAGE],
    filled: usize,
}

impl Input {
    fn received(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    fn consume(&mut self, length: usize) {
        self.bytes.copy_within(length..self.filled, 0);
        self.filled -= length;
    }

    async fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let room = self.bytes.get_mut(self.filled..).unwrap_or_default();
        match stream.read(room).await? {
            // An empty room reads nothing either: the message is longer than any valid one.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.filled += read;
                Ok(())
            }
        }
    }
}

/// Turns a service's name into one of its addresses, of the client's family where there is one.
async fn resolve(
    context: &WorkerContext,
    requested: &Destination,
    client: IpAddr,
) -> Result<SocketAddr, NegotiationError> {
    let hostname = match requested.host() {
        Host::Ip(ip) => return Ok(SocketAddr::new(*ip, requested.port())),
        Host::Name(name) => name,
    };
    let unknown = || NegotiationError::UnknownHost { name: hostname.to_string() };
    let (snapshot, workload) = context.local_workload().await.map_err(|_| unknown())?;
    let service = snapshot.service_by_hostname(hostname, Some(workload.namespace())).ok_or_else(unknown)?;
    let addresses = || {
        let here = service.vips.iter().filter(|vip| **vip.network() == *workload.network);
        here.map(|vip| vip.address())
    };
    let same_family = addresses().find(|address| address.is_ipv4() == client.is_ipv4());
    let address = same_family.or_else(|| addresses().next()).ok_or_else(unknown)?;
    Ok(SocketAddr::new(address, requested.port()))
}

/// The answer that describes a failed connection best.
fn reply_to(error: &ConnectionError) -> Reply {
    match error {
        ConnectionError::Shared(error) => reply_to(error),
        ConnectionError::Denied { .. } | ConnectionError::HttpStatus(http::StatusCode::UNAUTHORIZED) => {
            Reply::NotAllowed
        }
        ConnectionError::Dial(DialError::Connect(error)) => error.kind().into(),
        ConnectionError::Dial(DialError::Timeout { .. }) | ConnectionError::NetworkPolicy { .. } => {
            Reply::HostUnreachable
        }
        ConnectionError::HttpStatus(http::StatusCode::SERVICE_UNAVAILABLE) => Reply::ConnectionRefused,
        _ => Reply::GeneralFailure,
    }
}

/// Why a client did not get as far as a connection.
#[derive(Debug, Error)]
enum NegotiationError {
    #[error("socks client insists on authentication")]
    Authentication,
    #[error("socks client sent data before it was connected")]
    EarlyData,
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    #[error("socks negotiation failed")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("socks negotiation not finished within {NEGOTIATION_TIMEOUT:?}")]
    Stalled,
    #[error("no such host: {name}")]
    UnknownHost { name: String },
}

impl NegotiationError {
    /// The answer, where the client can still understand one.
    fn reply(&self) -> Option<Reply> {
        match self {
            Self::EarlyData => Some(Reply::GeneralFailure),
            Self::Request(error) => Some(error.reply()),
            Self::UnknownHost { .. } => Some(Reply::HostUnreachable),
            Self::Authentication | Self::Greeting(_) | Self::Io(_) | Self::Stalled => None,
        }
    }
}
