//! A tunnel ends as a TCP connection does: each way of ending is tried on both, and what is seen is compared.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use hbone::{ResetReason, Tunnel};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Whatever a reset says, it is one.
const RESETS: [Option<ResetReason>; 6] = [
    None,
    Some(ResetReason::NoError),
    Some(ResetReason::StreamClosed),
    Some(ResetReason::Cancel),
    Some(ResetReason::ConnectError),
    Some(ResetReason::Other(77)),
];

/// How a side behaves.
#[derive(Clone, Copy, Debug)]
struct Side {
    sends: usize,
    /// Whether it waits for the other side's end before it sends.
    listens_first: bool,
    ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// FIN.
    Finish,
    /// FIN, and RST once the other side has seen that.
    FinishThenReset,
    /// RST.
    Reset,
}

/// What a side has seen when all is over.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// How much of what the other sent; nothing is said of it if the other reset, which loses what is on its way.
    received: Option<usize>,
    end: End,
    /// Whether the other side's reset kept it from sending.
    cannot_send: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Finished,
    Reset,
    /// It reset, and so did not look.
    Unseen,
}

/// A byte stream that can be reset: with a code, or by being dropped, where that makes a difference.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn reset(self, reason: Option<ResetReason>);
}

impl Stream for TcpStream {
    fn reset(self, _: Option<ResetReason>) {
        self.set_zero_linger().unwrap();
    }
}

impl Stream for Tunnel {
    fn reset(self, reason: Option<ResetReason>) {
        match reason {
            Some(reason) => Self::reset(self, reason),
            None => drop(self),
        }
    }
}

#[tokio::test]
async fn tunnels_end_as_connections_do() {
    let mut compared = 0;
    for near in sides() {
        for far in sides() {
            let both_listen = near.listens_first && far.listens_first;
            // Who resets at once leaves nobody to wait for a second reset, and two of those would wait for each other.
            let waits = |one: Side, other: Side| {
                one.ending == Ending::FinishThenReset
                    && (other.ending != Ending::Finish || !other.listens_first)
            };
            if both_listen || waits(near, far) || waits(far, near) {
                continue;
            }
            let (client, server) = connection().await;
            let expected = play(client, near, server, far, None).await;
            for reason in RESETS {
                // Having finished, a tunnel that is dropped says no more than that it is gone.
                let finishes = |side: Side| side.ending == Ending::FinishThenReset;
                if reason.is_none() && (finishes(near) || finishes(far)) {
                    continue;
                }
                let (client, server, _send) = support::tunnel().await;
                let actual = play(client, near, server, far, reason).await;
                assert_eq!(actual, expected, "{near:?} {far:?} {reason:?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "{compared}");
}

fn sides() -> impl Iterator<Item = Side> {
    [0, 10, 300 << 10].into_iter().flat_map(|sends| {
        [false, true].into_iter().flat_map(move |listens_first| {
            [Ending::Finish, Ending::FinishThenReset, Ending::Reset].into_iter().map(move |ending| Side {
                sends,
                listens_first,
                ending,
            })
        })
    })
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn play<S: Stream>(
    client: S,
    near: Side,
    server: S,
    far: Side,
    reason: Option<ResetReason>,
) -> (Seen, Seen) {
    let (near_saw, near_seen) = oneshot::channel();
    let (far_saw, far_seen) = oneshot::channel();
    tokio::join!(
        act(client, near, far, reason, near_saw, far_seen),
        act(server, far, near, reason, far_saw, near_seen)
    )
}

async fn act<S: Stream>(
    mut io: S,
    side: Side,
    other: Side,
    reason: Option<ResetReason>,
    saw_end: oneshot::Sender<()>,
    other_saw_end: oneshot::Receiver<()>,
) -> Seen {
    let mut seen = Seen { received: None, end: End::Unseen, cannot_send: false };
    let mut saw_end = Some(saw_end);
    if side.listens_first {
        listen(&mut io, other, &mut seen).await;
        let _ = saw_end.take().unwrap().send(());
        if other.ending != Ending::Finish {
            seen.cannot_send = fails_to_send(&mut io).await;
            return seen;
        }
    }
    let sent = io.write_all(&vec![7; side.sends]).await;
    if side.ending == Ending::Reset {
        io.reset(reason);
        return seen;
    }
    let finished = io.shutdown().await;
    if side.ending == Ending::FinishThenReset {
        let _ = other_saw_end.await;
        io.reset(reason);
        return seen;
    }
    if !side.listens_first {
        listen(&mut io, other, &mut seen).await;
        let _ = saw_end.take().unwrap().send(());
    }
    // A reset is told once, to whatever is tried first.
    if sent.is_err() || finished.is_err() {
        seen.end = End::Reset;
    }
    seen
}

async fn listen<S: Stream>(io: &mut S, other: Side, seen: &mut Seen) {
    let mut received = Vec::new();
    let end = io.read_to_end(&mut received).await;
    assert!(received.iter().all(|byte| *byte == 7) && received.len() <= other.sends);
    seen.end = if end.is_ok() { End::Finished } else { End::Reset };
    seen.received = (other.ending != Ending::Reset).then_some(received.len());
}

/// Whether sending comes to fail: the first bytes may still be taken.
async fn fails_to_send<S: Stream>(io: &mut S) -> bool {
    for _ in 0..100_000 {
        if io.write_all(&[7]).await.is_err() || io.flush().await.is_err() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}
