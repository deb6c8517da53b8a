//! What fuzzing has found worth keeping still passes: the properties of `fuzz/fuzz_targets/`, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, path::Path};

use hbone::{Baggage, Destination, Forwarded, TraceParent};

/// Calls `check` with each stored input of a target that is text, as the target does.
fn replay(target: &str, check: impl Fn(&str)) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    // A published crate comes without it.
    let Ok(inputs) = fs::read_dir(&corpus) else { return };
    for input in inputs {
        if let Ok(text) = String::from_utf8(fs::read(input.unwrap().path()).unwrap()) {
            check(&text);
        }
    }
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
fn traceparent() {
    replay("traceparent", |text| {
        if let Ok(parent) = text.parse::<TraceParent>() {
            assert_eq!(parent.to_string().parse(), Ok(parent));
        }
    });
}
