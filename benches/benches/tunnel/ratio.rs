//! Tunnels and the bare HTTP/2 below them in turns of some milliseconds, so that both have the same share of whatever else
//! the machine does. Prints, for each kind of work, the best turn of both and how they compare, in what the thread computes:
//! it never waits, and what others compute meanwhile is not counted.

#[allow(dead_code, reason = "shared with the criterion benchmark")]
mod load;
#[allow(dead_code, reason = "shared with the criterion benchmark")]
mod peers;

use std::time::Duration;

use benches::thread_time;
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use self::{
    load::{copy_through_h2, copy_through_tunnel, echo_through_h2, echo_through_tunnel},
    peers::{RawClient, connect, hbone_client},
};

/// That of the binaries. One that gives large buffers back to the kernel measures page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BULK: usize = 32 << 20;
const MESSAGE: usize = 64;
const MESSAGES: usize = 2_000;
const TUNNELS: usize = 1_000;
/// Writes without waiting, as an application that does not buffer.
const BURST: usize = 20_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let only = arguments.next();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Connections of their own for each kind of work: what one did to buffers is not to tell on the next.
    let start = || runtime.block_on(async { (RawClient::start().await, hbone_client().await) });
    let wants = |name: &str| only.as_ref().is_none_or(|only| *only == name);
    println!("{:16} {:>10} {:>10} {:>12} {:>12}", "", "h2", "hbone", "best of each", "median round");

    for (name, chunk) in [("bulk-1k", 1 << 10), ("bulk-16k", 16 << 10), ("bulk-256k", 256 << 10)] {
        if wants(name) {
            let (raw, send) = start();
            let data = Bytes::from(vec![7; chunk]);
            compare(
                &runtime,
                name,
                rounds,
                async || copy_through_h2(&raw, BULK, data.clone()).await,
                async || copy_through_tunnel(&send, BULK, data.clone()).await,
            );
        }
    }
    if wants("burst") {
        let (raw, send) = start();
        let data = Bytes::from(vec![7; MESSAGE]);
        compare(
            &runtime,
            "burst",
            rounds,
            async || copy_through_h2(&raw, BURST * MESSAGE, data.clone()).await,
            async || copy_through_tunnel(&send, BURST * MESSAGE, data.clone()).await,
        );
    }
    if wants("ping-pong") {
        let (raw, send) = start();
        let data = Bytes::from(vec![7; MESSAGE]);
        let (mut body, mut stream) = runtime.block_on(raw.open(2));
        let (mut recv, mut half) = runtime.block_on(connect(&send, 2)).into_split();
        compare(
            &runtime,
            "ping-pong",
            rounds,
            async || {
                for _ in 0..MESSAGES {
                    echo_through_h2(&mut body, &mut stream, data.clone()).await;
                }
            },
            async || {
                for _ in 0..MESSAGES {
                    echo_through_tunnel(&mut recv, &mut half, data.clone()).await;
                }
            },
        );
    }
    if wants("open") {
        let (raw, send) = start();
        compare(
            &runtime,
            "open",
            rounds,
            async || {
                for _ in 0..TUNNELS {
                    drop(raw.open(2).await);
                }
            },
            async || {
                for _ in 0..TUNNELS {
                    drop(connect(&send, 2).await);
                }
            },
        );
    }
}

/// Has both do their work in turns, the one that begins changing, and prints the rate of `ours` over that of `theirs`.
fn compare(
    runtime: &Runtime,
    name: &str,
    rounds: usize,
    mut theirs: impl AsyncFnMut(),
    mut ours: impl AsyncFnMut(),
) {
    let (mut best_theirs, mut best_ours) = (Duration::MAX, Duration::MAX);
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let (their_time, our_time);
        if round % 2 == 0 {
            their_time = time(runtime, &mut theirs);
            our_time = time(runtime, &mut ours);
        } else {
            our_time = time(runtime, &mut ours);
            their_time = time(runtime, &mut theirs);
        }
        // The first makes room.
        if round > 0 {
            (best_theirs, best_ours) = (best_theirs.min(their_time), best_ours.min(our_time));
            ratios.push(their_time.as_secs_f64() / our_time.as_secs_f64());
        }
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
    let of_best = best_theirs.as_secs_f64() / best_ours.as_secs_f64();
    println!("{name:16} {best_theirs:>10.2?} {best_ours:>10.2?} {of_best:>12.3} {median:>12.3}");
}

fn time(runtime: &Runtime, work: &mut impl AsyncFnMut()) -> Duration {
    let start = thread_time();
    runtime.block_on(work());
    thread_time() - start
}

const ROUNDS: usize = 41;
