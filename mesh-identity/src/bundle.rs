//! The certificates each trust domain is recognised by.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use rustls::pki_types::{CertificateDer, TrustAnchor, pem, pem::PemObject};

use crate::{
    TrustDomain,
    leaf::{is_authority, parse_certificate, system_time},
};

/// The root certificates of one trust domain, at least one.
///
/// Several may be current at once, as while a root is replaced; the same one twice counts once. A root counts for as long
/// as it is here, whatever its own validity says (RFC 5280 §6.1.1 (d) takes nothing but a name and a key from it): it is
/// withdrawn by taking it out.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl TrustBundle {
    /// Makes a bundle of root certificates.
    ///
    /// # Errors
    ///
    /// If there is none, or one cannot be read or is no authority: a root that is silently missing shows much later, as an
    /// outage, and a workload's certificate among the roots would let that workload be anybody.
    pub fn from_der(
        trust_domain: TrustDomain,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TrustBundleError> {
        let mut bundle = Self { trust_domain, certificates: Vec::new(), anchors: Vec::new() };
        for (index, certificate) in certificates.into_iter().enumerate() {
            let root = parse_certificate(&certificate).ok_or(TrustBundleError::Malformed { index })?;
            if !is_authority(&root) {
                return Err(TrustBundleError::NotAuthority { index });
            }
            bundle.push(certificate).ok_or(TrustBundleError::Malformed { index })?;
        }
        if bundle.anchors.is_empty() { Err(TrustBundleError::Empty) } else { Ok(bundle) }
    }

    /// Makes a bundle of the certificates in PEM text; other sections are skipped.
    ///
    /// # Errors
    ///
    /// As [`from_der`](Self::from_der), and if the text is not PEM.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, TrustBundleError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
        Self::from_der(trust_domain, certificates)
    }

    /// The trust domain the roots vouch for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root certificates, without repetition, in the order they were given.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// When the first of them ends: for people to see in time, since it plays no part in verification. Parses each.
    pub fn first_expiry(&self) -> Option<SystemTime> {
        let roots = self.certificates.iter().filter_map(|root| parse_certificate(root));
        roots.map(|root| system_time(root.validity().not_after)).min()
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    fn push(&mut self, certificate: CertificateDer<'static>) -> Option<()> {
        let anchor = webpki::anchor_from_trusted_cert(&certificate).ok()?.to_owned();
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
            self.anchors.push(anchor);
        }
        Some(())
    }

    fn merge(&mut self, other: Self) {
        for (certificate, anchor) in other.certificates.into_iter().zip(other.anchors) {
            if !self.certificates.contains(&certificate) {
                self.certificates.push(certificate);
                self.anchors.push(anchor);
            }
        }
    }
}

/// Why root certificates make no bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustBundleError {
    /// No certificate at all.
    #[error("trust bundle is empty")]
    Empty,
    /// A certificate cannot be read.
    #[error("root certificate {index} is malformed")]
    Malformed {
        /// Its place, from zero.
        index: usize,
    },
    /// A certificate is not one of a certificate authority (X.509-SVID §4.1, §4.3): it does not say that it is, as no
    /// certificate before version 3 can, or its key is not for signing certificates.
    #[error("root certificate {index} is no certificate authority")]
    NotAuthority {
        /// Its place, from zero.
        index: usize,
    },
    /// The text is not PEM.
    #[error("trust bundle is not pem")]
    Pem(#[from] pem::Error),
}

/// The bundles of all trust domains that peers may come from.
///
/// A peer is always checked against the bundle of the trust domain its id names, never against all roots
/// together: a root vouches for its own trust domain only.
#[derive(Clone, Debug, Default)]
pub struct TrustBundles {
    bundles: BTreeMap<TrustDomain, TrustBundle>,
    /// From another name to the trust domain whose bundle counts.
    aliases: BTreeMap<TrustDomain, TrustDomain>,
    any: Option<Arc<TrustBundle>>,
}

impl TrustBundles {
    /// Bundles of different trust domains; those of one trust domain are united.
    pub fn new(bundles: impl IntoIterator<Item = TrustBundle>) -> Self {
        let mut all = Self::default();
        bundles.into_iter().for_each(|bundle| all.add(bundle));
        all
    }

    /// Adds a bundle, as of a federated trust domain; it is united with what its trust domain has.
    pub fn add(&mut self, bundle: TrustBundle) {
        match self.bundles.get_mut(&bundle.trust_domain) {
            Some(present) => present.merge(bundle),
            None => _ = self.bundles.insert(bundle.trust_domain.clone(), bundle),
        }
    }

