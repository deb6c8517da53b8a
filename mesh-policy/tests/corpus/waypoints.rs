//! What any bytes mean as policies and a call, and that waypoints decide about it as a naive reading does, also for the
//! fuzz target. The bytes seed the chance by which the differential test generates its cases. Bytes in the place of chance
//! itself would let a fuzzer steer it, but where they end, drawing a number anew may never come to an end.

use mesh_policy::{
    Semantics,
    object::AuthorizationPolicy,
    waypoint::{EnforcementPoint, Mesh, Requests, Streams, WaypointPolicySet},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::{
    generate::{self, answer, resolve},
    naive::{Outcome, Point},
};

pub(crate) fn check(bytes: &[u8]) {
    let mut seed = [0; 32];
    for (index, byte) in bytes.iter().enumerate() {
        if let Some(place) = seed.get_mut(index % 32) {
            *place = u8::wrapping_mul(*place, 31) ^ byte;
        }
    }
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), chance);
    let case = (generate::mesh(), generate::objects(), generate::call());
    let Ok(tree) = case.new_tree(&mut runner) else { return };
    let (mesh, objects, call) = tree.current();
    for semantics in [Semantics::Istio, Semantics::Strict] {
        let (set, accepted) = build::<Requests>(&objects, &mesh, semantics);
        let point = Point { semantics, is_stream: false, mesh: &mesh };
        call.with_facts(|facts| {
            let decision = resolve(set.evaluate_request(facts));
            let explanation = set.explain(facts, |question| answer(question.provider()));
            assert_eq!(explanation.decision().reason(), decision.reason(), "{explanation}");
            assert_eq!(Outcome::of(decision.reason()), point.decide(&accepted, &call, answer));
            assert!(decision.dry_run_denials().count() + decision.audits().count() <= accepted.len());
        });
        let (set, accepted) = build::<Streams>(&objects, &mesh, semantics);
        let point = Point { semantics, is_stream: true, mesh: &mesh };
        call.with_facts(|facts| {
            let decision = resolve(set.evaluate_stream(&facts.stream));
            let explanation = set.explain(&facts.stream, |question| answer(question.provider()));
            assert_eq!(explanation.decision().reason(), decision.reason(), "{explanation}");
            assert_eq!(Outcome::of(decision.reason()), point.decide(&accepted, &call, answer));
        });
    }
}

/// What a set accepts, and the set of it. What it does not, it takes closed.
fn build<P: EnforcementPoint>(
    objects: &[AuthorizationPolicy],
    mesh: &Mesh,
    semantics: Semantics,
) -> (WaypointPolicySet<P>, Vec<AuthorizationPolicy>) {
    let empty = match semantics {
        Semantics::Istio => WaypointPolicySet::istio(mesh.clone()),
        Semantics::Strict => WaypointPolicySet::strict(mesh.clone()),
    };
    let mut closed = empty.clone();
    let accepts = |object: &&AuthorizationPolicy| closed.insert_closed(object).is_none();
    let accepted: Vec<_> = objects.iter().filter(accepts).cloned().collect();
    assert_eq!(closed.len(), objects.len());
    (empty.replaced(&accepted).expect("what was accepted"), accepted)
}
