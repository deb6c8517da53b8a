//! What certificate authorities and agents send, for fuzzing and for the replay of what it found.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, UNIX_EPOCH},
};

use prost::Message;
use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;

use crate::{
    ca::{accept_istio, read_agent},
    proto::{istio::IstioCertificateResponse, spiffe::X509svidResponse},
    testing::provider,
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(provider);
/// Whose key it is not.
static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| KeyPair::generate().expect("a key").serialize_der());

/// An answer of Istio's authority: as nobody signed our key, it is refused with an error that says something.
pub fn istio_answer(bytes: &[u8]) {
    let Ok(answer) = IstioCertificateResponse::decode(bytes) else { return };
    let id = "spiffe://example.org/ns/shop/sa/cart".parse().expect("an id");
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let error =
        accept_istio(&answer.cert_chain, KEY.clone().into(), &id, now, &PROVIDER).expect_err("not ours");
    assert!(!error.to_string().is_empty());
}

/// A message of an agent: what is taken of it is an SVID, and what is not is told.
pub fn agent_message(bytes: &[u8]) {
    let Ok(message) = X509svidResponse::decode(bytes) else { return };
    let sent = message.svids.len() + message.federated_bundles.len() + message.svids.len();
    let (ids, flaws) = read_agent(message, &PROVIDER);
    assert!(ids.iter().all(|id| !id.path().is_empty()));
    assert!(ids.len() + flaws.len() <= sent && flaws.iter().all(|flaw| !flaw.is_empty()));
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn replay(target: &str, check: fn(&[u8])) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        if !fuzz.exists() {
            // A published crate comes without it.
            return;
        }
        let inputs: Vec<_> = fs::read_dir(fuzz.join("corpus").join(target)).unwrap().collect();
        assert!(!inputs.is_empty(), "{target}");
        for input in inputs {
            check(&fs::read(input.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn stored_answers_pass() {
        replay("istio_answer", istio_answer);
    }

    #[test]
    fn stored_messages_pass() {
        replay("agent_message", agent_message);
    }
}
