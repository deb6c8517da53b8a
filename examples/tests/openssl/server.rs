//! Our client configurations connect to `openssl s_server`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdin, Stdio},
    sync::Arc,
};

use mesh_identity::{
    ExpectedPeer, IdentityStore, KeyExchange, LeafError, PeerIdentity, TlsSettings, VerifyError,
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, NamedGroup, ProtocolVersion, StreamOwned,
};

use crate::{
    CART, STOCK, bounded, client_config,
    command::{Key, OpenSsl, workload_extensions},
    id,
};

/// The program, with the files named `stock`; it demands a certificate under `root` and sends back each line reversed.
struct Server {
    child: Child,
    address: String,
    /// At the end of its input it would end.
    _input: ChildStdin,
}

impl Server {
    fn start(openssl: &OpenSsl, options: &str) -> Self {
        let mut command = openssl.command();
        command.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "stock.pem", "-key", "stock.key"]);
        command.args(["-CAfile", "root.pem", "-Verify", "1", "-verify_return_error", "-rev"]);
        command.args(options.split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let _input = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned))
            .expect("an address");
        // What it says later must find a reader.
        std::thread::spawn(move || lines.count());
        Self { child, address, _input }
    }

    fn connect(&self, config: Arc<ClientConfig>) -> Result<ClientConnection, Error> {
        let mut socket = bounded(TcpStream::connect(&self.address).unwrap());
        let mut connection = ClientConnection::new(config, mesh_identity::server_name()).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(error_of_tls)?;
        }
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"hello\n").map_err(error_of_tls)?;
        // Only now is it certain that our certificate was taken.
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).map_err(error_of_tls)?;
        assert_eq!(&answer, b"olleh\n");
        Ok(stream.conn)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn error_of_tls(error: std::io::Error) -> Error {
    let inner = error.into_inner().expect("an error of TLS");
    *inner.downcast().expect("an error of rustls")
}

fn scene() -> Option<(OpenSsl, IdentityStore)> {
    let openssl = OpenSsl::find()?;
    openssl.root("root", Key::P256);
    openssl.workload("stock", "root", STOCK);
    openssl.workload("cart", "root", CART);
    let store = openssl.store("root", &["cart"]);
    Some((openssl, store))
}

// identity#22
#[test]
fn both_prove_who_they_are() {
    let Some((openssl, _)) = scene() else { return };
    let server = Server::start(&openssl, "-alpn h2");
    for kind in [Key::P256, Key::P384, Key::Rsa(2048), Key::Ed25519] {
        openssl.key("cart", kind);
        openssl.certificate("cart", "root", "/", &workload_extensions(CART), "");
        let store = openssl.store("root", &["cart"]);
        let client = server.connect(client_config(&store, CART, STOCK, TlsSettings::default())).unwrap();
        assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(STOCK), "{kind:?}");
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    }
    // Our certificate is from somebody whom it does not know.
    openssl.root("stranger", Key::P256);
    openssl.workload("cart", "stranger", CART);
    let store = openssl.store("root", &["cart"]);
    let refused = server.connect(client_config(&store, CART, STOCK, TlsSettings::default())).unwrap_err();
    assert_eq!(refused, Error::AlertReceived(AlertDescription::UnknownCA));
}

// identity#8, identity#11, identity#16
#[test]
fn what_breaks_a_rule_is_refused_by_that_rule() {
    let Some((openssl, store)) = scene() else { return };
    let config = |peer| client_config(&store, CART, peer, TlsSettings::default());
    let refused = |peer| {
        let error = Server::start(&openssl, "").connect(config(peer)).unwrap_err();
        VerifyError::find(&error).expect("a refused certificate").clone()
    };
    let expected =
        VerifyError::Unexpected { expected: ExpectedPeer::exact([id(CART)]), presented: id(STOCK) };
    assert_eq!(refused(CART), expected);

    let good = workload_extensions(STOCK);
    let two = good.replace(&format!("URI:{STOCK}"), &format!("URI:{STOCK},URI:{CART}"));
    openssl.certificate("stock", "root", "/", &two, "");
    assert_eq!(refused(STOCK), VerifyError::Leaf(LeafError::SeveralUris { count: 2 }));
    openssl.certificate("stock", "root", "/", &good.replace("serverAuth,clientAuth", "clientAuth"), "");
    assert!(matches!(refused(STOCK), VerifyError::Purpose { .. }));
    openssl.certificate("stock", "root", "/", &good.replace("CA:FALSE", "CA:TRUE"), "");
    assert_eq!(refused(STOCK), VerifyError::Leaf(LeafError::CertificateAuthority));
}

// identity#13
#[test]
fn intermediates_that_the_server_sends_lead_to_the_root() {
    let Some((openssl, store)) = scene() else { return };
    openssl.key("issuer", Key::P256);
    let issuer = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
    openssl.certificate("issuer", "root", "/CN=issuer", issuer, "");
    openssl.workload("stock", "issuer", STOCK);
    let config = client_config(&store, CART, STOCK, TlsSettings::default());
    let error = Server::start(&openssl, "").connect(config.clone()).unwrap_err();
    assert!(matches!(VerifyError::find(&error), Some(VerifyError::Chain { .. })), "{error:?}");
    Server::start(&openssl, "-cert_chain issuer.pem").connect(config).unwrap();
}

// hbone#1, hbone#9, hbone#89
#[test]
fn versions_and_groups_are_those_that_the_settings_allow() {
    let Some((openssl, store)) = scene() else { return };
    let config = |settings| client_config(&store, CART, STOCK, settings);
    let old = Server::start(&openssl, "-tls1_2");
    let refused = old.connect(config(TlsSettings::default())).unwrap_err();
    assert_eq!(refused, Error::AlertReceived(AlertDescription::ProtocolVersion));
    let client = old.connect(config(TlsSettings::default().allow_tls12())).unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(PeerIdentity::from_connection(&client).unwrap().id(), &id(STOCK));

    let classical = Server::start(&openssl, "-groups P-256");
    let client = classical.connect(config(TlsSettings::default().allow_tls12())).unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);
    let hybrid = TlsSettings::default().key_exchange(KeyExchange::RequireHybrid);
    let refused = classical.connect(config(hybrid)).unwrap_err();
    assert_eq!(refused, Error::AlertReceived(AlertDescription::HandshakeFailure));
}
