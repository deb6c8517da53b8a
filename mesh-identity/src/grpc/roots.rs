//! The roots a server's certificate is checked with.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

use super::token::read_bounded;

/// Where the roots come from that a certificate authority's own server certificate is checked with.
///
/// They are separate from the trust bundles that peers are checked with.
#[derive(Clone, Debug)]
pub struct RootSource(Source);

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Pem(Arc<[u8]>),
    System,
}

impl RootSource {
    /// A PEM file, read for each call, so that a change counts from the next. One that becomes unusable leaves
    /// the roots as they were.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// PEM text.
    pub fn pem(text: impl Into<Vec<u8>>) -> Self {
        Self(Source::Pem(text.into().into()))
    }

    /// What the operating system trusts, read once.
    pub fn system() -> Self {
        Self(Source::System)
    }

    pub(super) fn may_change(&self) -> bool {
        matches!(self.0, Source::File(_))
    }

    /// The text to [`parse`](Self::parse).
    pub(super) async fn read(&self) -> Result<Vec<u8>, RootSourceError> {
        match &self.0 {
            Source::File(path) => read_bounded(path, MAX_SIZE)
                .await
                .map_err(|error| RootSourceError::Read { path: path.clone(), source: Arc::new(error) }),
            Source::Pem(text) => Ok(text.to_vec()),
            Source::System => Ok(Vec::new()),
        }
    }

    pub(super) fn parse(&self, text: &[u8]) -> Result<RootCertStore, RootSourceError> {
        let mut store = RootCertStore::empty();
        if matches!(self.0, Source::System) {
            // It holds certificates that webpki cannot use, which is nobody's fault here.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            for (index, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
                let certificate = certificate.map_err(|error| RootSourceError::Pem(Arc::new(error)))?;
                store.add(certificate).map_err(|_| RootSourceError::Malformed { index })?;
            }
        }
        if store.is_empty() { Err(RootSourceError::Empty) } else { Ok(store) }
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            _ => None,
        }
    }
}

/// Why there are no roots to check a server with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootSourceError {
    /// There is no certificate among them.
    #[error("no root certificate")]
    Empty,
    /// A certificate cannot be read.
    #[error("root certificate {index} is malformed")]
    Malformed {
        /// Its place, from zero.
        index: usize,
    },
    /// They are not PEM.
    #[error("roots are not pem")]
    Pem(#[source] Arc<pem::Error>),
    /// The cryptography provider cannot be used with them.
    #[error("cryptography provider is unusable")]
    Provider(#[source] rustls::Error),
    /// The file cannot be read.
    #[error("cannot read roots from {}", .path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

/// Some thousand certificates.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn every_root_has_to_be_good() {
        let root = Authority::new("example.org").root_pem();
        let parse = |text: &str| {
            let source = RootSource::pem(text);
            source.parse(text.as_bytes()).map(|roots| roots.len())
        };
        assert!(matches!(parse(&format!("{root}\n{root}")), Ok(2)));
        assert!(matches!(parse(""), Err(RootSourceError::Empty)));
        assert!(matches!(parse("./var/run/secrets/istio/root-cert.pem"), Err(RootSourceError::Empty)));
        let torn = root.replace("-----END CERTIFICATE-----", "");
        assert!(matches!(parse(&torn), Err(RootSourceError::Pem(_))));
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(matches!(parse(&format!("{root}{broken}")), Err(RootSourceError::Malformed { index: 1 })));
    }
}
