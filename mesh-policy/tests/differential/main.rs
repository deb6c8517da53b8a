//! The compiled policies of waypoints and node proxies against a naive reading of the same objects.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "../support/call.rs"]
mod call;
mod generate;
mod naive;
#[cfg(feature = "crd")]
mod node;

use std::collections::BTreeSet;

use call::Call;
#[cfg(feature = "crd")]
use call::Place;
use generate::{answer, resolve};
#[cfg(feature = "crd")]
use mesh_policy::{
    ConnectionFacts, PolicySet,
    crd::{NodePolicies, NodeSettings},
    object::PolicyObjects,
};
use mesh_policy::{
    PolicyName, Semantics,
    object::AuthorizationPolicy,
    waypoint::{EnforcementPoint, Mesh, RequestPolicySet, Step, WaypointPolicySet},
};
use naive::{Outcome, Point};
use proptest::{collection::vec, prelude::*};

/// Sets of policies; each decides about so many calls, at each point and by two readings: 156,000 decisions.
const SETS: u32 = 2600;
const CALLS: usize = 10;

proptest! {
    #![proptest_config(ProptestConfig { cases: SETS, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_agree_with_the_naive_reading(
        mesh in generate::mesh(),
        objects in generate::objects(),
        calls in vec(generate::call(), CALLS),
    ) {
        for semantics in [Semantics::Istio, Semantics::Strict] {
            let (requests, accepted) = build::<mesh_policy::waypoint::Requests>(&objects, &mesh, semantics);
            let point = Point { semantics, is_stream: false, mesh: &mesh };
            for call in &calls {
                call.with_facts(|facts| check(requests.evaluate_request(facts), &accepted, call, point))?;
                call.with_facts(|facts| {
                    let explanation = requests.explain(facts, |question| answer(question.provider()));
                    prop_assert_eq!(Outcome::of(explanation.decision().reason()), point.decide(&accepted, call, answer));
                    for trace in explanation.policies() {
                        let object = accepted.iter().find(|object| object.metadata.policy_name() == *trace.policy()).unwrap();
                        prop_assert_eq!(trace.rules().len(), object.rules.len());
                    }
                    let considered: BTreeSet<_> = explanation.policies().iter().map(|trace| trace.policy().clone()).collect();
                    let applying: BTreeSet<_> = accepted.iter().filter(|object| point.applies(object, call))
                        .map(|object| object.metadata.policy_name()).collect();
                    prop_assert_eq!(considered, applying);
                    prop_assert!(!explanation.to_string().is_empty());
                    Ok(())
                })?;
            }
            let (streams, accepted) = build::<mesh_policy::waypoint::Streams>(&objects, &mesh, semantics);
            let point = Point { semantics, is_stream: true, mesh: &mesh };
            for call in &calls {
                call.with_facts(|facts| check(streams.evaluate_stream(&facts.stream), &accepted, call, point))?;
            }
        }
    }

    // The third point: objects as node proxies receive them.
    #[cfg(feature = "crd")]
    #[test]
    fn node_proxies_agree_with_the_naive_reading(
        objects in generate::objects(),
        calls in vec((generate::call(), generate::workload()), CALLS),
    ) {
        for semantics in [Semantics::Istio, Semantics::Strict] {
            let settings = || NodeSettings { semantics, dry_run: true, ..NodeSettings::default() };
            let accepts = |object: &&AuthorizationPolicy| {
                let one = PolicyObjects { authorization: vec![(*object).clone()], ..PolicyObjects::default() };
                NodePolicies::new(&one, settings()).is_ok()
            };
            let authorization: Vec<_> = objects.iter().filter(accepts).cloned().collect();
            let accepted = PolicyObjects { authorization, ..PolicyObjects::default() };
            let converted = NodePolicies::new(&accepted, settings()).unwrap();
            let set = PolicySet::builder().policies(converted.policies().to_vec()).build().unwrap();
            let node = node::Node { semantics, root_namespace: "istio-system" };
            for (call, place) in &calls {
                let call = Call { place: place.clone(), ..call.clone() };
                let Place::Workload { namespace, labels } = &call.place else { unreachable!("a workload") };
                let listed = converted.listed_by(namespace, &labels.iter().cloned().collect());
                let peer = call.peer.as_deref().and_then(|peer| peer.parse().ok());
                let facts = ConnectionFacts {
                    source: call.source,
                    peer: peer.as_ref(),
                    destination: call.destination,
                    namespace,
                    policies: &listed,
                };
                let reason = set.evaluate_connection(&facts).reason();
                let expected = node.decide(&accepted.authorization, &call);
                prop_assert_eq!(Outcome::of(reason), expected, "{:?} {:#?} {:#?}", node, accepted.authorization, call);
                prop_assert_eq!(set.explain(&facts).decision().reason(), reason);
            }
        }
    }

    // Changes one by one, and all at once, find what a fresh set finds.
    #[test]
    fn changing_a_set_equals_building_it(
        mesh in generate::mesh(),
        objects in generate::objects(),
        replaced in generate::objects(),
        calls in vec(generate::call(), 2),
    ) {
        let mut changed = RequestPolicySet::istio(mesh.clone());
        for object in objects.iter().chain(&replaced) {
            changed.insert(object).unwrap();
        }
        let names: BTreeSet<_> = replaced.iter().map(|object| object.metadata.policy_name()).collect();
        for object in &objects {
            let name = object.metadata.policy_name();
            if !names.contains(&name) {
                changed.remove(&name);
            }
        }
        let built = RequestPolicySet::istio(mesh).replaced(&replaced).unwrap();
        prop_assert!(changed.names().eq(built.names()));
        for call in &calls {
            call.with_facts(|facts| {
                let reason = |set: &RequestPolicySet| Outcome::of(resolve(set.evaluate_request(facts)).reason());
                prop_assert_eq!(reason(&changed), reason(&built));
                Ok(())
            })?;
        }
    }
}

/// What a set accepts, and the set of it.
fn build<P: EnforcementPoint>(
    objects: &[AuthorizationPolicy],
    mesh: &Mesh,
    semantics: Semantics,
) -> (WaypointPolicySet<P>, Vec<AuthorizationPolicy>) {
    let empty = match semantics {
        Semantics::Istio => WaypointPolicySet::istio(mesh.clone()),
        Semantics::Strict => WaypointPolicySet::strict(mesh.clone()),
    };
    let accepts = |object: &&AuthorizationPolicy| empty.clone().insert(object).is_ok();
    let accepted: Vec<_> = objects.iter().filter(accepts).cloned().collect();
    assert!(semantics == Semantics::Strict || accepted.len() == objects.len());
    (empty.replaced(&accepted).unwrap(), accepted)
}

fn check(
    step: Step<'_>,
    accepted: &[AuthorizationPolicy],
    call: &Call,
    point: Point<'_>,
) -> Result<(), TestCaseError> {
    let decision = resolve(step);
    let expected = point.decide(accepted, call, answer);
    prop_assert_eq!(
        Outcome::of(decision.reason()),
        expected.clone(),
        "{:?} {:#?} {:#?}",
        point,
        accepted,
        call
    );
    let (denials, audits) = point.findings(accepted, call, &expected);
    let mut found: Vec<PolicyName> = decision.dry_run_denials().cloned().collect();
    found.sort();
    prop_assert_eq!(found, denials);
    let found: Vec<_> = decision.audits().map(|(name, rule)| (name.clone(), rule)).collect();
    prop_assert_eq!(found, audits);
    Ok(())
}
