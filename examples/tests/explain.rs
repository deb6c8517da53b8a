//! The `explain` binary, as a pipeline uses it.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A folder that goes when this does.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("explain-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        fs::write(path.join("mesh.yaml"), text).expect("a file");
        Self(path)
    }

    fn add(self, file: &str, text: &str) -> Self {
        fs::write(self.0.join(file), text).expect("a file");
        self
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        outcome(&self.output(arguments))
    }

    fn output(&self, arguments: &[&str]) -> Output {
        command().arg("-f").arg(&self.0).args(arguments).output().expect("it runs")
    }

    /// The file's path, as answers call it.
    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_explain"))
}

fn outcome(output: &Output) -> (i32, String) {
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The answers to some lines.
fn batch(lines: &[&str]) -> (i32, Vec<Value>) {
    let mut child =
        command().arg("--batch").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let text = lines.join("\n");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let (code, text) = outcome(&child.wait_with_output().expect("it ends"));
    (code, text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
}

const MESH: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: cart-0, labels: {app: cart}}
spec: {serviceAccountName: cart, containers: [{name: app, ports: [{name: web, containerPort: 9090}]}]}
status: {podIP: 192.0.2.2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {namespace: shop, name: web}
spec: {template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web}}}
---
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: cart, labels: {istio.io/use-waypoint: waypoint}}
spec: {selector: {app: cart}, ports: [{name: http, port: 8080, targetPort: web}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: shop, name: waypoint}
spec: {gatewayClassName: istio-waypoint}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: reading}
spec:
  targetRefs: [{kind: Service, group: "", name: cart}]
  rules:
  - from: [{source: {serviceAccounts: [web]}}]
    to: [{operation: {methods: [GET]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: from-waypoint}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}], to: [{operation: {ports: ["9090"]}}]}]
"#;

#[test]
fn a_question_follows_the_way_through_the_waypoint() {
    let folder = Folder::new("question", MESH);
    let web = "spiffe://cluster.local/ns/shop/sa/web";
    let ask = |from: &str, method: &str| {
        folder.run(&["--from", from, "--to", "shop/cart:8080", "--method", method])
    };
    let (code, text) = ask(web, "GET");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("waypoint shop/waypoint") && text.contains("node of shop/cart-0"), "{text}");
    assert_eq!(ask(web, "POST").0, 1);
    assert_eq!(ask("spiffe://cluster.local/ns/bank/sa/web", "GET").0, 1);
    // Past the waypoint, the node proxy wants the waypoint's identity.
    assert_eq!(folder.run(&["--from", web, "--to", "shop/cart-0:9090"]).0, 1);
    assert_eq!(folder.run(&["--to", "shop/nobody"]).0, 2);
    let (_, json) = folder.run(&["--from", web, "--to", "shop/cart", "--method", "GET", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["hops"][0]["policy"], "shop/reading");
    assert_eq!(json["hops"][1]["policy"], "shop/from-waypoint");
}

#[test]
fn the_matrix_has_a_row_for_each_identity_and_for_plaintext() {
    let (code, text) = Folder::new("matrix", MESH).run(&["--matrix"]);
    assert_eq!(code, 0, "{text}");
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("spiffe://cluster.local/ns/shop/sa/web").contains("allow"));
    assert!(row("spiffe://cluster.local/ns/shop/sa/cart").trim_end().ends_with("deny"));
    assert!(row("plaintext").contains("deny"));
}

#[test]
fn a_broken_document_hides_nothing_else() {
    let seen = |folder: &Folder| {
        let (code, lint) = folder.run(&["--lint"]);
        assert_eq!(code, 1, "{lint}");
        (lint.contains("[syntax]"), lint.contains("[target-missing]"))
    };
    let rule = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: get}
spec:
  targetRefs: [{group: "", kind: Service, name: cart}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
"#;
    let service = r#"
apiVersion: v1
kind: Service
metadata: {namespace: shop, name: cart, labels: {istio.io/use-waypoint: waypoint}}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {namespace: shop, name: waypoint}
spec: {gatewayClassName: istio-waypoint}
"#;
    let broken = "\na: [\n";
    let other = service.replace("name: cart", "name: web");
    // The second time the service stands behind what is broken.
    assert_eq!(seen(&Folder::new("hidden-not", &[&other, rule, broken].join("---"))), (true, true));
    assert_eq!(seen(&Folder::new("hidden", &[&other, rule, broken, service].join("---"))), (true, false));
}

