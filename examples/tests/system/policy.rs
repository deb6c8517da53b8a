//! Authorization by what a connection proves and where it goes.

use examples::lab::{Behaviour, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_closed, ping},
    runner::{Family, cases},
};

cases![
    a_policy_added_later_closes_an_open_connection,
    addresses_decide,
    namespaces_decide,
    ports_decide,
    principals_decide,
    service_accounts_decide,
];

fn principals_decide(workspace: &Workspace, family: Family) {
    let matching = "principals: [!Exact cluster.local/ns/default/sa/client]";
    let other = "principals: [!Exact cluster.local/ns/default/sa/somebody]";
    decides(workspace, family, matching, other);
}

fn namespaces_decide(workspace: &Workspace, family: Family) {
    decides(workspace, family, "namespaces: [!Exact default]", "namespaces: [!Prefix other]");
}

fn service_accounts_decide(workspace: &Workspace, family: Family) {
    let matching = "serviceAccounts: [{namespace: default, serviceAccount: client}]";
    let other = "serviceAccounts: [{namespace: default, serviceAccount: somebody}]";
    decides(workspace, family, matching, other);
}

fn addresses_decide(workspace: &Workspace, family: Family) {
    let [matching, other] = match family {
        Family::V4 => ["192.0.2.10/32", "192.0.2.128/25"],
        Family::V6 => ["2001:db8::/64", "2001:db8:0:1::/64"],
    };
    decides(workspace, family, &format!("sourceIps: [\"{matching}\"]"), &format!("sourceIps: [\"{other}\"]"));
}

fn ports_decide(workspace: &Workspace, family: Family) {
    decides(workspace, family, "destinationPorts: [8080]", "destinationPorts: [8081]");
}

fn a_policy_added_later_closes_an_open_connection(workspace: &Workspace, family: Family) {
    let mut mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    mesh.add_policy(&policy("late", "Deny", "destinationPorts: [8080]"));
    assert!(is_closed(&mut stream));
    let record = mesh.server.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("connection closed due to policy change"));
    assert!(is_closed(&mut mesh.connect(mesh.app())));
}

/// Tries both actions, each with a match that fits the client's connection and with one that does not.
fn decides(workspace: &Workspace, family: Family, matching: &str, other: &str) {
    expect(workspace, family, "Deny", matching, Some("explicitly denied by: default/test"));
    expect(workspace, family, "Deny", other, None);
    expect(workspace, family, "Allow", matching, None);
    expect(workspace, family, "Allow", other, Some("allow policies exist, but none allowed"));
}

fn expect(workspace: &Workspace, family: Family, action: &str, clause: &str, denial: Option<&str>) {
    let mesh = MeshBuilder::new(workspace, family).policy(&policy("test", action, clause)).start();
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    let Some(reason) = denial else {
        ping(&mut stream, b"allowed");
        return;
    };
    assert!(is_closed(&mut stream), "{action} with {clause} let the connection through");
    assert!(app.peers().is_empty());
    let record = mesh.server.access(|record| record.level() == "error");
    let error = record.field("error").unwrap();
    assert!(error.starts_with(&format!("connection closed due to policy rejection: {reason}")), "{error}");
    let record = mesh.client.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("http status: 401 Unauthorized"));
}

fn policy(name: &str, action: &str, clause: &str) -> String {
    format!(
        "name: {name}\nnamespace: default\nscope: Namespace\naction: {action}\ndryRun: false\nrules:\n- - - {clause}\n"
    )
}
