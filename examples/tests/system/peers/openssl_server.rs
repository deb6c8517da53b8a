//! Our outbound meets servers that prove who they are and then speak no HTTP/2.

use std::time::{Duration, Instant};

use examples::lab::{Process, Workspace};

use super::{
    identity::{self, Files},
    program,
    scene::Scene,
};
use crate::runner::{Family, cases};

cases![a_server_of_another_protocol_is_refused_in_tls, a_server_that_says_nothing_is_given_up];

/// Bound on the handshake and on the answer, each 10 s, and something for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

// hbone#5
fn a_server_of_another_protocol_is_refused_in_tls(workspace: &Workspace, family: Family) {
    let Some((scene, _server)) = serve(workspace, family, &["-alpn", "http/1.1"]) else { return };
    let ours = scene.proxy(&scene.client);
    assert!(scene.is_reset(PATIENCE));
    ours.access(|record| record.level() == "error");
}

fn a_server_that_says_nothing_is_given_up(workspace: &Workspace, family: Family) {
    // It costs the whole deadline, and no family has another.
    if family == Family::V6 {
        return;
    }
    let Some((scene, _server)) = serve(workspace, family, &["-alpn", "h2"]) else { return };
    let ours = scene.proxy(&scene.client);
    let start = Instant::now();
    assert!(scene.is_reset(PATIENCE), "still open after {:?}", start.elapsed());
    ours.access(|record| record.level() == "error");
}

/// Starts OpenSSL as the server's proxy; it takes any connection and shows what it reads.
fn serve<'a>(workspace: &'a Workspace, family: Family, arguments: &[&str]) -> Option<(Scene<'a>, Process)> {
    let openssl = program::find("openssl", "openssl")?;
    let scene = Scene::new(workspace, family, None);
    let files = Files::of(workspace, &identity::trusted("spiffe://cluster.local/ns/default/sa/server"));
    // Its standard input never ends: at the end of that it would say goodbye.
    let mut command = scene.server.command("/bin/sh").unwrap();
    command.args(["-c", r#"mkfifo "$1" && exec 0<>"$1" && shift && exec "$@""#, "sh"]);
    command.arg(files.key.clone() + ".pipe").arg(openssl);
    command.args(["s_server", "-accept", "15008", "-cert", &files.chain, "-key", &files.key]);
    command.args(["-CAfile", &identity::root(workspace), "-Verify", "1", "-verify_return_error"]);
    command.args(arguments);
    let server = scene.server.spawn(command).unwrap();
    let listening = server.output().wait_for(PATIENCE, |line| line.starts_with("ACCEPT").then_some(()));
    listening.unwrap_or_else(|| panic!("openssl does not listen: {:?}", server.output().lines()));
    Some((scene, server))
}
