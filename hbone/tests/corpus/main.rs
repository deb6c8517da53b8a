//! What fuzzing has found worth keeping still passes: the properties of `fuzz/fuzz_targets/`, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod frame_schedule;
#[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "frames of a test's peer")]
mod neighbours;
#[expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a schedule's numbers are small"
)]
mod operations;

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*};

use hbone::{Baggage, Destination, Forwarded, TraceParent};

/// The inputs stored for a target.
fn inputs(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    // A published crate comes without it.
    fs::read_dir(&corpus).into_iter().flatten().map(|input| fs::read(input.unwrap().path()).unwrap())
}

/// Calls `check` with each stored input of a target that is text, as the target does.
fn replay(target: &str, check: impl Fn(&str)) {
    inputs(target).filter_map(|input| String::from_utf8(input).ok()).for_each(|text| check(&text));
}

#[test]
fn baggage() {
    replay("baggage", |text| {
        let baggage = Baggage::from_lines(text.lines());
        let written = baggage.to_header_value();
        assert_eq!(Baggage::from_lines([written.to_str().unwrap()]), baggage);
    });
}

#[test]
fn destination() {
    replay("destination", |text| {
        if let Ok(destination) = text.parse::<Destination>() {
            assert_eq!(destination.to_string().parse(), Ok(destination));
        }
    });
}

#[test]
fn forwarded() {
    replay("forwarded", |text| {
        let forwarded = Forwarded::from_lines(text.lines());
        let written = forwarded.to_header_value();
        assert_eq!(Forwarded::from_lines([written.to_str().unwrap()]), forwarded);
    });
}

#[test]
fn frame_schedule() {
    inputs("frame_schedule").for_each(|input| frame_schedule::run(&input));
}

proptest! {
    #[test]
    fn frames_in_any_order(
        // Settings and a tunnel first, as a client's peer or a server's, so that most of the rest means something.
        start in prop_oneof![
            Just(vec![0, 4, 0, 0, 0, 12, 1]),
            Just(vec![1, 4, 0, 0, 0, 15, 1, 4, 1, 1, 0x88]),
            any::<u8>().prop_map(|byte| vec![byte]),
        ],
        rest in vec(prop_oneof![0_u8..24, any::<u8>()], 0..300),
    ) {
        frame_schedule::run(&[start, rest].concat());
    }
}

#[test]
fn neighbours() {
    inputs("neighbours").for_each(|input| neighbours::run(&input));
}

proptest! {
    #[test]
    fn neighbours_of_any_kind(
        first in 0_u8..2,
        // A tunnel beside the first, and then anything.
        rest in vec((0_u8..32, any::<bool>(), any::<u8>(), any::<u8>()), 0..120),
    ) {
        let rest = rest.iter().flat_map(|(what, later, which, how)| [what | u8::from(*later) << 7, *which, *how]);
        neighbours::run(&[first, 0, 0, 0, 1, 0, 0, 19, 0, 0].into_iter().chain(rest).collect::<Vec<_>>());
    }
}

#[test]
fn tunnel_operations() {
    inputs("tunnel_operations").for_each(|input| operations::run(&input));
}

proptest! {
    #[test]
    fn tunnel_operations_in_any_order(input in vec(any::<u8>(), 0..600)) {
        operations::run(&input);
    }
}

#[test]
fn traceparent() {
    replay("traceparent", |text| {
        if let Ok(parent) = text.parse::<TraceParent>() {
            assert_eq!(parent.to_string().parse(), Ok(parent));
        }
    });
}
