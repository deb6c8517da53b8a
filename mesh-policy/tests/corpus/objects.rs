//! What holds for every text of objects, also for the fuzz target.

use mesh_policy::{
    Level, Semantics,
    crd::{NodePolicies, NodeSettings, read},
    lint::{Surroundings, lint},
    object::{Action, PolicyObjects},
    waypoint::{Mesh, RequestPolicySet, StreamPolicySet},
};

pub(crate) fn check(text: &str) {
    let reading = read(text);
    for finding in reading.findings() {
        assert!(finding.level >= Level::Refused, "{finding}");
        assert!(!finding.to_string().contains('\n') || text.contains('\n'), "{finding}");
    }
    let strict = reading.clone().into_objects(Semantics::Strict);
    let istio = reading.clone().into_objects(Semantics::Istio);
    if let Ok(strict) = &strict {
        assert_eq!(istio.as_ref(), Ok(strict), "what strict semantics take, Istio's read alike");
        let repaired = reading.clone().fail_closed(Semantics::Strict);
        assert_eq!(repaired.as_ref(), Ok(strict), "what is not broken stays");
    }
    if let Ok(closed) = reading.fail_closed(Semantics::Strict) {
        // Nothing is wider than it was: an ALLOW stays as it is or matches nothing.
        for policy in closed.authorization.iter().filter(|policy| policy.action == Action::Allow) {
            assert!(policy.rules.is_empty() || policy.refusals().is_empty(), "{policy:?}");
        }
    }
    if let Ok(objects) = &istio {
        use_all(objects);
    }
}

fn use_all(objects: &PolicyObjects) {
    for semantics in [Semantics::Istio, Semantics::Strict] {
        let surroundings = Surroundings { semantics, ..Surroundings::new(Mesh::new("example.org")) };
        for finding in lint(objects, &surroundings) {
            assert!(finding.level < Level::Unreadable, "{finding}");
        }
        let settings = NodeSettings { semantics, dry_run: true, ..NodeSettings::default() };
        let Ok(node) = NodePolicies::new(objects, settings) else { continue };
        assert!(node.policies().len() <= objects.authorization.len() + objects.peer.len() + 1);
        let listed = node.listed_by("shop", &[("app".to_owned(), "cart".to_owned())].into());
        assert!(listed.len() <= objects.authorization.len() + 1);
    }
    let mesh = || Mesh::new("example.org");
    // Istio's reading takes everything.
    RequestPolicySet::istio(mesh()).replaced(&objects.authorization).expect("requests");
    StreamPolicySet::istio(mesh()).replaced(&objects.authorization).expect("streams");
    let mut closed = RequestPolicySet::strict(mesh());
    for policy in &objects.authorization {
        closed.insert_closed(policy);
    }
}