#[test]
fn lint_tells_by_its_exit_code() {
    let folder = Folder::new("lint", MESH);
    let (code, text) = folder.run(&["--lint"]);
    assert_eq!(code, 0, "{text}");
    let broken = MESH.replace("methods: [GET]", "methods: [get]").replace("name: cart}]", "name: card}]");
    let (code, text) = Folder::new("lint-broken", &broken).run(&["--lint", "--json"]);
    assert_eq!(code, 1);
    let codes: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["code"].clone()).collect();
    assert!(codes.contains(&"method-case".into()) && codes.contains(&"target-missing".into()), "{text}");
}

#[test]
fn broken_policies_stop_a_question_unless_they_fail_closed() {
    let broken = MESH.replace("methods: [GET]", "methods: [GET], ports: [http]");
    let folder = Folder::new("broken", &broken);
    let question =
        ["--from", "spiffe://cluster.local/ns/shop/sa/web", "--to", "shop/cart", "--method", "GET"];
    assert_eq!(folder.run(&question).0, 2);
    let (code, text) = folder.run(&[&question[..], &["--fail-closed"]].concat());
    assert_eq!(code, 1, "{text}");
    // It says what stands for what, and why.
    let stands = "AuthorizationPolicy shop/reading is refused, and what stands for it allows nothing";
    assert!(text.contains(stands) && text.contains("ports[0] \"http\""), "{text}");
    let (_, json) = folder.run(&[&question[..], &["--fail-closed", "--json"]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["standIns"][0]["object"]["name"], "reading");
    assert_eq!(json["standIns"][0]["because"][0]["code"], "bad-port");
    let table = folder.output(&["--matrix", "--fail-closed"]);
    assert!(String::from_utf8_lossy(&table.stderr).contains(stands));
    assert!(!String::from_utf8_lossy(&table.stdout).contains(stands));
}

// What only the mesh makes wrong: a provider that is missing, a selector in the root namespace.
#[test]
fn what_a_mesh_refuses_fails_closed_too() {
    let custom = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: asks}\n\
                  spec: {action: CUSTOM, provider: {name: gone}, targetRefs: [{kind: Service, group: '', name: cart}], rules: [{}]}\n";
    let root = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: istio-system, name: some}\n\
                spec: {selector: {matchLabels: {app: cart}}, mtls: {mode: PERMISSIVE}}\n";
    let folder = Folder::new("mesh-refuses", MESH).add("more.yaml", &format!("{custom}{root}"));
    let question =
        ["--from", "spiffe://cluster.local/ns/shop/sa/web", "--to", "shop/cart", "--method", "GET"];
    let output = folder.output(&question);
    let (code, _) = outcome(&output);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code, 2, "{errors}");
    assert!(errors.contains(&format!("{}:6: PeerAuthentication", folder.file("more.yaml"))), "{errors}");
    let (code, text) = folder.run(&[&question[..], &["--fail-closed"]].concat());
    assert_eq!(code, 1, "{text}");
    for stands in [
        "AuthorizationPolicy shop/asks is refused, and what stands for it denies everything in its scope",
        "PeerAuthentication istio-system/some is refused, and what stands for it asks for mutual TLS",
    ] {
        assert!(text.contains(stands), "{text}");
    }
}