    /// Makes `alias` another name of `trust_domain`, whose roots then vouch for ids of both: what a mesh has while it is
    /// renamed. A bundle that `alias` has of its own takes precedence, whenever it is added. An alias of an alias leads
    /// nowhere.
    ///
    /// An alias alone admits nobody: whom to expect is said by [`ExpectedPeer`](crate::ExpectedPeer).
    #[must_use]
    pub fn alias(mut self, alias: TrustDomain, trust_domain: &TrustDomain) -> Self {
        self.aliases.insert(alias, trust_domain.clone());
        self
    }

    /// One bundle that vouches for every trust domain, which only the development CA may have.
    #[cfg(feature = "dev-ca")]
    pub(crate) fn for_any_trust_domain(bundle: TrustBundle) -> Self {
        Self { any: Some(Arc::new(bundle)), ..Self::default() }
    }

    /// The bundle that vouches for ids of `trust_domain`.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        let own = self.bundles.get(trust_domain);
        let aliased = || self.bundles.get(self.aliases.get(trust_domain)?);
        own.or_else(aliased).or(self.any.as_deref())
    }

    /// The other names of trust domains, each with the one whose bundle counts.
    pub fn aliases(&self) -> impl Iterator<Item = (&TrustDomain, &TrustDomain)> {
        self.aliases.iter()
    }

    /// All bundles, ordered by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.bundles.values().chain(self.any.as_deref())
    }
}

impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        Self::new(bundles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, rcgen::KeyUsagePurpose};

    fn domain(name: &str) -> TrustDomain {
        name.parse().unwrap()
    }

    // identity#69
    #[test]
    fn a_root_given_twice_counts_once() {
        let root = Authority::new("example.org").root();
        let bundle = TrustBundle::from_der(domain("example.org"), [root.clone(), root.clone()]).unwrap();
        assert_eq!(bundle.certificates(), [root]);
        let united = TrustBundles::new([bundle.clone(), bundle]);
        assert_eq!(united.get(&domain("example.org")).unwrap().anchors().len(), 1);
    }

    // identity#66
    #[test]
    fn bundles_of_one_trust_domain_are_united() {
        let (old, new) = (Authority::new("example.org"), Authority::new("example.org"));
        let united: TrustBundles = [old.bundle(), new.bundle()].into_iter().collect();
        assert_eq!(united.iter().count(), 1);
        assert_eq!(united.get(&domain("example.org")).unwrap().certificates(), [old.root(), new.root()]);
        assert!(united.get(&domain("other.example.org")).is_none());
    }

    // identity#20, identity#21
    #[test]
    fn an_alias_has_the_bundle_of_what_it_names_unless_it_has_its_own() {
        let (ours, theirs) = (Authority::new("example.org"), Authority::new("old.example.org"));
        let (name, old) = (domain("example.org"), domain("old.example.org"));
        let mut bundles = TrustBundles::new([ours.bundle()]).alias(old.clone(), &name);
        assert_eq!(bundles.get(&old).unwrap().certificates(), [ours.root()]);
        assert_eq!(bundles.aliases().collect::<Vec<_>>(), [(&old, &name)]);
        bundles.add(theirs.bundle());
        assert_eq!(bundles.get(&old).unwrap().certificates(), [theirs.root()]);
        assert_eq!(bundles.get(&name).unwrap().certificates(), [ours.root()]);
        let chained = TrustBundles::new([ours.bundle()])
            .alias(old.clone(), &name)
            .alias(domain("older.example.org"), &old);
        assert!(chained.get(&domain("older.example.org")).is_none());
    }

    #[test]
    fn a_broken_root_is_named() {
        let root = Authority::new("example.org").root();
        let broken = CertificateDer::from(vec![0x30, 0x00]);
        let made = TrustBundle::from_der(domain("example.org"), [root, broken]);
        assert!(matches!(made, Err(TrustBundleError::Malformed { index: 1 })));
    }

    #[test]
    fn a_certificate_that_is_no_authority_is_no_root() {
        let ca = Authority::new("example.org");
        let mute = ca.intermediate_with(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
        let leaf = ca.leaf("spiffe://example.org/a").issue().chain().remove(0);
        for stranger in [leaf, mute.intermediates().remove(0)] {
            let made = TrustBundle::from_der(domain("example.org"), [ca.root(), stranger]);
            assert!(matches!(made, Err(TrustBundleError::NotAuthority { index: 1 })));
        }
        let pinned = ca.intermediate().intermediates().remove(0);
        assert!(TrustBundle::from_der(domain("example.org"), [pinned]).is_ok());
    }

    #[test]
    fn a_bundle_without_a_root_is_refused() {
        let made = TrustBundle::from_pem(domain("example.org"), b"nothing here");
        assert!(matches!(made, Err(TrustBundleError::Empty)));
        let torn = b"-----BEGIN CERTIFICATE-----\nMAA=\n";
        assert!(matches!(TrustBundle::from_pem(domain("example.org"), torn), Err(TrustBundleError::Pem(_))));
    }
}
