//! Changes and ends while connections come and go.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use examples::lab::{Behaviour, Host, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_closed, ping, wait_until},
    runner::{Family, cases},
};

cases![
    a_file_rewritten_halfway_changes_nothing,
    policies_come_and_go_under_load,
    the_end_under_load_cuts_nothing_short
];

const DENY: &str = "name: deny\nnamespace: default\nscope: Namespace\naction: Deny\ndryRun: false\n\
                    rules:\n- - - destinationPorts: [8080]";
const OTHER: &str = "name: other\nnamespace: default\nscope: Namespace\naction: Deny\ndryRun: false\n\
                     rules:\n- - - destinationPorts: [9]";

// routing#73, policy: a denial ends what is open, and its withdrawal is the end of it.
fn policies_come_and_go_under_load(workspace: &Workspace, family: Family) {
    let mut mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    let (host, app) = (mesh.client.host.clone(), mesh.app());
    under_load(&host, app, |load| {
        for _ in 0..3 {
            load.progress();
            mesh.replace_policies(&[DENY]);
            wait_until(|| load.failed.load(Ordering::Relaxed) > 0);
            mesh.replace_policies(&[OTHER]);
            load.progress();
            load.failed.store(0, Ordering::Relaxed);
        }
    });
    ping(&mut mesh.connect(mesh.app()), b"after");
}

// sockets#52, hbone#62
fn the_end_under_load_cuts_nothing_short(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family).variable("CONNECTION_TERMINATION_DEADLINE", "1s");
    let mut mesh = builder.start();
    let _app = mesh.serve(Behaviour::Echo);
    let (host, app) = (mesh.client.host.clone(), mesh.app());
    under_load(&host, app, |load| {
        load.progress();
        mesh.server.proxy.process().terminate().unwrap();
        let status = mesh.server.proxy.process().wait(PATIENCE).unwrap();
        assert!(status.success(), "{status}");
    });
}

/// Does something while connections come and go, none of which may end before its bytes without an error.
fn under_load(host: &Host, app: SocketAddr, act: impl FnOnce(&Load)) {
    let load = Load::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.run(host, app));
        }
        let ended = Ended(&load);
        act(&load);
        drop(ended);
    });
    assert_eq!(load.truncated.load(Ordering::Relaxed), 0);
}

/// control-plane: whoever writes the file is interrupted, or writes it wrongly.
fn a_file_rewritten_halfway_changes_nothing(workspace: &Workspace, family: Family) {
    let mut mesh = MeshBuilder::new(workspace, family).policy(OTHER).start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut open = mesh.connect(mesh.app());
    ping(&mut open, b"before");
    let whole = mesh.file().to_yaml();
    let halfway = whole.rfind("destinationPorts").unwrap();
    let broken = [
        whole.replace("rules:", "rule:"),
        whole[..halfway + 4].to_owned(),
        String::new(),
        "\0\t[".to_owned(),
    ];
    for (index, text) in broken.iter().enumerate() {
        mesh.overwrite_file(text);
        for node in [&mesh.client, &mesh.server] {
            wait_until(|| {
                let rejected = node.proxy.metric("mesh_local_config_rejected_total", &[]).unwrap();
                rejected > index as f64
            });
        }
        ping(&mut open, b"open");
        ping(&mut mesh.connect(mesh.app()), b"new");
    }
    mesh.replace_policies(&[DENY]);
    assert!(is_closed(&mut open));
}

/// Clients that come and go, and what became of them.
#[derive(Debug, Default)]
struct Load {
    over: AtomicBool,
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Ended in order without having been answered in full.
    truncated: AtomicUsize,
}

impl Load {
    /// Connects, has 64 KiB echoed and ends, until told otherwise.
    fn run(&self, host: &Host, app: SocketAddr) {
        let message = vec![7; 64 << 10];
        while !self.over.load(Ordering::Relaxed) {
            match echo(host, app, &message) {
                Ok(received) if received == message.len() => self.done.fetch_add(1, Ordering::Relaxed),
                Ok(_) => self.truncated.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Waits until some more have been served.
    fn progress(&self) {
        let before = self.done.load(Ordering::Relaxed);
        wait_until(|| self.done.load(Ordering::Relaxed) > before + 10);
    }
}

/// Ends the load, also when a check fails.
struct Ended<'a>(&'a Load);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn echo(host: &Host, app: SocketAddr, message: &[u8]) -> io::Result<usize> {
    let mut stream = host.connect(app)?;
    stream.write_all(message)?;
    let (mut received, mut buffer) = (0, vec![0; message.len()]);
    while received < message.len() {
        match stream.read(&mut buffer)? {
            0 => break,
            count => received += count,
        }
    }
    Ok(received)
}

const PATIENCE: Duration = Duration::from_secs(20);
