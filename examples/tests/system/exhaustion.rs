//! A proxy that runs out of something, and what it has left when nobody uses it any more.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use examples::lab::{Behaviour, Workspace};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::SockRef;

use crate::{
    fixture::{Mesh, MeshBuilder, Node, is_refused, ping, wait_until},
    runner::{Family, cases},
};

cases![
    a_proxy_without_descriptors_goes_on_when_it_has_some,
    connections_leave_no_descriptors_behind,
    tunnels_beyond_the_bound_are_refused_and_places_come_back,
];

// hbone#38, routing#77
fn connections_leave_no_descriptors_behind(workspace: &Workspace, family: Family) {
    let mut mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    let nobody = SocketAddr::new(mesh.app().ip(), 9);
    let round = |count: usize, mesh: &Mesh| {
        for index in 0..count {
            let from = if index % 2 == 0 { &mesh.client.host } else { &mesh.outside };
            if index % 5 == 0 {
                assert!(is_refused(from.connect(nobody)));
                continue;
            }
            let mut stream = from.connect(mesh.app()).unwrap();
            ping(&mut stream, b"x");
            if index % 3 == 0 {
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
    };
    round(20, &mesh);
    let before = [descriptors(&mut mesh.client), descriptors(&mut mesh.server)];
    round(600, &mesh);
    drop(app);
    for (node, before) in [&mut mesh.client, &mut mesh.server].into_iter().zip(before) {
        wait_until(|| descriptors(node) <= before);
    }
}

// sockets#61
fn a_proxy_without_descriptors_goes_on_when_it_has_some(workspace: &Workspace, family: Family) {
    let mut mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.app()), b"warm");
    wait_until(|| mesh.server.proxy.access_log().len() == 1);
    let few = descriptors(&mut mesh.server) + 9;
    limit_descriptors(&mut mesh.server, few as u64);
    let held: Vec<TcpStream> = (0..40).filter_map(|_| mesh.outside.connect(mesh.app()).ok()).collect();
    assert!(held.len() > 5);
    drop(held);
    limit_descriptors(&mut mesh.server, 1 << 10);
    wait_until(|| {
        let Ok(mut stream) = mesh.outside.connect(mesh.app()) else { return false };
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
    });
    ping(&mut mesh.connect(mesh.app()), b"and so do tunnels");
    let failures = mesh.server.proxy.metric("mesh_accept_failures_total", &[]).unwrap();
    // It waited between attempts, instead of burning a core with them.
    assert!((1.0..200.0).contains(&failures), "{failures}");
}

fn tunnels_beyond_the_bound_are_refused_and_places_come_back(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family).server_variable("MAX_TUNNELS_PER_WORKER", "2");
    let mesh = builder.start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut open: Vec<_> = (0..2).map(|_| mesh.connect(mesh.app())).collect();
    open.iter_mut().for_each(|stream| ping(stream, b"one of two"));
    assert!(is_refused(mesh.client.host.connect(mesh.app())));
    let record = mesh.server.access(|record| record.level() == "warn");
    assert_eq!(record.field("error"), Some("more than 2 tunnels on one worker"));
    open.iter_mut().for_each(|stream| ping(stream, b"still there"));
    open.pop();
    wait_until(|| {
        let mut stream = mesh.connect(mesh.app());
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
    });
}

/// How many descriptors a proxy has open.
fn descriptors(node: &mut Node) -> usize {
    let id = node.proxy.process().id();
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

fn limit_descriptors(node: &mut Node, limit: u64) {
    let pid = Pid::from_raw(node.proxy.process().id().try_into().unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(1 << 10) }).unwrap();
}
