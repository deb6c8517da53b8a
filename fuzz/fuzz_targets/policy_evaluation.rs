//! A few policies and a connection: there is always a decision, its explanation says the same, and can be printed.
#![no_main]

#[path = "../../mesh-policy/tests/corpus/decode.rs"]
mod decode;

use decode::Case;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let case = Case::decode(bytes);
    let facts = case.facts();
    let decision = case.set.evaluate_connection(&facts);
    let explanation = case.set.explain(&facts);
    let printed = explanation.to_string();
    assert_eq!(decision.verdict(), explanation.decision().verdict(), "{printed}");
    assert_eq!(decision.reason(), explanation.decision().reason(), "{printed}");
    assert!(decision.dry_run_denials().count() <= case.set.len());
});
