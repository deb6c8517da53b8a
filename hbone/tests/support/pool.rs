//! A pool whose connections are made in memory.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::{
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hbone::{
    Refusal, Tunnel,
    pool::{Builder, Pool, PoolError},
    server,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, copy, duplex, sink},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower_service::Service;

use crate::support::{
    PIPE, echo,
    frames::{GOAWAY, HEADERS, Peer, SETTINGS, encode},
    request, serve,
};

pub type Key = &'static str;

/// Dials in memory: keys decide what becomes of it.
#[derive(Clone)]
pub struct Dialer {
    pub dials: Arc<AtomicUsize>,
    pub handles: Arc<Mutex<HashMap<Key, Vec<server::Handle>>>>,
    pub server: server::Builder,
    /// Where scripted peers are handed out, for the keys `scripted` and `narrow`.
    pub scripted: mpsc::UnboundedSender<DuplexStream>,
}

impl Service<Key> for Dialer {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, key: Key) -> Self::Future {
        let before = self.dials.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        Box::pin(async move {
            let (near, far) = duplex(PIPE);
            match key {
                "refused" => {
                    sleep(Duration::from_secs(1)).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                "blackhole" => std::future::pending().await,
                "once" if before > 0 => std::future::pending().await,
                "panic" => panic!("a dialler that panics"),
                "silent" => drop(tokio::spawn(async move {
                    let _open = far;
                    std::future::pending::<()>().await;
                })),
                "leaving" => {
                    let mut far = far;
                    let goodbye = [encode(SETTINGS, 0, 0, &[]), encode(GOAWAY, 0, 0, &[0; 8])].concat();
                    far.write_all(&goodbye).await.unwrap();
                    tokio::spawn(async move { copy(&mut far, &mut sink()).await });
                }
                "scripted" => this.scripted.send(far).unwrap(),
                "narrow" => {
                    let (near, far) = duplex(1 << 10);
                    this.scripted.send(far).unwrap();
                    return Ok(near);
                }
                _ => {
                    sleep(Duration::from_millis(10)).await;
                    tokio::spawn(async move {
                        let connection = this.server.handshake(far).await.unwrap();
                        this.handles.lock().unwrap().entry(key).or_default().push(connection.handle());
                        serve(connection, answer);
                    });
                }
            }
            Ok(near)
        })
    }
}

async fn answer(incoming: server::Incoming) {
    match incoming.destination().port() {
        1 => incoming.refuse(Refusal::Denied),
        2 => incoming.refuse(Refusal::Unprocessed),
        3 => {
            let _unanswered = incoming;
            std::future::pending::<()>().await;
        }
        4 => {
            sleep(Duration::from_secs(8)).await;
            echo(incoming).await;
        }
        _ => echo(incoming).await,
    }
}

pub struct World {
    pub pool: Pool<Key, Dialer>,
    pub dialer: Dialer,
    pub peers: mpsc::UnboundedReceiver<DuplexStream>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Builder::new(), server::Builder::new())
    }

    pub fn with(pool: Builder, server: server::Builder) -> Self {
        let (scripted, peers) = mpsc::unbounded_channel();
        let dialer = Dialer { dials: Arc::default(), handles: Arc::default(), server, scripted };
        Self { pool: pool.build(dialer.clone()), dialer, peers }
    }

    pub fn dials(&self) -> usize {
        self.dialer.dials.load(Ordering::Relaxed)
    }

    /// A tunnel that a scripted peer was asked for, and on which stream.
    pub async fn asked(&mut self) -> (JoinHandle<Result<Tunnel, PoolError<io::Error>>>, Peer, u32) {
        let pool = self.pool.clone();
        let connecting = tokio::spawn(async move { pool.connect("scripted", request()).await });
        let mut peer = self.peer().await;
        let stream = peer.next_of(HEADERS).await.stream;
        (connecting, peer, stream)
    }

    pub async fn connect(&self, key: Key) -> Result<Tunnel, PoolError<io::Error>> {
        self.pool.connect(key, request()).await
    }

    pub async fn connect_to(&self, key: Key, port: u16) -> Result<Tunnel, PoolError<io::Error>> {
        let destination = hbone::Destination::from_name("example.org", port).unwrap();
        self.pool.connect(key, hbone::ConnectRequest::new(destination)).await
    }

    /// Asks for many tunnels at once and waits for all.
    pub async fn connect_many(&self, key: Key, count: usize) -> Vec<Result<Tunnel, PoolError<io::Error>>> {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let pool = self.pool.clone();
            tasks.spawn(async move { pool.connect(key, request()).await });
        }
        tasks.join_all().await
    }

    /// The scripted peer of the next dial.
    pub async fn peer(&mut self) -> Peer {
        Peer::server(self.peers.recv().await.unwrap(), &[]).await
    }
}
