//! What one connection may do, and for how long.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use mesh_proxy::Report;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tonic::{Status, body::Body};
use tower::Service;

/// Serves calls on a connection until its peer leaves or its time is over. Calls under way then have until their deadline.
pub(super) async fn serve<S>(
    service: S,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: impl fmt::Display,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let conduct = Conduct::new();
    let mut watched = conduct.watch();
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(Calls { service, conduct }));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        why = over(&mut watched) => {
            tracing::info!("connection of {peer} is closed: {why}");
            connection.as_mut().graceful_shutdown();
            // A peer that does not take its answers has the same time.
            timeout(CALL_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection of {peer} ended: {}", Report(&error));
    }
}

/// What has happened on a connection, for its calls to write and its owner to read.
#[derive(Clone, Debug)]
pub(super) struct Conduct(Arc<watch::Sender<Record>>);

impl Conduct {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Record::new(Instant::now()))))
    }

    fn watch(&self) -> watch::Receiver<Record> {
        self.0.subscribe()
    }

    /// A call had a caller that is known.
    pub(super) fn known(&self) {
        self.0.send_if_modified(|record| !std::mem::replace(&mut record.known, true));
    }

    /// A call, until the value is dropped.
    fn call(&self) -> OpenCall {
        self.0.send_modify(Record::began);
        OpenCall(self.clone())
    }
}

/// A call under way.
#[derive(Debug)]
struct OpenCall(Conduct);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.0.send_modify(|record| record.ended(Instant::now()));
    }
}

#[derive(Clone, Debug)]
struct Record {
    since: Instant,
    /// The end of the last call.
    idle_since: Instant,
    under_way: u32,
    calls: u32,
    known: bool,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self { since: now, idle_since: now, under_way: 0, calls: 0, known: false }
    }

    fn began(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
        self.calls = self.calls.saturating_add(1);
    }

    fn ended(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.idle_since = now;
    }

    /// When the connection has to end if nothing happens, and why. `None`: not while a call is under way.
    fn end(&self) -> Option<(Instant, Why)> {
        if self.calls >= MAX_CALLS {
            Some((self.idle_since, Why::Calls))
        } else if !self.known {
            // Calls of nobody win no time.
            Some((self.since + UNKNOWN_TIMEOUT, Why::Unknown))
        } else {
            (self.under_way == 0).then(|| (self.idle_since + IDLE_TIMEOUT, Why::Idle))
        }
    }
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    Calls,
    Idle,
    Unknown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls => write!(f, "{MAX_CALLS} calls"),
            Self::Idle => write!(f, "no call within {IDLE_TIMEOUT:?}"),
            Self::Unknown => write!(f, "no call by a known caller within {UNKNOWN_TIMEOUT:?}"),
        }
    }
}

/// Waits for the end of a connection's time.
async fn over(watched: &mut watch::Receiver<Record>) -> Why {
    loop {
        let end = watched.borrow_and_update().end();
        let time = async {
            match end {
                Some((at, why)) => {
                    sleep_until(at).await;
                    why
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            why = time => return why,
            // The connection holds the sender, and is polled for as long as this is.
            _ = watched.changed() => {}
        }
    }
}

/// The calls of a connection, each of which ends in time and is counted.
#[derive(Clone)]
struct Calls<S> {
    service: S,
    conduct: Conduct,
}

impl<S> Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        let open = self.conduct.call();
        request.extensions_mut().insert(self.conduct.clone());
        let answer = timeout(CALL_TIMEOUT, self.service.call(request));
        Box::pin(async move {
            let _open = open;
            match answer.await {
                Ok(answer) => answer,
                Err(_elapsed) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
            }
        })
    }
}

