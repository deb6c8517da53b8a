//! What fuzzing has found worth keeping still passes: the properties of `fuzz/fuzz_targets/`, without a fuzzer.

#![cfg(feature = "local-config")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{fs, path::Path};

use mesh_policy::MissingPolicy;
use mesh_proxy::{config::local::LocalConfig, state::StateStore};

/// Calls `check` with each stored input of a target that is text, as the target does.
fn replay(target: &str, check: impl Fn(&str)) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").exists() {
        // A published crate comes without it.
        return;
    }
    let mut checked = 0;
    for input in fs::read_dir(&corpus).unwrap() {
        if let Ok(text) = String::from_utf8(fs::read(input.unwrap().path()).unwrap()) {
            check(&text);
            checked += 1;
        }
    }
    assert!(checked > 0, "{}", corpus.display());
}

#[test]
fn local_yaml() {
    replay("local_yaml", |text| {
        if let Ok(config) = text.parse::<LocalConfig>() {
            let store = StateStore::new(None, MissingPolicy::Deny);
            store.apply(config.clone().into_changes());
            let once = store.load().policies().len();
            store.apply(config.into_changes());
            assert!(store.load().is_synced());
            assert_eq!(store.load().policies().len(), once);
        }
    });
}