#[test]
fn everything_said_about_an_object_names_its_file_and_line() {
    let bad = "# a comment\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: bad}\n\
               spec: {rules: [{to: [{operation: {ports: [http], methods: [get]}}]}]}\n";
    let good = bad.replace("[http]", "['80']").replace("name: bad", "name: good");
    let folder =
        Folder::new("places", MESH).add("a.yaml", &format!("{good}---\n{bad}")).add("b.yaml", "a: [");
    let errors = |arguments: &[&str]| String::from_utf8_lossy(&folder.output(arguments).stderr).into_owned();
    let text = errors(&["--to", "shop/cart"]);
    assert!(text.contains(&format!("{}:6: AuthorizationPolicy shop/bad", folder.file("a.yaml"))), "{text}");
    assert!(text.contains(&format!("{}:2: object", folder.file("b.yaml"))), "{text}");
    // What is only linted, too, and for machines.
    let (_, lint) = folder.run(&["--lint"]);
    let lines = lint.lines().filter(|line| line.contains("[method-case]"));
    let at = |line: usize| format!("{}:{line}: AuthorizationPolicy", folder.file("a.yaml"));
    assert!(lines.clone().count() == 2, "{lint}");
    assert!(lines.clone().any(|line| line.contains(&at(2))), "{lint}");
    assert!(lines.clone().any(|line| line.contains(&at(6))), "{lint}");
    assert!(lint.lines().all(|line| line.contains(".yaml:")), "{lint}");
    let (_, lint) = folder.run(&["--lint", "--json"]);
    let first: Value = serde_json::from_str(lint.lines().next().unwrap()).unwrap();
    assert!(first["place"]["file"].as_str().is_some_and(|file| file.ends_with(".yaml")), "{first}");
}

