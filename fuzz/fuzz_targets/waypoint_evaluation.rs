//! A few AuthorizationPolicies and a request: at both kinds of waypoint, by both semantics, what is decided is what a naive
//! reading of the objects says, and so does the explanation.
#![no_main]

#[path = "../../mesh-policy/tests/support/call.rs"]
mod call;
#[path = "../../mesh-policy/tests/differential/generate.rs"]
#[allow(dead_code, reason = "the differential test uses the rest")]
mod generate;
#[path = "../../mesh-policy/tests/differential/naive.rs"]
#[allow(dead_code, reason = "the differential test uses the rest")]
mod naive;
#[path = "../../mesh-policy/tests/corpus/waypoints.rs"]
mod waypoints;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| waypoints::check(bytes));
