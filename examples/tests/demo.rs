//! The demo as its users run it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// Judges the promises, of which there are those.
fn assert_kept(report: &Value) {
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["holds"] == true), "{report}");
    let promises: Vec<_> = checks.iter().map(|check| check["promise"].as_str().unwrap()).collect();
    for promise in [
        "every request reached the application through a tunnel",
        "without the mesh the secret can be read on the way",
        "with the mesh it cannot: there is nothing but TLS",
        "both proxies proved the identity of their pod",
        "connections were allowed and denied as the policies say",
        "the metrics count what was allowed and what was denied",
    ] {
        assert!(promises.contains(&promise), "{promise}: {promises:?}");
    }
    assert!(promises.iter().any(|promise| promise.starts_with("the proxies drain and end")), "{promises:?}");
    // What they are judged by is there.
    for (what, least) in [("pods", 2), ("requests", 2), ("decisions", 3), ("metrics", 2), ("access_log", 1)] {
        assert!(report[what].as_array().unwrap().len() >= least, "{what}: {report}");
    }
    let decided = |allowed: bool| {
        report["decisions"].as_array().unwrap().iter().any(|decision| decision["allowed"] == allowed)
    };
    assert!(decided(true) && decided(false), "{report}");
}

#[test]
fn every_promise_is_kept_where_the_demo_can_run_best() {
    let report = report(&demo(&["--json"]).output().unwrap());
    assert_kept(&report);
    // Without namespaces it says why, and shows the rest.
    assert!(report["mode"]["kind"] == "namespaces" || report["mode"]["because"].is_string(), "{report}");
}

#[test]
fn every_promise_is_kept_in_one_process() {
    let report = report(&demo(&["--json", "--one-process"]).output().unwrap());
    assert_eq!(report["mode"]["kind"], "one_process");
    assert_kept(&report);
    let [bare, watched] = [0, 1].map(|index| report["wire"][index]["marker_seen"].as_bool().unwrap());
    assert!(bare && !watched);
}

#[test]
fn a_page_for_a_file_has_no_escapes() {
    let output = demo(&["--one-process"]).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(!page.contains('\x1b') && page.contains("What the policies said"), "{page}");
}

#[test]
fn help_goes_to_standard_output_and_unknown_arguments_are_refused() {
    let output = demo(&["--help"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with("usage: demo"));
    let output = demo(&["--jsno"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown argument: --jsno"));
}

#[test]
fn signals_end_it_at_once_with_the_usual_code() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = demo(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut progress = BufReader::new(child.stderr.take().unwrap());
        let mut first_step = String::new();
        progress.read_line(&mut first_step).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        // Ends only when every process that could write there has ended.
        let mut rest = String::new();
        progress.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{first_step}{rest}");
        assert!(rest.contains("nothing is left behind"), "{rest}");
    }
}