#[test]
fn duplicates_name_both_of_their_files() {
    let policy = "\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: twice}\nspec: {rules: [{}]}\n";
    let folder = Folder::new("twice", MESH).add("one.yaml", policy).add("two.yaml", policy);
    let output = folder.output(&["--to", "shop/cart"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let [one, two] = ["one.yaml", "two.yaml"].map(|name| format!("{}:2", folder.file(name)));
    assert!(
        text.contains(&format!("{two}: AuthorizationPolicy shop/twice")) && text.contains(&one),
        "{text}"
    );
    // One of a folder, and one that came in the form of the wire.
    let wire = "policies:\n- {name: twice, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: []}\n";
    let folder = Folder::new("twice-wire", MESH).add("one.yaml", policy).add("wire.yaml", wire);
    let output = folder.output(&["--to", "shop/cart"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let files = ["one.yaml", "wire.yaml"].map(|name| folder.file(name));
    assert!(files.iter().all(|file| text.contains(file)), "{text}");
}

#[test]
fn a_denial_of_plaintext_names_the_peer_authentication() {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {namespace: shop, name: mutual}\n\
                  spec: {mtls: {mode: STRICT}}\n";
    let folder = Folder::new("strict", MESH).add("strict.yaml", strict);
    let (code, text) = folder.run(&["--to", "shop/web:80"]);
    assert_eq!(code, 1);
    assert!(text.contains("denied: explicitly denied by: PeerAuthentication shop/mutual\n"), "{text}");
    let (_, json) = folder.run(&["--to", "shop/web:80", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let hop = &json["hops"][0];
    assert_eq!((&hop["kind"], &hop["policy"]), (&"PeerAuthentication".into(), &"shop/mutual".into()));
    assert_eq!(hop["sentAs"], "istio-system/istio_converted_static_strict");
    assert_eq!(hop["proof"]["policies"][0]["object"]["name"], "mutual");
    // In a batch as well, also where nothing is said to be reached.
    let peer = r#"{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"namespace":"foo","name":"p"},"spec":{"selector":{"matchLabels":{"a":"b"}},"mtls":{"mode":"PERMISSIVE"},"portLevelMtls":{"80":{"mode":"STRICT"}}}}"#;
    let lines = [
        format!(r#"{{"policies":{peer},"point":"node","port":80,"explain":true}}"#),
        format!(
            r#"{{"policies":{peer},"point":"node","port":80,"workload":{{"namespace":"foo","labels":{{"a":"b"}}}}}}"#
        ),
        format!(r#"{{"policies":{peer},"point":"node","port":81}}"#),
    ];
    let (code, answers) = batch(&lines.each_ref().map(String::as_str));
    assert_eq!(code, 0, "{answers:?}");
    for answer in &answers[..2] {
        assert_eq!(answer["reason"], "explicitly denied by: PeerAuthentication foo/p", "{answer}");
        assert_eq!(answer["sentAs"], "foo/converted_peer_authentication_p");
    }
    assert_eq!(answers[0]["proof"]["policies"][0]["object"]["kind"], "PeerAuthentication");
    assert_eq!(answers[2]["verdict"], "allow");
}

// Nobody serves it in the files, and whoever does has the labels that it selects.
#[test]
fn a_service_without_workloads_is_asked_about_by_what_it_selects() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: cart}\nspec: {selector: {app: cart}, ports: [{port: 80}]}\n---\n\
                apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: own}\n\
                spec: {action: DENY, selector: {matchLabels: {app: APP}}, rules: [{from: [{source: {namespaces: [bank]}}]}]}\n";
    let bank = ["--from", "spiffe://cluster.local/ns/bank/sa/till", "--to", "shop/cart:80"];
    for (app, code) in [("cart", 1), ("web", 0)] {
        for semantics in ["strict", "istio"] {
            let folder = Folder::new("selects", &text.replace("APP", app));
            let arguments = [&bank[..], &["--semantics", semantics]].concat();
            assert_eq!(folder.run(&arguments).0, code, "{app} {semantics}");
        }
    }
}

#[test]
fn one_bad_line_does_not_stop_the_others() {
    let policy = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"foo","name":"p"},"spec":{"action":"DENY","rules":[{"to":[{"operation":{"ports":["65616"]}}]}]}}"#;
    let lines = [
        format!(r#"{{"id":"a","semantics":"istio","point":"tcp","policies":[{policy}],"port":80}}"#),
        "nonsense".to_owned(),
        format!(r#"{{"id":"b","semantics":"strict","point":"tcp","policies":{policy},"port":80}}"#),
        r#"{"id":"c","pont":"node"}"#.to_owned(),
        format!(
            r#"{{"id":"d","semantics":"strict","failClosed":true,"point":"tcp","policies":{policy},"port":80}}"#
        ),
        r#"{"id":"e","point":"node","port":80}"#.to_owned(),
        "[]".to_owned(),
    ];
    let (code, answers) = batch(&lines.each_ref().map(String::as_str));
    assert_eq!(code, 2);
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["verdict"].as_str().unwrap()).collect();
    // Part D, 2: in Istio's reading the port vanishes and everything is denied.
    assert_eq!(verdicts, ["deny", "error", "error", "error", "deny", "allow", "error"]);
    assert_eq!(answers[0]["problems"][0]["code"], "bad-port");
    assert_eq!(answers[2]["problems"][0]["path"], "spec.rules[0].to[0].operation.ports[0]");
    assert_eq!((&answers[3]["id"], &answers[3]["line"]), (&"c".into(), &4.into()));
}

#[test]
fn facts_come_in_many_forms() {
    let yaml = "apiVersion: security.istio.io/v1\\nkind: AuthorizationPolicy\\nmetadata: {namespace: foo, name: p}\\nspec:\\n  \
                rules:\\n  - from: [{source: {serviceAccounts: [a], ipBlocks: [10.0.0.1]}}]\\n    \
                to: [{operation: {hosts: [h], paths: ['/a*']}}]\\n    when: [{key: 'request.headers[x-a]', values: ['2']}, {key: 'request.auth.claims[g]', values: [dev]}]\\n";
    let rest = r#""claims":{"g":["dev"]}"#;
    let id = "spiffe://cluster.local/ns/foo/sa/a";
    let lines = [
        format!(
            r#"{{"policies":"{yaml}","source":{{"principal":"{id}","ip":"10.0.0.1"}},"host":"h","path":"/ab?q","headers":[["x-a","1"],["X-A","2"]],{rest}}}"#
        ),
        format!(
            r#"{{"policies":["{yaml}"],"principal":"cluster.local/ns/foo/sa/a","sourceIp":"10.0.0.1:99","headers":{{":authority":"h",":path":"/a","x-a":["1","2"]}},{rest}}}"#
        ),
        format!(
            r#"{{"policies":["{yaml}"],"namespace":"foo","source":{{"principal":"{id}","ip":"10.0.0.1"}},"request":{{"host":"h","path":"/a","headers":["x-a: 2"],{rest}}}}}"#
        ),
        format!(
            r#"{{"policies":["{yaml}"],"workload":{{"namespace":"foo","labels":{{}}}},"source":"{id}","source_ip":"10.0.0.1","authority":"h","path":"/a","headers":[{{"name":"x-a","value":"2"}}],{rest}}}"#
        ),
        // In another namespace it does not apply; with another target it does, since nothing is said to be reached.
        format!(r#"{{"policies":["{yaml}"],"namespace":"bar","method":"GET"}}"#),
        format!(r#"{{"policies":["{yaml}"],"method":"GET"}}"#),
    ];
    let (code, answers) = batch(&lines.each_ref().map(String::as_str));
    assert_eq!(code, 0, "{answers:?}");
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "allow", "allow", "allow", "allow", "deny"], "{answers:?}");
    assert_eq!(answers[0]["policy"], "foo/p");
    assert_eq!(answers[4]["reason"], "no allow policies apply");
}

#[test]
fn providers_answer_and_node_proxies_list() {
    let custom = r#"[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"foo","name":"c"},"spec":{"action":"CUSTOM","provider":{"name":"asks"},"rules":[{}]}}]"#;
    let wire = r#"[{"name":"x","namespace":"foo","scope":"WorkloadSelector","action":"Deny","dryRun":false,"rules":[[[{"destinationPorts":[80]}]]]}]"#;
    let lines = [
        format!(r#"{{"policies":{custom},"answers":{{"asks":"allow"}},"path":"/"}}"#),
        format!(r#"{{"policies":{custom},"answers":{{"asks":"deny"}},"path":"/"}}"#),
        format!(r#"{{"policies":{custom},"mesh":{{"providers":{{"asks":{{"protocol":"http","failOpen":true}}}}}},"path":"/"}}"#),
        format!(r#"{{"policies":{wire},"point":"node","workload":{{"namespace":"foo","policies":["foo/x"]}},"port":80}}"#),
        format!(r#"{{"policies":{wire},"point":"node","workload":{{"namespace":"foo"}},"port":80}}"#),
        r#"{"policies":[],"point":"node","workload":{"namespace":"foo","policies":["foo/gone"]}}"#.to_owned(),
        r#"{"policies":[],"mesh":{"missingPolicy":"skip"},"point":"node","workload":{"namespace":"foo","policies":["foo/gone"]}}"#.to_owned(),
    ];
    let (code, answers) = batch(&lines.each_ref().map(String::as_str));
    assert_eq!(code, 0, "{answers:?}");
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["allow", "deny", "allow", "deny", "allow", "deny", "allow"], "{answers:?}");
}

#[test]
fn policies_apply_to_all_where_nothing_is_said_to_be_reached() {
    let strict = |selector: &str| {
        format!(
            r#"{{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{{"namespace":"foo","name":"p"}},"spec":{{{selector}"mtls":{{"mode":"STRICT"}}}}}}"#
        )
    };
    let selects = strict(r#""selector":{"matchLabels":{"app":"a"}},"#);
    let everybody = strict("");
    let targets = r#"{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"foo","name":"t"},"spec":{"action":"DENY","targetRefs":[{"kind":"Service","name":"cart"}],"rules":[{}]}}"#;
    let lines = [
        format!(r#"{{"policies":[{everybody}],"point":"node","port":80}}"#),
        format!(r#"{{"policies":[{selects}],"point":"node","port":80}}"#),
        format!(
            r#"{{"policies":[{selects}],"point":"node","port":80,"principal":"spiffe://cluster.local/ns/a/sa/b"}}"#
        ),
        format!(r#"{{"policies":[{selects}],"point":"node","port":80,"namespace":"foo"}}"#),
        format!(r#"{{"policies":[{targets}],"point":"node"}}"#),
        format!(r#"{{"policies":[{targets}],"point":"tcp"}}"#),
        format!(
            r#"{{"policies":[{selects}],"point":"node","port":80,"namespace":"foo","labels":{{"app":"a"}}}}"#
        ),
    ];
    let (code, answers) = batch(&lines.each_ref().map(String::as_str));
    assert_eq!(code, 0, "{answers:?}");
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["deny", "deny", "allow", "allow", "allow", "deny", "deny"], "{answers:?}");
}

#[test]
fn a_line_gets_its_proof_only_if_it_asks() {
    let policies = r#"[{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"shop","name":"p"},"spec":{"rules":[{"from":[{"source":{"namespaces":["bank"]}}]}]}}]"#;
    let line = |point: &str, rest: &str| {
        format!(
            r#"{{"policies":{policies},"namespace":"shop","labels":{{}},"principal":"spiffe://cluster.local/ns/shop/sa/web","point":"{point}"{rest}}}"#
        )
    };
    for point in ["node", "tcp", "http"] {
        let lines = [line(point, r#","explain":true"#), line(point, "")];
        let (code, answers) = batch(&lines.each_ref().map(String::as_str));
        assert_eq!(code, 0, "{answers:?}");
        let proof = &answers[0]["proof"];
        assert_eq!(proof["verdict"], answers[0]["verdict"], "{point}");
        assert_eq!(proof["reason"]["kind"], "noneAllowed", "{point}");
        assert_eq!(proof["policies"][0]["policy"], "shop/p", "{point}");
        let miss = &proof["policies"][0]["rules"][0]["miss"];
        let (actual, expected) = match point {
            "node" => (&miss["matches"][0]["actual"], &miss["matches"][0]["expected"][0]),
            _ => (&miss["part"]["conditions"][0]["actual"][0], &miss["part"]["conditions"][0]["expected"]),
        };
        assert_eq!(expected, "bank", "{point}");
        // The same kind of thing.
        assert_eq!(actual, "shop", "{point}");
        assert!(answers[1].get("proof").is_none(), "{point}");
        // Where nothing is said to be reached, policies apply to everything under their own names.
        let anywhere = lines[0].replace(r#""namespace":"shop","labels":{},"#, "");
        let (code, answers) = batch(&[&anywhere]);
        assert_eq!(code, 0, "{answers:?}");
        assert_eq!(answers[0]["proof"]["policies"][0]["policy"], "shop/p", "{point}");
    }
}

#[test]
fn a_path_that_the_next_hop_would_read_otherwise_is_refused_strictly() {
    let line = |semantics: &str| {
        format!(
            r#"{{"point":"http","path":"/items/%2e%2e;/admin","semantics":"{semantics}","policies":[{{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{{"namespace":"shop","name":"items"}},"spec":{{"rules":[{{"to":[{{"operation":{{"paths":["/items/*"]}}}}]}}]}}}}]}}"#
        )
    };
    let (code, answers) = batch(&[&line("strict"), &line("istio")]);
    assert_eq!(code, 0, "{answers:?}");
    let found =
        |answer: &Value| (answer["verdict"].clone(), answer["status"].clone(), answer["semantics"].clone());
    assert_eq!(found(&answers[0]), ("deny".into(), 400.into(), "strict".into()));
    assert_eq!(found(&answers[1]), ("allow".into(), Value::Null, "istio".into()));
}

#[test]
fn an_access_log_tells_what_other_policies_would_change() {
    let folder = Folder::new("simulate", MESH);
    let other = Folder::new("simulate-other", &MESH.replace("ports: [\"9090\"]", "ports: [\"9091\"]"));
    let line = |port: u16| {
        format!(
            "info\taccess\tconnection complete\tsrc.addr=192.0.2.9:4711 src.identity=\"spiffe://cluster.local/ns/shop/sa/waypoint\" \
             dst.addr=192.0.2.2:15008 dst.hbone_addr=192.0.2.2:{port} dst.workload=\"cart-0\" dst.namespace=\"shop\" direction=\"inbound\"\n"
        )
    };
    let run = |log: &str| {
        let mut child = command();
        child
            .arg("-f")
            .arg(&folder.0)
            .arg("--simulate")
            .arg(&other.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = child.spawn().expect("it starts");
        child.stdin.take().expect("a pipe").write_all(log.as_bytes()).expect("it reads");
        outcome(&child.wait_with_output().expect("it ends"))
    };
    let (code, text) = run(&(line(9090) + &line(9091) + &line(80) + "something else\n"));
    assert_eq!(code, 1);
    assert!(
        text.contains("line 1: spiffe://cluster.local/ns/shop/sa/waypoint") && text.contains("allowed"),
        "{text}"
    );
    assert!(text.ends_with("2 of 3 inbound connections would be decided otherwise\n"), "{text}");
    assert_eq!(run(&line(80)).0, 0);
    assert_eq!(run(&line(80).replace("192.0.2.9:4711", "nowhere")).0, 2);
}