/// Until who calls is known.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(20);
/// Without a call of somebody who is known: clients call when a certificate is due, and dial again then.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// For a call, its request included. Longer than clients wait.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Of one connection, which is then made anew.
const MAX_CALLS: u32 = 100_000;
const MAX_STREAMS: u32 = 256;
const MAX_HEADERS: u32 = 64 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::{body::Bytes, client::conn::http2};
    use tokio::{
        io::{AsyncReadExt, duplex},
        task::JoinHandle,
    };
    use tower::service_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What a call asks for.
    const HANG: &str = "/hang";
    const KNOWN: &str = "/known";

    async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match request.uri().path() {
            HANG => std::future::pending().await,
            KNOWN => request.extensions().get::<Conduct>().unwrap().known(),
            _ => {}
        }
        Ok(Response::new(Body::empty()))
    }

    struct Client {
        calls: http2::SendRequest<Empty<Bytes>>,
        connection: JoinHandle<Result<(), hyper::Error>>,
        start: Instant,
    }

    impl Client {
        async fn connect() -> Self {
            let (near, far) = duplex(64 * 1024);
            let start = Instant::now();
            tokio::spawn(serve(service_fn(answer), far, "a client"));
            let (calls, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
            Self { calls, connection: tokio::spawn(connection), start }
        }

        /// The gRPC status of a call, if the answer has one without a body.
        async fn call(&mut self, path: &str) -> Option<String> {
            let request = Request::builder().uri(format!("http://localhost{path}")).body(Empty::new());
            let response = self.calls.send_request(request.unwrap()).await.unwrap();
            response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
        }

        /// How long the connection was there.
        async fn closed(self) -> Duration {
            self.connection.await.unwrap().unwrap();
            self.start.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_nobody_is_closed_whatever_it_calls() {
        let silent = Client::connect().await;
        assert_eq!(silent.closed().await, UNKNOWN_TIMEOUT);

        let mut caller = Client::connect().await;
        for _ in 0..3 {
            assert_eq!(caller.call("/").await, None);
            tokio::time::sleep(SECOND).await;
        }
        assert_eq!(caller.closed().await, UNKNOWN_TIMEOUT);

        // Not even HTTP.
        let (mut near, far) = duplex(64 * 1024);
        let start = Instant::now();
        tokio::spawn(serve(service_fn(answer), far, "a client"));
        near.read_to_end(&mut Vec::new()).await.unwrap();
        assert!(start.elapsed() <= UNKNOWN_TIMEOUT + CALL_TIMEOUT, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_of_somebody_is_closed_when_it_is_idle() {
        let mut caller = Client::connect().await;
        caller.call(KNOWN).await;
        tokio::time::sleep(30 * SECOND).await;
        caller.call("/").await;
        assert_eq!(caller.closed().await, 30 * SECOND + IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends() {
        let mut caller = Client::connect().await;
        caller.call(KNOWN).await;
        assert_eq!(caller.call(HANG).await.as_deref(), Some("4"));
        assert_eq!(caller.start.elapsed(), CALL_TIMEOUT);
    }

    #[test]
    fn who_is_not_known_wins_no_time_with_calls() {
        let start = Instant::now();
        let mut record = Record::new(start);
        let end = Some((start + UNKNOWN_TIMEOUT, Why::Unknown));
        assert_eq!(record.end(), end);
        record.began();
        assert_eq!(record.end(), end);
        record.ended(start + 10 * SECOND);
        assert_eq!(record.end(), end);
    }

    #[test]
    fn who_is_known_stays_between_calls_for_a_while() {
        let start = Instant::now();
        let mut record = Record::new(start);
        record.began();
        record.known = true;
        record.began();
        assert_eq!(record.end(), None);
        record.ended(start + SECOND);
        assert_eq!(record.end(), None);
        record.ended(start + 7 * SECOND);
        assert_eq!(record.end(), Some((start + 7 * SECOND + IDLE_TIMEOUT, Why::Idle)));
    }

    #[test]
    fn a_connection_has_an_end_of_calls() {
        let start = Instant::now();
        let mut record = Record::new(start);
        record.known = true;
        (0..MAX_CALLS).for_each(|_| record.began());
        assert_eq!(record.end(), Some((start, Why::Calls)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_moves_with_what_happens() {
        let conduct = Conduct::new();
        let (start, mut watched) = (Instant::now(), conduct.watch());
        let silent = Conduct::new();
        assert_eq!(over(&mut silent.watch()).await, Why::Unknown);
        assert_eq!(start.elapsed(), UNKNOWN_TIMEOUT);

        let start = Instant::now();
        let call = conduct.call();
        conduct.known();
        let ends = async { over(&mut watched).await };
        let ending = async {
            tokio::time::sleep(30 * SECOND).await;
            drop(call);
        };
        assert_eq!(tokio::join!(ends, ending).0, Why::Idle);
        assert_eq!(start.elapsed(), 30 * SECOND + IDLE_TIMEOUT);
    }
}
