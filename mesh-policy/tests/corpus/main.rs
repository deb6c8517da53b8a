//! What fuzzing has found worth keeping still passes: the properties of `fuzz/fuzz_targets/`, without a fuzzer.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

#[path = "../support/call.rs"]
mod call;
mod decode;
#[path = "../differential/generate.rs"]
#[allow(dead_code, reason = "the differential test uses the rest")]
mod generate;
#[path = "../differential/naive.rs"]
#[allow(dead_code, reason = "the differential test uses the rest")]
mod naive;
#[cfg(feature = "crd")]
mod objects;
mod waypoints;

use std::{fs, path::Path};

use decode::Case;

#[test]
fn policy_evaluation() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/policy_evaluation");
    // A published crate comes without it.
    let Ok(inputs) = fs::read_dir(&corpus) else { return };
    for input in inputs {
        let case = Case::decode(&fs::read(input.unwrap().path()).unwrap());
        let facts = case.facts();
        let decision = case.set.evaluate_connection(&facts);
        let explanation = case.set.explain(&facts);
        assert_eq!(decision.verdict(), explanation.decision().verdict(), "{explanation}");
        assert_eq!(decision.reason(), explanation.decision().reason(), "{explanation}");
        assert!(decision.dry_run_denials().count() <= case.set.len());
    }
}

#[test]
fn waypoint_evaluation() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/waypoint_evaluation");
    let Ok(inputs) = fs::read_dir(&corpus) else { return };
    for input in inputs {
        waypoints::check(&fs::read(input.unwrap().path()).unwrap());
    }
}

#[cfg(feature = "crd")]
#[test]
fn crd() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/crd");
    let Ok(inputs) = fs::read_dir(&corpus) else { return };
    for input in inputs {
        // A fuzz target for texts is not called with anything else.
        if let Ok(text) = fs::read_to_string(input.unwrap().path()) {
            objects::check(&text);
        }
    }
}
