//! How much one tunnel carries over a long way. The clock is simulated, so this is what windows allow, not what a
//! processor does.

mod support;

use std::time::Duration;

use bytes::Bytes;
use hbone::{client, server};
use support::{delay::delay_line, request};
use tokio::time::Instant;

const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Until the windows have grown.
const WARM_UP: usize = 32 << 20;
const MEASURED: usize = 256 << 20;
/// What DESIGN.md promises to a tunnel in bulk.
const WINDOW: usize = 4 << 20;

#[tokio::test(start_paused = true)]
async fn one_tunnel_carries_a_window_each_round_trip() {
    let (near, far) = delay_line(ROUND_TRIP / 2);
    let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
    let ((send, connection), mut server) = (client.unwrap(), server.unwrap());
    tokio::spawn(connection);
    let (near, far) = tokio::join!(send.connect(request()), async {
        let far = server.accept().await.unwrap().unwrap().accept().unwrap();
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        far
    });
    let (_near_recv, mut sender) = near.unwrap().into_split();
    let (mut receiver, _far_send) = far.into_split();
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![7; 64 << 10]);
        while sender.send(chunk.clone()).await.is_ok() {}
    });
    let mut receive = async |mut wanted: usize| {
        while wanted > 0 {
            let length = receiver.data().await.unwrap().unwrap().len();
            receiver.release(length);
            wanted = wanted.saturating_sub(length);
        }
    };
    receive(WARM_UP).await;
    let start = Instant::now();
    receive(MEASURED).await;
    let round_trips = start.elapsed().as_secs_f64() / ROUND_TRIP.as_secs_f64();
    // 0.9 of a window each: 1.5 Gbit/s.
    let windows = MEASURED / WINDOW;
    assert!(round_trips * 9.0 <= windows as f64 * 10.0, "{windows} windows took {round_trips} round trips");
}
