//! Identities from a certificate authority over the wire, and what traffic notices of their life: nothing.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use examples::lab::{Behaviour, Host, Workspace};

use crate::{
    control::Control,
    fixture::{MeshBuilder, Node, is_closed, is_refused, ping},
    runner::{Family, cases},
};

cases![
    a_connection_ends_at_the_age_that_is_set,
    a_renewal_fails_no_connection,
    a_revoked_client_is_cut_off_and_refused,
    a_root_is_replaced_under_traffic,
    a_root_of_the_same_name_is_replaced_under_traffic,
    an_absent_authority_is_noticed_by_nobody,
    the_first_certificate_comes_from_the_authority,
];

/// Bound on anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

// identity#64
fn the_first_certificate_comes_from_the_authority(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).authority(&[]).start();
    let app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.app()), b"hello");
    assert_eq!(app.finished(1).len(), 1);
    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("src.identity"), Some(mesh.client.pod.identity().as_str()));
    let signed = mesh.control.as_ref().unwrap().lines();
    for pod in [&mesh.client.pod, &mesh.server.pod] {
        let line = format!("signed {id} for {id}", id = pod.identity());
        assert_eq!(signed.iter().filter(|signed| signed.contains(&line)).count(), 1, "{signed:#?}");
    }
    // The mesh has two workloads, and each proxy has asked for its own and nobody else.
    assert!(!signed.iter().any(|line| line.contains("refused")), "{signed:#?}");
    assert_eq!(signed.iter().filter(|line| line.contains("signed ")).count(), 2, "{signed:#?}");
}

// identity#45, identity#46
fn a_renewal_fails_no_connection(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).authority(&[]).variable("SECRET_TTL", "20s").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut open = mesh.connect(mesh.app());
    ping(&mut open, b"before");
    let start = Instant::now();
    let traffic = Traffic::start(&mesh.client.host, mesh.app());
    let first = [&mesh.client, &mesh.server].map(serial);
    wait_until(|| serial(&mesh.client) != first[0] && serial(&mesh.server) != first[1]);
    // The certificates that the first connections were made with end here.
    wait_until(|| start.elapsed() > Duration::from_secs(21));
    let made = traffic.stop();
    assert!(made > 100, "{made}");
    ping(&mut open, b"an open tunnel outlives the certificate it was made with");
}

// identity#46, identity#48
fn an_absent_authority_is_noticed_by_nobody(workspace: &Workspace, family: Family) {
    let mut mesh = MeshBuilder::new(workspace, family).authority(&[]).variable("SECRET_TTL", "20s").start();
    let _app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.app()), b"before");
    let traffic = Traffic::start(&mesh.client.host, mesh.app());
    let first = [&mesh.client, &mesh.server].map(serial);
    let mut control = mesh.control.take().unwrap();
    control.stop();
    let stopped = Instant::now();
    wait_until(|| stopped.elapsed() > Duration::from_secs(15));
    assert_eq!([&mesh.client, &mesh.server].map(serial), first);
    control.restart();
    wait_until(|| serial(&mesh.client) != first[0] && serial(&mesh.server) != first[1]);
    wait_until(|| stopped.elapsed() > Duration::from_secs(21));
    let made = traffic.stop();
    assert!(made > 100, "{made}");
}

fn a_root_is_replaced_under_traffic(workspace: &Workspace, family: Family) {
    replace_root(workspace, family, "the next root");
}

// As Istio's own do: who looks for a root by its name finds two.
fn a_root_of_the_same_name_is_replaced_under_traffic(workspace: &Workspace, family: Family) {
    replace_root(workspace, family, "cluster.local");
}

// identity#65, identity#66, identity#67
fn replace_root(workspace: &Workspace, family: Family, organization: &str) {
    let mesh = MeshBuilder::new(workspace, family).authority(&[]).variable("SECRET_TTL", "8s").start();
    let _app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.app()), b"before");
    let traffic = Traffic::start(&mesh.client.host, mesh.app());
    let folder = mesh.control.as_ref().unwrap().file("ca");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let old = read("ca-cert.pem");
    let (new, key) = new_root(organization);

    // Everybody learns the new root, then it signs, then the old one goes.
    write("root-cert.pem", &format!("{old}{new}"));
    wait_until(|| [&mesh.client, &mesh.server].iter().all(|node| roots(node) == 2));
    write("ca-key.pem", &key);
    write("ca-cert.pem", &new);
    let before = [&mesh.client, &mesh.server].map(serial);
    // Two renewals: the first may have been under way.
    wait_until(|| serial(&mesh.client) != before[0] && serial(&mesh.server) != before[1]);
    let between = [&mesh.client, &mesh.server].map(serial);
    wait_until(|| serial(&mesh.client) != between[0] && serial(&mesh.server) != between[1]);
    write("root-cert.pem", &new);
    wait_until(|| [&mesh.client, &mesh.server].iter().all(|node| roots(node) == 1));
    let made = traffic.stop();
    assert!(made > 100, "{made}");
}

