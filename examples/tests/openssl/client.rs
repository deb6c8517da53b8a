//! `openssl s_client` connects to our server configurations.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Child, Stdio},
    sync::Arc,
};

use mesh_identity::{LeafError, PeerIdentity, TlsSettings, VerifyError};
use rustls::{Error, PeerIncompatible, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};

use crate::{
    CART, STOCK, bounded,
    command::{Key, OpenSsl, text, workload_extensions},
    id, server_config,
};

/// What came of a connection: the server's view, and what the client wrote.
struct Met {
    server: Result<ServerConnection, Error>,
    client: String,
}

impl Met {
    #[track_caller]
    fn established(&self) -> &ServerConnection {
        assert!(self.client.contains("welcome"), "{}", self.client);
        self.server.as_ref().unwrap_or_else(|error| panic!("{error}: {}", self.client))
    }

    #[track_caller]
    fn refused(&self, alert: &str) -> &Error {
        assert!(self.client.contains(alert) && !self.client.contains("welcome"), "{}", self.client);
        self.server.as_ref().unwrap_err()
    }
}

/// Lets the program connect once, with the files of this name if there is one.
fn connect(openssl: &OpenSsl, config: Arc<ServerConfig>, name: Option<&str>, options: &str) -> Met {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = openssl.command();
    command.args(["s_client", "-quiet", "-CAfile", "root.pem", "-verify_return_error", "-connect"]);
    command.arg(listener.local_addr().unwrap().to_string());
    if let Some(name) = name {
        let [chain, key] = ["pem", "key"].map(|kind| openssl.path(&format!("{name}.{kind}")));
        command.args(["-cert", text(&chain), "-key", text(&key), "-cert_chain", text(&chain)]);
    }
    command.args(options.split_whitespace());
    command.env("OPENSSL_CONF", openssl.path("openssl.cnf"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let server = serve(&listener, config);
    Met { server, client: output(child) }
}

/// Takes one connection: greets, reads a line, and says goodbye.
fn serve(listener: &TcpListener, config: Arc<ServerConfig>) -> Result<ServerConnection, Error> {
    let (mut socket, _) = listener.accept().unwrap();
    socket = bounded(socket);
    let mut connection = ServerConnection::new(config).unwrap();
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut socket) {
            let inner = error.into_inner().expect("an error of TLS");
            return Err(*inner.downcast().expect("an error of rustls"));
        }
    }
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"welcome\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    Ok(stream.conn)
}

/// What the program writes until it ends, which the end of its connection makes it do.
fn output(mut child: Child) -> String {
    let mut lines = String::new();
    let mut read = BufReader::new(child.stdout.take().unwrap());
    while read.read_line(&mut lines).unwrap() > 0 {}
    let errors = child.wait_with_output().unwrap().stderr;
    lines + &String::from_utf8_lossy(&errors)
}

fn scene() -> Option<OpenSsl> {
    let openssl = OpenSsl::find()?;
    openssl.write("openssl.cnf", "");
    openssl.root("root", Key::P256);
    openssl.workload("stock", "root", STOCK);
    openssl.workload("cart", "root", CART);
    Some(openssl)
}

// identity#22
#[test]
fn both_prove_who_they_are() {
    let Some(openssl) = scene() else { return };
    let config = server_config(&openssl.store("root", &["stock"]), STOCK, TlsSettings::default());
    for kind in [Key::P256, Key::P384, Key::Rsa(2048), Key::Ed25519] {
        openssl.key("client", kind);
        openssl.certificate("client", "root", "/", &workload_extensions(CART), "");
        let met = connect(&openssl, config.clone(), Some("client"), "-alpn h2");
        let server = met.established();
        assert_eq!(PeerIdentity::from_connection(server).unwrap().id(), &id(CART), "{kind:?}");
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    }
    for kind in [Key::P384, Key::Rsa(2048), Key::Ed25519] {
        openssl.key("stock", kind);
        openssl.certificate("stock", "root", "/", &workload_extensions(STOCK), "");
        let config = server_config(&openssl.store("root", &["stock"]), STOCK, TlsSettings::default());
        connect(&openssl, config, Some("cart"), "").established();
    }
}

// identity#8, identity#11, identity#13, hbone#3
#[test]
fn what_breaks_a_rule_is_refused_by_that_rule() {
    let Some(openssl) = scene() else { return };
    let config = server_config(&openssl.store("root", &["stock"]), STOCK, TlsSettings::default());
    let met = connect(&openssl, config.clone(), None, "");
    assert_eq!(met.refused("certificate required"), &Error::NoCertificatesPresented);

    let good = workload_extensions(CART);
    let two = good.replace(&format!("URI:{CART}"), &format!("URI:{CART},URI:{STOCK}"));
    openssl.certificate("cart", "root", "/", &two, "");
    let met = connect(&openssl, config.clone(), Some("cart"), "");
    let expected = VerifyError::Leaf(LeafError::SeveralUris { count: 2 });
    assert_eq!(VerifyError::find(met.refused("certificate unknown")), Some(&expected));

    openssl.certificate("cart", "root", "/", &good.replace("serverAuth,clientAuth", "serverAuth"), "");
    let met = connect(&openssl, config.clone(), Some("cart"), "");
    let refused = VerifyError::find(met.refused("certificate unknown"));
    assert!(matches!(refused, Some(VerifyError::Purpose { .. })), "{refused:?}");

    openssl.root("stranger", Key::P256);
    openssl.workload("cart", "stranger", CART);
    let met = connect(&openssl, config, Some("cart"), "");
    let refused = VerifyError::find(met.refused("certificate unknown"));
    assert!(matches!(refused, Some(VerifyError::Chain { .. })), "{refused:?}");
}

// hbone#1
#[test]
fn tls_1_2_is_for_those_who_ask_for_it_and_have_the_extended_master_secret() {
    let Some(openssl) = scene() else { return };
    let store = openssl.store("root", &["stock"]);
    let default = server_config(&store, STOCK, TlsSettings::default());
    let met = connect(&openssl, default, Some("cart"), "-tls1_2");
    let why = PeerIncompatible::SupportedVersionsExtensionRequired;
    assert_eq!(met.refused("protocol version"), &Error::PeerIncompatible(why));

    let allowed = server_config(&store, STOCK, TlsSettings::default().allow_tls12());
    let met = connect(&openssl, allowed.clone(), Some("cart"), "-tls1_2 -alpn h2");
    let server = met.established();
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(PeerIdentity::from_connection(server).unwrap().id(), &id(CART));
    let met = connect(&openssl, allowed.clone(), Some("cart"), "");
    assert_eq!(met.established().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    for options in ["-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA"]
    {
        let met = connect(&openssl, allowed.clone(), Some("cart"), options);
        let why = PeerIncompatible::NoCipherSuitesInCommon;
        assert_eq!(met.refused("handshake failure"), &Error::PeerIncompatible(why));
    }

    openssl.write(
        "openssl.cnf",
        "openssl_conf = init\n[init]\nssl_conf = modules\n[modules]\nsystem_default = tls\n\
         [tls]\nOptions = -ExtendedMasterSecret\n",
    );
    let met = connect(&openssl, allowed, Some("cart"), "-tls1_2");
    let why = PeerIncompatible::ExtendedMasterSecretExtensionRequired;
    assert_eq!(met.refused("handshake failure"), &Error::PeerIncompatible(why));
}
