//! Which files an identity is made of.

use std::path::{Path, PathBuf};

use crate::TrustDomain;

/// The files of one identity: certificate chain, private key and roots, all PEM.
///
/// ```
/// use mesh_identity::CredentialFiles;
///
/// // cert-chain.pem, key.pem and root-cert.pem
/// let files = CredentialFiles::istio("/var/run/secrets/workload-spiffe-credentials");
/// # let _ = files;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialFiles {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    pub(super) roots: PathBuf,
    pub(super) federated: Vec<(TrustDomain, PathBuf)>,
    pub(super) aliases: Vec<TrustDomain>,
}

impl CredentialFiles {
    /// Files of any names. The roots vouch for the trust domain that the certificate names.
    pub fn new(chain: impl Into<PathBuf>, key: impl Into<PathBuf>, roots: impl Into<PathBuf>) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
            roots: roots.into(),
            federated: Vec::new(),
            aliases: Vec::new(),
        }
    }

    /// `cert-chain.pem`, `key.pem` and `root-cert.pem` in a directory: what Istio mounts at `etc/certs` and at
    /// `var/run/secrets/workload-spiffe-credentials`.
    pub fn istio(directory: impl AsRef<Path>) -> Self {
        Self::named(directory.as_ref(), ["cert-chain.pem", "key.pem", "root-cert.pem"])
    }

    /// `certificates.pem`, `private_key.pem` and `ca_certificates.pem` in a directory: what GKE mounts.
    pub fn gke(directory: impl AsRef<Path>) -> Self {
        Self::named(directory.as_ref(), ["certificates.pem", "private_key.pem", "ca_certificates.pem"])
    }

    /// `tls.crt`, `tls.key` and `ca.crt` in a directory: the keys of a `kubernetes.io/tls` secret, as cert-manager fills
    /// them.
    pub fn kubernetes_tls(directory: impl AsRef<Path>) -> Self {
        Self::named(directory.as_ref(), ["tls.crt", "tls.key", "ca.crt"])
    }

    /// Adds the roots of another trust domain.
    #[must_use]
    pub fn federated(mut self, trust_domain: TrustDomain, roots: impl Into<PathBuf>) -> Self {
        self.federated.push((trust_domain, roots.into()));
        self
    }

    /// Adds another name of the own trust domain, whose ids the own roots vouch for as well.
    #[must_use]
    pub fn alias(mut self, trust_domain: TrustDomain) -> Self {
        self.aliases.push(trust_domain);
        self
    }

    /// All files, in the order of their reading.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let own = [&self.chain, &self.key, &self.roots];
        own.into_iter().chain(self.federated.iter().map(|(_, path)| path)).cloned().collect()
    }

    fn named(directory: &Path, [chain, key, roots]: [&str; 3]) -> Self {
        Self::new(directory.join(chain), directory.join(key), directory.join(roots))
    }
}