// identity#70, identity#72, identity#90, telemetry#23
fn a_revoked_client_is_cut_off_and_refused(workspace: &Workspace, family: Family) {
    // The file is not there yet: a mount may come later.
    let path = workspace.scratch().join(format!("crl-{}.pem", crate::fixture::next_number()));
    let path: &'static str = path.into_os_string().into_string().unwrap().leak();
    let mesh = MeshBuilder::new(workspace, family).authority(&[]).server_variable("CRL_PATH", path).start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut open = mesh.connect(mesh.app());
    ping(&mut open, b"before");
    let metric = |name: &str, labels: &[(&str, &str)]| mesh.server.proxy.metric(name, labels).unwrap();
    let refused = || metric("istio_crl_policy_rejections_total", &[("reporter", "destination")]);
    assert_eq!(refused(), 0.0);

    fs::write(path, revocation_list(mesh.control.as_ref().unwrap(), &serial(&mesh.client))).unwrap();
    assert!(is_closed(&mut open));
    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("error"), Some("connection closed: peer certificate revoked by CRL"));
    assert_eq!(metric("istio_tcp_connections_failed_total", &[("response_flags", "CERT_REVOKED")]), 1.0);
    assert_eq!(metric("mesh_revocation_revoked_certificates", &[]), 1.0);

    assert!(is_refused(mesh.client.host.connect(mesh.app())));
    let record = mesh.server.access(|record| record.message() == "connection failed");
    assert!(record.field("error").unwrap().contains("is revoked"), "{record:?}");
    assert!(refused() >= 2.0);
}

fn a_connection_ends_at_the_age_that_is_set(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).variable("MAX_CONNECTION_AGE", "1s").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut open = mesh.connect(mesh.app());
    ping(&mut open, b"before");
    assert!(is_closed(&mut open));
    // Whichever side is first; the other sees it go.
    let errors = [&mesh.client, &mesh.server].map(|node| {
        let record = node.access(|record| record.message() == "connection complete");
        record.field("error").unwrap_or_default().to_owned()
    });
    assert!(
        errors.iter().any(|error| error == "connection closed: as old as connections may be"),
        "{errors:?}"
    );
    ping(&mut mesh.connect(mesh.app()), b"another takes its place");
}

/// A list of the control's authority that names one certificate.
fn revocation_list(control: &Control, serial: &str) -> String {
    let read = |name: &str| fs::read_to_string(control.file("ca").join(name)).unwrap();
    let key = rcgen::KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca-cert.pem"), key).unwrap();
    let now = SystemTime::now();
    let params = rcgen::CertificateRevocationListParams {
        this_update: (now - Duration::from_secs(60)).into(),
        next_update: (now + Duration::from_secs(3600)).into(),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: decimal(serial).into(),
            revocation_time: now.into(),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer).unwrap().pem().unwrap()
}

/// The bytes of a decimal number, the highest first.
fn decimal(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for digit in text.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            let value = u32::from(*byte) * 10 + carry;
            (*byte, carry) = (value.to_be_bytes()[3], value >> 8);
        }
        if carry > 0 {
            bytes.insert(0, carry.to_be_bytes()[3]);
        }
    }
    bytes
}

/// Short connections, one after the other, each with a message and its echo.
struct Traffic {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Traffic {
    fn start(host: &Host, destination: SocketAddr) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopping, counting, host) = (Arc::clone(&stop), Arc::clone(&made), host.clone());
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let mut stream: TcpStream = host.connect(destination).expect("every connection is taken");
                ping(&mut stream, b"and served");
                counting.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { stop, made, thread }
    }

    /// How many there were; fails if one failed.
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().expect("no connection failed");
        self.made.load(Ordering::Relaxed)
    }
}

/// The serial number of the certificate that a proxy uses.
fn serial(node: &Node) -> String {
    certificates(node)["certChain"][0]["serialNumber"].as_str().unwrap_or_default().to_owned()
}

/// How many roots it knows.
fn roots(node: &Node) -> usize {
    let certificates = certificates(node);
    let roots = certificates["rootCerts"].as_array().into_iter().flatten();
    roots
        .map(|root| root["serialNumber"].as_str().unwrap_or_default().to_owned())
        .collect::<BTreeSet<_>>()
        .len()
}

fn certificates(node: &Node) -> serde_json::Value {
    let dump: serde_json::Value = serde_json::from_str(&node.proxy.config_dump().unwrap()).unwrap();
    dump["certificates"][0].clone()
}

fn new_root(organization: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Looks again until it is so.
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come");
        thread::park_timeout(Duration::from_millis(100));
    }
}
