//! What a tunnel costs over the HTTP/2 below it, and that over a pipe: in bulk, in small messages, and to open.

mod load;
mod peers;

use std::{future::Future, time::Instant};

use bytes::Bytes;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use hbone::pool::Pool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::{Builder, Runtime},
};

use self::{
    load::{copy_through_h2, copy_through_tunnel, echo_through_h2, echo_through_tunnel},
    peers::{InMemory, PIPE, RawClient, connect, hbone_client, request},
};

const BULK: usize = 32 << 20;
const MESSAGE: usize = 64;

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tunnel/bulk");
    group.throughput(Throughput::Bytes(BULK as u64)).sample_size(20);
    for chunk in [1 << 10, 16 << 10, 256 << 10] {
        let runtime = current_thread();
        let data = Bytes::from(vec![7; chunk]);
        group.bench_function(BenchmarkId::new("duplex", chunk), |bencher| {
            bencher.iter(|| runtime.block_on(copy_through_pipe(data.clone())));
        });
        let client = runtime.block_on(RawClient::start());
        group.bench_function(BenchmarkId::new("h2", chunk), |bencher| {
            bencher.iter(|| runtime.block_on(copy_through_h2(&client, BULK, data.clone())));
        });
        let send = runtime.block_on(hbone_client());
        group.bench_function(BenchmarkId::new("hbone", chunk), |bencher| {
            bencher.iter(|| runtime.block_on(copy_through_tunnel(&send, BULK, data.clone())));
        });
    }
    group.finish();
}

fn ping_pong(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tunnel/ping_pong");
    group.throughput(Throughput::Elements(1));
    let runtime = current_thread();
    let data = Bytes::from(vec![7; MESSAGE]);

    let mut pipe = runtime.block_on(async { echo_pipe() });
    group.bench_function("duplex", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                pipe.write_all(&data).await.expect("an echo");
                pipe.read_exact(&mut [0; MESSAGE]).await.expect("an echo");
            });
        });
    });

    let (mut body, mut send) = runtime.block_on(async { RawClient::start().await.open(2).await });
    group.bench_function("h2", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                echo_through_h2(&mut body, &mut send, data.clone()).await;
            });
        });
    });

    let tunnel = runtime.block_on(async { connect(&hbone_client().await, 2).await });
    let (mut recv, mut send) = tunnel.into_split();
    group.bench_function("hbone", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                echo_through_tunnel(&mut recv, &mut send, data.clone()).await;
            });
        });
    });
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tunnel/open");
    group.throughput(Throughput::Elements(1));
    let runtime = current_thread();

    let client = runtime.block_on(RawClient::start());
    repeat(&mut group, &runtime, "h2", || async {
        drop(client.open(2).await);
    });
    let send = runtime.block_on(hbone_client());
    repeat(&mut group, &runtime, "hbone", || async {
        drop(connect(&send, 2).await);
    });
    let pool = Pool::new(InMemory);
    repeat(&mut group, &runtime, "pool", || async {
        drop(pool.connect((), request(2)).await.expect("a tunnel"));
    });
    group.finish();
}

/// Measures within one run of the runtime, since starting one costs as much as a tunnel.
fn repeat<F, R>(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str, mut operation: F)
where
    F: FnMut() -> R,
    R: Future<Output = ()>,
{
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..rounds {
                    operation().await;
                }
                start.elapsed()
            })
        });
    });
}

/// One worker, as the proxy has them.
fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime needs only file descriptors")
}

async fn copy_through_pipe(data: Bytes) {
    let (mut near, mut far) = duplex(PIPE);
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while far.read(&mut buffer).await.expect("a pipe") > 0 {}
    });
    for _ in 0..BULK / data.len() {
        near.write_all(&data).await.expect("a pipe");
    }
    drop(near);
    reader.await.expect("a reader");
}

fn echo_pipe() -> DuplexStream {
    let (near, mut far) = duplex(PIPE);
    tokio::spawn(async move {
        let mut buffer = [0; MESSAGE];
        while far.read_exact(&mut buffer).await.is_ok() && far.write_all(&buffer).await.is_ok() {}
    });
    near
}

criterion_group!(benches, bulk, ping_pong, open);
criterion_main!(benches);
