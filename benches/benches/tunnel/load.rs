//! What is done through tunnels and, in the same way, through streams of bare HTTP/2.

use std::{future::poll_fn, task::Poll};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use hbone::{RecvHalf, SendHalf, client::SendConnect};

use crate::peers::{RawClient, connect};

/// Sends bytes through a tunnel of its own to an end that swallows them.
pub(crate) async fn copy_through_tunnel(send: &SendConnect, total: usize, data: Bytes) {
    let (mut recv, mut send) = connect(send, 1).await.into_split();
    for _ in 0..total / data.len() {
        send.send(data.clone()).await.expect("an open tunnel");
    }
    send.finish().expect("an open tunnel");
    while recv.data().await.is_some() {}
}

/// Does the same through a stream of bare HTTP/2.
pub(crate) async fn copy_through_h2(client: &RawClient, total: usize, data: Bytes) {
    let (mut body, mut send) = client.open(1).await;
    for _ in 0..total / data.len() {
        let mut rest = data.clone();
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let granted = poll_fn(|cx| match send.capacity() {
                0 => send
                    .poll_capacity(cx)
                    .map(|granted| granted.expect("an open stream").expect("an open stream")),
                granted => Poll::Ready(granted),
            });
            let granted = granted.await.min(rest.len());
            send.send_data(rest.split_to(granted), false).expect("an open stream");
        }
    }
    send.send_data(Bytes::new(), true).expect("an open stream");
    while body.data().await.is_some() {}
}

/// Sends a message through a tunnel and waits until all of it is back.
pub(crate) async fn echo_through_tunnel(recv: &mut RecvHalf, send: &mut SendHalf, data: Bytes) {
    let mut missing = data.len();
    send.send(data).await.expect("an open tunnel");
    while missing > 0 {
        let length = recv.data().await.expect("an echo").expect("an echo").len();
        recv.release(length);
        missing -= length;
    }
}

/// Does the same through a stream of bare HTTP/2.
pub(crate) async fn echo_through_h2(body: &mut RecvStream, send: &mut SendStream<Bytes>, data: Bytes) {
    let mut missing = data.len();
    send.send_data(data, false).expect("an open stream");
    while missing > 0 {
        let length = body.data().await.expect("an echo").expect("an echo").len();
        body.flow_control().release_capacity(length).expect("as received");
        missing -= length;
    }
}
