//! Trust bundles as SPIFFE publishes them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;

use crate::{TrustBundle, TrustBundleError, TrustDomain};

/// A trust bundle in the SPIFFE format, a JWK set (SPIFFE Trust Domain and Bundle §4), such as a bundle endpoint serves.
///
/// The document does not say whose it is: the binding to a trust domain is for the configuration that names the endpoint.
#[derive(Clone, Debug)]
pub struct SpiffeBundle {
    bundle: TrustBundle,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
}

impl SpiffeBundle {
    /// Reads the roots for X.509-SVIDs. Entries for other uses, of unknown key types or without a certificate are skipped,
    /// and so is what an entry has beyond its first certificate.
    ///
    /// # Errors
    ///
    /// If the text is no JWK set, an entry is broken, or none has a certificate.
    pub fn from_json(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, SpiffeBundleError> {
        let document: Document = serde_json::from_slice(text).map_err(SpiffeBundleError::Json)?;
        let mut roots = Vec::new();
        for (index, key) in document.keys.iter().enumerate() {
            let Some(encoded) = key.certificate() else { continue };
            let der = STANDARD.decode(encoded).map_err(|_| SpiffeBundleError::Encoding { index })?;
            roots.push(CertificateDer::from(der));
        }
        Ok(Self {
            bundle: TrustBundle::from_der(trust_domain, roots)?,
            sequence: document.spiffe_sequence,
            refresh_hint: document.spiffe_refresh_hint.map(Duration::from_secs),
        })
    }

    /// The roots.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The roots alone.
    pub fn into_bundle(self) -> TrustBundle {
        self.bundle
    }

    /// Grows with each version of the bundle; one that is smaller than what was seen before is out of date.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How often the bundle should be asked for.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }
}

/// Why a text is no trust bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeBundleError {
    /// Its certificates make no bundle. Places count entries that have one.
    #[error("jwk set has no usable roots")]
    Bundle(#[from] TrustBundleError),
    /// A certificate is not base64.
    #[error("certificate of key {index} is not base64")]
    Encoding {
        /// Its entry's place, from zero.
        index: usize,
    },
    /// It is no JWK set.
    #[error("trust bundle is no jwk set")]
    Json(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Key>,
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "use")]
    usage: Option<String>,
    kty: Option<String>,
    x5c: Option<Vec<String>>,
}

impl Key {
    fn certificate(&self) -> Option<&str> {
        let known = matches!(self.kty.as_deref(), Some("EC" | "OKP" | "RSA"));
        let for_svids = self.usage.as_deref() == Some("x509-svid");
        self.x5c.as_ref()?.first().filter(|_| known && for_svids).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    fn read(text: &str) -> Result<SpiffeBundle, SpiffeBundleError> {
        SpiffeBundle::from_json("example.org".parse().unwrap(), text.as_bytes())
    }

    fn key(usage: &str, kty: &str, certificates: &[&str]) -> String {
        let certificates: Vec<_> = certificates.iter().map(|it| format!("{it:?}")).collect();
        format!(r#"{{"use":"{usage}","kty":"{kty}","x":"","x5c":[{}]}}"#, certificates.join(","))
    }

    #[test]
    fn reads_the_roots_of_svids_and_skips_the_rest() {
        let (root, other) = (Authority::new("example.org").root(), Authority::new("example.org").root());
        let (root_text, other_text) = (STANDARD.encode(&root), STANDARD.encode(&other));
        let keys = [
            key("jwt-svid", "EC", &[&other_text]),
            key("x509-svid", "EC", &[&root_text, &other_text]),
            key("x509-svid", "EC", &[]),
            key("x509-svid", "unheard-of", &[&other_text]),
            r#"{"use":"x509-svid","kty":"EC"}"#.into(),
        ];
        let text = format!(
            r#"{{"keys":[{}],"spiffe_sequence":18446744073709551615,"spiffe_refresh_hint":300,"more":1}}"#,
            keys.join(",")
        );
        let read = read(&text).unwrap();
        assert_eq!(read.bundle().certificates(), [root]);
        assert_eq!((read.sequence(), read.refresh_hint()), (Some(u64::MAX), Some(Duration::from_secs(300))));
    }

    #[test]
    fn every_unusable_text_has_its_own_error() {
        assert!(matches!(read("{"), Err(SpiffeBundleError::Json(_))));
        assert!(matches!(read(r#"{"keys":3}"#), Err(SpiffeBundleError::Json(_))));
        let empty = read(r#"{"keys":[]}"#);
        assert!(matches!(empty, Err(SpiffeBundleError::Bundle(TrustBundleError::Empty))));
        let text = format!(r#"{{"keys":[{}]}}"#, key("x509-svid", "EC", &["!"]));
        assert!(matches!(read(&text), Err(SpiffeBundleError::Encoding { index: 0 })));
        let text = format!(r#"{{"keys":[{}]}}"#, key("x509-svid", "EC", &["MAA="]));
        assert!(matches!(
            read(&text),
            Err(SpiffeBundleError::Bundle(TrustBundleError::Malformed { index: 0 }))
        ));
    }
}
