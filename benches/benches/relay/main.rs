//! What a hop costs on loopback, in bulk and in small messages: none, a plain relay, a proxy that passes through, and two
//! proxies with a tunnel between them.

mod node;

use std::{future::Future, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use node::Mesh;

const BULK: usize = 32 << 20;
const CHUNK: usize = 128 << 10;
const MESSAGE: usize = 64;
const BUFFER: usize = 64 << 10;

/// The two ends of a connection.
type Ends = (TcpStream, TcpStream);

/// A way between two ends, by name.
type Way<'a> = (&'static str, Box<dyn Fn() -> Ends + 'a>);

fn relay(criterion: &mut Criterion) {
    // Client, server and plain relay share one thread; proxies bring their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mesh = Mesh::start();
    let ways: [Way<'_>; 4] = [
        ("direct", Box::new(|| runtime.block_on(direct()))),
        ("copy", Box::new(|| runtime.block_on(through_copy()))),
        ("passthrough", Box::new(|| runtime.block_on(mesh.pass_through()))),
        ("hbone", Box::new(|| runtime.block_on(mesh.tunnel()))),
    ];

    let mut group = criterion.benchmark_group("relay/bulk");
    group.throughput(Throughput::Bytes(BULK as u64)).sample_size(20);
    for (name, open) in &ways {
        let (mut client, mut server) = open();
        group.bench_function(*name, |bencher| {
            measure(&runtime, bencher, async |count| {
                for _ in 0..count {
                    tokio::try_join!(pour(&mut client), drink(&mut server)).expect("an open connection");
                }
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("relay/round-trip");
    group.throughput(Throughput::Elements(1));
    for (name, open) in &ways {
        let (mut client, mut server) = open();
        group.bench_function(*name, |bencher| {
            measure(&runtime, bencher, async |count| {
                for _ in 0..count {
                    round_trip(&mut client, &mut server).await.expect("an open connection");
                }
            });
        });
    }
    group.finish();
}

fn measure(runtime: &Runtime, bencher: &mut criterion::Bencher<'_>, mut work: impl AsyncFnMut(u64)) {
    bencher.iter_custom(|count| {
        runtime.block_on(async {
            let start = Instant::now();
            work(count).await;
            start.elapsed()
        })
    });
}

async fn direct() -> Ends {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    connected(TcpStream::connect(address), &listener).await
}

async fn through_copy() -> Ends {
    let (client, mut relay_downstream) = direct().await;
    let (mut relay_upstream, server) = direct().await;
    tokio::spawn(async move {
        // Ends with the bench.
        let _ = tokio::io::copy_bidirectional_with_sizes(
            &mut relay_downstream,
            &mut relay_upstream,
            BUFFER,
            BUFFER,
        )
        .await;
    });
    (client, server)
}

/// Waits for both ends.
async fn connected(client: impl Future<Output = std::io::Result<TcpStream>>, listener: &TcpListener) -> Ends {
    let (client, accepted) = tokio::join!(client, listener.accept());
    let (client, (server, _)) = (client.expect("a connection"), accepted.expect("a connection"));
    for end in [&client, &server] {
        end.set_nodelay(true).expect("a socket");
    }
    (client, server)
}

async fn pour(client: &mut TcpStream) -> std::io::Result<()> {
    let chunk = vec![7; CHUNK];
    for _ in 0..BULK / CHUNK {
        client.write_all(&chunk).await?;
    }
    Ok(())
}

async fn drink(server: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut left = BULK;
    while left > 0 {
        left -= server.read(&mut buffer).await?;
    }
    Ok(())
}

async fn round_trip(client: &mut TcpStream, server: &mut TcpStream) -> std::io::Result<()> {
    let mut message = [7; MESSAGE];
    client.write_all(&message).await?;
    server.read_exact(&mut message).await?;
    server.write_all(&message).await?;
    client.read_exact(&mut message).await.map(drop)
}

criterion_group!(benches, relay);
criterion_main!(benches);
