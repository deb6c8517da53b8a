//! What it costs to take a place on a pooled connection and give it back, beside a look-up of the key in a map behind a
//! lock.

use std::{
    collections::HashMap,
    hash::Hash,
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use hbone::{pool::Pool, server};
use tokio::{
    io::{DuplexStream, duplex},
    runtime::{Builder, Runtime},
};
use tower_service::Service;

/// What a node proxy's tunnels must agree on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct NodeKey {
    next_hop: SocketAddr,
    source: IpAddr,
    workload: Arc<str>,
    upstream: Arc<str>,
    tls: usize,
}

fn node_key(number: u8) -> NodeKey {
    NodeKey {
        next_hop: SocketAddr::from(([192, 0, 2, number], 15008)),
        source: IpAddr::from([198, 51, 100, 7]),
        workload: "cluster1//Pod/shop/cart-7d9c5b6f4-x2x7v".into(),
        upstream: format!("cluster1//Pod/shop/stock-5f6d8c9b7-{number:05}").into(),
        tls: 0x7f00_1234_5678,
    }
}

/// Connects to a server in memory.
#[derive(Clone)]
struct InMemory;

impl<K> Service<K> for InMemory {
    type Response = DuplexStream;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<DuplexStream, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: K) -> Self::Future {
        let (near, far) = duplex(64 << 10);
        tokio::spawn(async move {
            let Ok(mut connection) = server::handshake(far).await else { return };
            while connection.accept().await.is_some() {}
        });
        std::future::ready(Ok(near))
    }
}

fn checkout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool/checkout");
    group.throughput(Throughput::Elements(1));
    measure(&mut group, "number", (0..100).collect());
    measure(&mut group, "node-key", (0..100).map(node_key).collect());
    group.finish();
}

/// Takes places for each key in turn.
fn measure<K>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, keys: Vec<K>)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    let map = Mutex::new(keys.iter().map(|key| (key.clone(), Arc::new(()))).collect::<HashMap<_, _>>());
    let mut next = keys.iter().cycle();
    group.bench_function(format!("map/{name}"), |bencher| {
        bencher.iter(|| {
            let key = next.next().expect("a cycle");
            black_box(map.lock().expect("nobody panics").get(key).cloned());
        });
    });

    let runtime = current_thread();
    let pool = Pool::new(InMemory);
    runtime.block_on(async {
        for key in &keys {
            drop(pool.reserve(key.clone()).await.expect("a connection"));
        }
    });
    let _entered = runtime.enter();
    let mut next = keys.iter().cycle();
    group.bench_function(format!("take/{name}"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Vec::with_capacity(BATCH);
            let mut spent = Duration::ZERO;
            let mut left = rounds;
            while left > 0 {
                let batch = left.min(BATCH as u64);
                let start = Instant::now();
                for _ in 0..batch {
                    let key = next.next().expect("a cycle");
                    taken.push(pool.try_reserve(key).expect("a free place"));
                }
                spent += start.elapsed();
                taken.clear();
                left -= batch;
            }
            spent
        });
    });
    let mut next = keys.iter().cycle();
    group.bench_function(format!("take-and-return/{name}"), |bencher| {
        bencher.iter(|| {
            let key = next.next().expect("a cycle");
            drop(black_box(pool.try_reserve(key)).expect("a free place"));
        });
    });
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime needs only file descriptors")
}

/// One place on each connection.
const BATCH: usize = 100;

criterion_group!(benches, checkout);
criterion_main!(benches);
