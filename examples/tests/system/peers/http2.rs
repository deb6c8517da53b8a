//! curl and nghttp ask our inbound for what it does not do.

use std::{net::SocketAddr, path::Path};

use examples::lab::{Behaviour, Workspace};

use super::{
    identity::{self, Files},
    program::{self, Outcome},
};
use crate::{
    fixture::{Mesh, ping},
    runner::{Family, cases},
};

cases![a_connect_with_a_path_is_reset, a_get_is_a_bad_request, many_requests_share_a_connection,];

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

// hbone#34
fn a_get_is_a_bad_request(workspace: &Workspace, family: Family) {
    if let Some(curl) = program::find("curl", "curl") {
        let server = Server::start(workspace, family);
        let outcome = server.ask(&curl, &["--write-out", "%{http_version} %{http_code}"], "");
        assert!(outcome.success, "{}", outcome.text());
        assert_eq!(outcome.text(), "2 400");
    }
    if let Some(nghttp) = program::find("nghttp", "nghttp2-client") {
        let server = Server::start(workspace, family);
        let outcome = server.ask(&nghttp, &["--verbose"], "");
        assert!(outcome.success, "{}", outcome.text());
        let answer = outcome.text().split("recv HEADERS frame").nth(1).unwrap_or_default().to_owned();
        assert!(outcome.text().contains(":status: 400"), "{}", outcome.text());
        assert!(answer.lines().nth(1).is_some_and(|line| line.contains("END_STREAM")), "{}", outcome.text());
        assert!(!outcome.text().contains("recv GOAWAY"), "{}", outcome.text());
    }
}

fn many_requests_share_a_connection(workspace: &Workspace, family: Family) {
    const REQUESTS: usize = 150;
    let Some(curl) = program::find("curl", "curl") else { return };
    let server = Server::start(workspace, family);
    let format = "%{num_connects} %{http_code}\\n";
    let outcome = server.ask(
        &curl,
        &["--parallel", "--no-progress-meter", "--write-out", format],
        &format!("[1-{REQUESTS}]"),
    );
    assert!(outcome.success, "{}", outcome.text());
    let lines: Vec<_> = outcome.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), REQUESTS);
    assert!(lines.iter().all(|line| line.ends_with(" 400")), "{}", outcome.text());
    let connections = lines.iter().filter(|line| !line.starts_with("0 ")).count();
    assert!(connections < REQUESTS / 10, "{connections} connections for {REQUESTS} requests");
    server.still_serves();
}

// hbone#90
fn a_connect_with_a_path_is_reset(workspace: &Workspace, family: Family) {
    let Some(nghttp) = program::find("nghttp", "nghttp2-client") else { return };
    let server = Server::start(workspace, family);
    let outcome = server.ask(&nghttp, &["--verbose", "--header", ":method: CONNECT"], "");
    assert!(outcome.text().contains("recv RST_STREAM frame"), "{}", outcome.text());
    assert!(outcome.text().contains("error_code=PROTOCOL_ERROR"), "{}", outcome.text());
    server.still_serves();
}

struct Server<'a> {
    workspace: &'a Workspace,
    mesh: Mesh,
}

impl<'a> Server<'a> {
    fn start(workspace: &'a Workspace, family: Family) -> Self {
        Self { workspace, mesh: Mesh::start(workspace, family) }
    }

    /// Runs a program that takes curl's options and asks for a path on port 15008, as the client's pod.
    fn ask(&self, program: &Path, arguments: &[&str], path: &str) -> Outcome {
        let files = Files::of(self.workspace, &identity::trusted(CLIENT));
        let server = SocketAddr::new(self.mesh.address(&self.mesh.server.host), 15008);
        let url = format!("https://{server}/{path}");
        // Neither knows SPIFFE IDs: they may not look for a host name in the certificate.
        let curl = program.ends_with("curl");
        let own: &[&str] = if curl {
            &["--silent", "--show-error", "--insecure", "--max-time", "10"]
        } else {
            &["--timeout=10"]
        };
        let own =
            own.iter().chain(arguments).copied().chain(["--cert", &files.chain, "--key", &files.key, &url]);
        Outcome::of(self.workspace, &self.mesh.outside, program, own, b"")
    }

    fn still_serves(&self) {
        let _app = self.mesh.serve(Behaviour::Echo);
        ping(&mut self.mesh.connect(self.mesh.app()), b"still here");
    }
}
