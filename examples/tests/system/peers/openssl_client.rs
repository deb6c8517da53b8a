//! OpenSSL shakes hands with our inbound: what TLS lets in, and what it does not.

use std::{net::SocketAddr, path::PathBuf};

use examples::lab::Workspace;
use mesh_identity::PemSvid;

use super::{
    identity::{self, Files},
    program::{self, Outcome},
};
use crate::{
    fixture::{Mesh, MeshBuilder, ping},
    runner::{Family, cases},
};

cases![
    a_certificate_of_another_trust_domain_is_refused,
    a_foreign_certificate_is_refused,
    alpn_is_h2_or_nothing,
    aes_gcm_is_the_only_kind_of_cipher,
    groups_of_a_peer_without_x25519_are_agreed,
    no_certificate_is_refused,
    no_session_can_be_resumed,
    only_tls_1_3_is_spoken,
    tls_1_2_and_the_hybrid_group_alone_are_to_be_had_by_choice,
];

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// The preface, empty SETTINGS, and a DATA frame on stream 0, at which a server says GOAWAY and closes.
const HELLO_AND_NONSENSE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
                                    \0\0\0\x04\0\0\0\0\0\
                                    \0\0\0\0\0\0\0\0\0";
/// The end of a SETTINGS frame's header: type 4, no flags, stream 0.
const SETTINGS: &[u8] = &[0x04, 0, 0, 0, 0, 0];

// hbone#1
fn only_tls_1_3_is_spoken(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let handshake = server.handshake(&["-tls1_3"]);
    handshake.succeeds();
    handshake.says("TLSv1.3");
    server.handshake(&["-tls1_2"]).fails_with("alert protocol version");
}

// hbone#1, hbone#9
fn tls_1_2_and_the_hybrid_group_alone_are_to_be_had_by_choice(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start_with(workspace, family, &[("TLS12_ENABLED", "true")]) else { return };
    let handshake = server.handshake(&["-tls1_2"]);
    handshake.succeeds();
    handshake.says("TLSv1.2");
    server.handshake(&["-tls1_3"]).says("TLSv1.3");

    let Some(server) = Server::start_with(workspace, family, &[("COMPLIANCE_POLICY", "pqc")]) else { return };
    server.handshake(&["-groups", "X25519:P-256"]).fails_with("alert handshake failure");
    let app = server.mesh.serve(examples::lab::Behaviour::Echo);
    ping(&mut server.mesh.connect(server.mesh.app()), b"two of us have it");
    drop(app);
}

// hbone#2
fn aes_gcm_is_the_only_kind_of_cipher(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"] {
        let handshake = server.handshake(&["-ciphersuites", suite]);
        handshake.succeeds();
        handshake.says(&format!("Cipher is {suite}"));
    }
    server
        .handshake(&["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"])
        .fails_with("alert handshake failure");
}

// hbone#5
fn alpn_is_h2_or_nothing(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let handshake = server.handshake(&["-alpn", "http/1.1,h2"]);
    handshake.succeeds();
    handshake.says("ALPN protocol: h2");
    let handshake = server.handshake(&[]);
    handshake.succeeds();
    handshake.says("No ALPN negotiated");
    server.handshake(&["-alpn", "http/1.1"]).fails_with("alert no application protocol");
}

// hbone#3
fn no_certificate_is_refused(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    server.handshake_as(None, &["-alpn", "h2"]).fails_with("alert certificate required");
}

fn a_foreign_certificate_is_refused(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let foreign = identity::foreign(CLIENT);
    server.handshake_as(Some(&foreign), &["-alpn", "h2"]).fails_with("SSL alert number");
}

// hbone#6, routing#100: signed by the root that everybody trusts, which vouches for all trust domains.
fn a_certificate_of_another_trust_domain_is_refused(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let stranger = identity::trusted("spiffe://other.example.org/ns/default/sa/client");
    server.handshake_as(Some(&stranger), &["-alpn", "h2"]).fails_with("SSL alert number");
}

// hbone#89
fn groups_of_a_peer_without_x25519_are_agreed(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let handshake = server.handshake(&["-groups", "P-256", "-msg"]);
    handshake.succeeds();
    assert_eq!(handshake.client_hellos(), 1);
    // Its first key share is of a group we do not have: we ask for another.
    let handshake = server.handshake(&["-groups", "X448:P-256", "-msg"]);
    handshake.succeeds();
    assert_eq!(handshake.client_hellos(), 2);
}

// hbone#10
fn no_session_can_be_resumed(workspace: &Workspace, family: Family) {
    let Some(server) = Server::start(workspace, family) else { return };
    let handshake = server.handshake(&["-alpn", "h2"]);
    handshake.succeeds();
    assert!(!handshake.0.text().contains("New Session Ticket"), "{}", handshake.0.text());
}

struct Server<'a> {
    workspace: &'a Workspace,
    mesh: Mesh,
    openssl: PathBuf,
    address: String,
    root: String,
}

impl<'a> Server<'a> {
    fn start(workspace: &'a Workspace, family: Family) -> Option<Self> {
        Self::start_with(workspace, family, &[])
    }

    fn start_with(
        workspace: &'a Workspace,
        family: Family,
        variables: &[(&'static str, &'static str)],
    ) -> Option<Self> {
        let openssl = program::find("openssl", "openssl")?;
        let builder = MeshBuilder::new(workspace, family);
        let mesh =
            variables.iter().fold(builder, |builder, (name, value)| builder.variable(name, value)).start();
        let address = SocketAddr::new(mesh.address(&mesh.server.host), 15008).to_string();
        Some(Self { workspace, mesh, openssl, address, root: identity::root(workspace) })
    }

    fn handshake(&self, arguments: &[&str]) -> Handshake {
        self.handshake_as(Some(&identity::trusted(CLIENT)), arguments)
    }

    fn handshake_as(&self, identity: Option<&PemSvid>, arguments: &[&str]) -> Handshake {
        let files = identity.map(|identity| Files::of(self.workspace, identity));
        let mut all = vec!["s_client", "-connect", &self.address, "-CAfile", &self.root];
        all.extend(["-verify_return_error", "-ign_eof", "-nocommands"]);
        if let Some(files) = &files {
            all.extend(["-cert", &files.chain, "-key", &files.key]);
        }
        all.extend(arguments);
        Handshake(Outcome::of(self.workspace, &self.mesh.outside, &self.openssl, all, HELLO_AND_NONSENSE))
    }
}

struct Handshake(Outcome);

impl Handshake {
    /// The client was content, and the server went on to HTTP/2.
    fn succeeds(&self) {
        assert!(self.0.output.windows(SETTINGS.len()).any(|bytes| bytes == SETTINGS), "{}", self.0.text());
        assert!(self.0.success, "{}", self.0.text());
    }

    fn fails_with(&self, alert: &str) {
        assert!(!self.0.success, "{}", self.0.text());
        self.says(alert);
        assert!(!self.0.output.windows(SETTINGS.len()).any(|bytes| bytes == SETTINGS), "{}", self.0.text());
    }

    fn says(&self, text: &str) {
        assert!(self.0.text().contains(text), "no {text} in {}", self.0.text());
    }

    fn client_hellos(&self) -> usize {
        self.0.text().lines().filter(|line| line.starts_with(">>>") && line.ends_with("ClientHello")).count()
    }
}
