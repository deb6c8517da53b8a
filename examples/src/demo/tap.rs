use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// A relay that remembers what passes: what a packet capture sees, without the right to capture packets.
#[derive(Debug)]
pub(super) struct Tap {
    listener: TcpListener,
    streams: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    /// Listens where the listener does and relays to `upstream`.
    pub(super) fn start(listener: TcpListener, upstream: SocketAddr) -> io::Result<Self> {
        let tap = Self { listener, streams: Arc::default() };
        let (listener, streams) = (tap.listener.try_clone()?, Arc::clone(&tap.streams));
        thread::Builder::new().name("demo-tap".to_owned()).spawn(move || {
            while let Ok((downstream, _)) = listener.accept() {
                // A connection that cannot be relayed is closed, which both ends see.
                let _ = relay(downstream, upstream, &streams);
            }
        })?;
        Ok(tap)
    }

    /// What has passed, each direction of each connection on its own.
    pub(super) fn streams(&self) -> Vec<Vec<u8>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

fn relay(downstream: TcpStream, upstream: SocketAddr, streams: &Arc<Mutex<Vec<Vec<u8>>>>) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    for stream in [&downstream, &upstream] {
        stream.set_nodelay(true)?;
    }
    for (from, to) in [(downstream.try_clone()?, upstream.try_clone()?), (upstream, downstream)] {
        let streams = Arc::clone(streams);
        let index = {
            let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(Vec::new());
            streams.len() - 1
        };
        thread::Builder::new().name("demo-tap".to_owned()).spawn(move || copy(from, to, &streams, index))?;
    }
    Ok(())
}

/// Copies one direction and its end.
fn copy(mut from: TcpStream, mut to: TcpStream, streams: &Mutex<Vec<Vec<u8>>>, index: usize) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let part = buffer.get(..count).unwrap_or_default();
        if let Some(stream) = streams.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            stream.extend_from_slice(part);
        }
        if to.write_all(part).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
