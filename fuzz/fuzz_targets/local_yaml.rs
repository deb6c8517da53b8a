//! A file of mesh state: any text is read or refused, and what was read can be applied, a second time without effect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_policy::MissingPolicy;
use mesh_proxy::{config::local::LocalConfig, state::StateStore};

fuzz_target!(|text: &str| {
    if let Ok(config) = text.parse::<LocalConfig>() {
        let store = StateStore::new(None, MissingPolicy::Deny);
        store.apply(config.clone().into_changes());
        let once = store.load().policies().len();
        store.apply(config.into_changes());
        assert!(store.load().is_synced());
        assert_eq!(store.load().policies().len(), once);
    }
});
