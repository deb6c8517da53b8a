//! A link that takes its time.

use std::time::Duration;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::PIPE;

/// Two ends between which bytes travel for `delay`, however many.
pub fn delay_line(delay: Duration) -> (DuplexStream, DuplexStream) {
    let (near, near_inner) = duplex(PIPE);
    let (far_inner, far) = duplex(PIPE);
    let (near_read, near_write) = split(near_inner);
    let (far_read, far_write) = split(far_inner);
    tokio::spawn(carry(near_read, far_write, delay));
    tokio::spawn(carry(far_read, near_write, delay));
    (near, far)
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let receiving = async move {
        loop {
            let mut data = BytesMut::with_capacity(PIPE);
            if !matches!(from.read_buf(&mut data).await, Ok(1..)) {
                break;
            }
            let _ = sender.send((Instant::now() + delay, data));
        }
    };
    let sending = async move {
        while let Some((at, data)) = receiver.recv().await {
            sleep_until(at).await;
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(receiving, sending);
}
