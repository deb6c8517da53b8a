//! Authorization by what a connection proves and where it goes.

use std::net::SocketAddr;

use examples::lab::{AccessRecord, App, Behaviour, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_closed, is_refused, ping},
    runner::{Family, cases},
};

cases![
    a_policy_added_later_closes_an_open_connection,
    addresses_decide,
    namespaces_decide,
    plaintext_is_closed_without_a_byte_where_only_proved_peers_may,
    ports_decide,
    principals_decide,
    service_accounts_decide,
];

fn principals_decide(workspace: &Workspace, family: Family) {
    let clause = |account| format!("principals: [!Exact cluster.local/ns/default/sa/{account}]");
    decides(workspace, family, |_| clause("client"), |_| clause("somebody"));
}

fn namespaces_decide(workspace: &Workspace, family: Family) {
    let clause = |namespace| format!("namespaces: [!Prefix {namespace}]");
    decides(workspace, family, |_| clause("def"), |_| clause("other"));
}

fn service_accounts_decide(workspace: &Workspace, family: Family) {
    let clause = |account| format!("serviceAccounts: [{{namespace: default, serviceAccount: {account}}}]");
    decides(workspace, family, |_| clause("client"), |_| clause("somebody"));
}

fn addresses_decide(workspace: &Workspace, family: Family) {
    let [matching, other] = match family {
        Family::V4 => ["192.0.2.10/32", "192.0.2.128/25"],
        Family::V6 => ["2001:db8::/64", "2001:db8:0:1::/64"],
    };
    let clause = |network| format!("sourceIps: [\"{network}\"]");
    decides(workspace, family, |_| clause(matching), |_| clause(other));
}

fn ports_decide(workspace: &Workspace, family: Family) {
    let clause = |port| format!("destinationPorts: [{port}]");
    decides(workspace, family, clause, |port| clause(port + 100));
}

fn a_policy_added_later_closes_an_open_connection(workspace: &Workspace, family: Family) {
    let mut mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    mesh.add_policy(&policy("late", "Deny", &["destinationPorts: [8080]".to_owned()]));
    assert!(is_closed(&mut stream));
    let record = mesh.server.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("connection closed due to policy change"));
    assert!(is_refused(mesh.client.host.connect(mesh.app())));
}

/// routing#71: as Istio writes a PeerAuthentication in STRICT mode for its node proxies.
fn plaintext_is_closed_without_a_byte_where_only_proved_peers_may(workspace: &Workspace, family: Family) {
    let strict = policy("strict", "Deny", &["notPrincipals: [!Presence []]".to_owned()]);
    let mesh = MeshBuilder::new(workspace, family).policy(&strict).start();
    let app = mesh.serve(Behaviour::Echo);
    assert!(is_refused(mesh.outside.connect(mesh.app())));
    assert!(app.peers().is_empty());
    let record = mesh.server.access(|record| record.level() == "error");
    assert!(record.field("error").unwrap().contains("explicitly denied by: default/strict"), "{record:?}");
    ping(&mut mesh.connect(mesh.app()), b"proved");
}

/// Tries both actions, each with a match that fits the client's connection and with one that does not.
///
/// Each of the four has a port and a policy of its own; where an allow policy exists, the others need one too.
fn decides(
    workspace: &Workspace,
    family: Family,
    matching: impl Fn(u16) -> String,
    other: impl Fn(u16) -> String,
) {
    let [denied, not_denied, allowed, not_allowed] = [8081, 8082, 8083, 8084];
    let of_port =
        |name, action, port, clause| policy(name, action, &[format!("destinationPorts: [{port}]"), clause]);
    let mesh = MeshBuilder::new(workspace, family)
        .policy(&of_port("deny", "Deny", denied, matching(denied)))
        .policy(&of_port("deny-other", "Deny", not_denied, other(not_denied)))
        .policy(&of_port("allow", "Allow", allowed, matching(allowed)))
        .policy(&of_port("allow-other", "Allow", not_allowed, other(not_allowed)))
        .policy(&policy("allow-rest", "Allow", &[format!("destinationPorts: [{denied}, {not_denied}]")]))
        .start();
    for port in [not_denied, allowed] {
        let _app = App::start(&mesh.server.host, port, Behaviour::Echo).unwrap();
        ping(&mut mesh.connect((mesh.app().ip(), port).into()), b"allowed");
    }
    for (port, reason) in [
        (denied, "explicitly denied by: default/deny"),
        (not_allowed, "allow policies exist, but none allowed"),
    ] {
        let app = App::start(&mesh.server.host, port, Behaviour::Echo).unwrap();
        let destination = SocketAddr::new(mesh.app().ip(), port);
        assert!(is_refused(mesh.client.host.connect(destination)), "port {port} let the connection through");
        assert!(app.peers().is_empty());
        let hbone = destination.to_string();
        let about = |record: &AccessRecord| record.field("dst.hbone_addr") == Some(&hbone);
        let error = mesh.server.access(about).field("error").unwrap().to_owned();
        assert!(
            error.starts_with(&format!("connection closed due to policy rejection: {reason}")),
            "{error}"
        );
        assert_eq!(mesh.client.access(about).field("error"), Some("http status: 401 Unauthorized"));
    }
}

/// A policy with one rule, which matches where every clause does.
fn policy(name: &str, action: &str, clauses: &[String]) -> String {
    let clauses: String = clauses.iter().map(|clause| format!("  - - {clause}\n")).collect();
    format!(
        "name: {name}\nnamespace: default\nscope: Namespace\naction: {action}\ndryRun: false\nrules:\n-\n{clauses}"
    )
}
