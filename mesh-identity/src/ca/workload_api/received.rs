//! What agents send, as checked values.

use std::collections::HashMap;

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use crate::{
    RevocationListError, RevocationLists, SpiffeId, SvidError, TrustBundle, TrustBundleError, TrustBundles,
    TrustDomain, X509Svid,
    proto::spiffe::{X509svid, X509svidResponse},
};

/// A message of the Workload API. What of it is of no use is left out, so that one bad bundle of a federated
/// trust domain does not stop the rotation of everything.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// In the order of the agent, of which the first is the default; each with its hint.
    pub(super) svids: Vec<(X509Svid, String)>,
    pub(super) bundles: TrustBundles,
    pub(super) flaws: Vec<FlawError>,
}

/// The revocation lists of a message, which count all together or not at all.
pub(super) fn read_lists(sent: &[Vec<u8>]) -> Result<RevocationLists, RevocationListError> {
    RevocationLists::from_der(sent.iter().map(|der| CertificateRevocationListDer::from(der.as_slice())))
}

impl Received {
    pub(super) fn read(message: X509svidResponse, provider: &CryptoProvider) -> Self {
        let mut received = Self::default();
        let mut bundles = Vec::new();
        for mut sent in message.svids {
            let id = std::mem::take(&mut sent.spiffe_id);
            let hint = std::mem::take(&mut sent.hint);
            let bundle = std::mem::take(&mut sent.bundle);
            match read_svid(&id, sent, provider) {
                Ok(svid) => {
                    match read_bundle(svid.id().trust_domain().clone(), &bundle) {
                        Ok(bundle) => bundles.push(bundle),
                        Err(error) => received.flaws.push(FlawError::bundle(&id, error)),
                    }
                    received.svids.push((svid, hint));
                }
                Err(source) => received.flaws.push(FlawError::Svid { id: shorten(&id), source }),
            }
        }
        received.read_bundles(bundles, message.federated_bundles);
        received
    }

    fn read_bundles(&mut self, mut bundles: Vec<TrustBundle>, sent: HashMap<String, Vec<u8>>) {
        let (more, flaws) = read_bundles(sent);
        bundles.extend(more);
        self.flaws.extend(flaws);
        self.bundles = TrustBundles::new(bundles);
    }
}

/// The bundles of a map whose keys are trust domains, and what is wrong with the others.
pub(super) fn read_bundles(sent: HashMap<String, Vec<u8>>) -> (Vec<TrustBundle>, Vec<FlawError>) {
    let mut flaws = Vec::new();
    let bundles = sent.into_iter().filter_map(|(key, der)| {
        let bundle = match trust_domain(&key) {
            Some(trust_domain) => read_bundle(trust_domain, &der),
            None => Err(BundleFlawError::Key),
        };
        bundle.map_err(|error| flaws.push(FlawError::bundle(&key, error))).ok()
    });
    (bundles.collect(), flaws)
}

/// A trust domain as a name or as a SPIFFE ID: agents send either, whatever their documentation says.
pub(super) fn trust_domain(key: &str) -> Option<TrustDomain> {
    key.strip_prefix("spiffe://").unwrap_or(key).parse().ok()
}

fn read_svid(id: &str, sent: X509svid, provider: &CryptoProvider) -> Result<X509Svid, SvidFlawError> {
    let key = secret(sent.x509_svid_key);
    let chain = split(&sent.x509_svid).ok_or(SvidFlawError::Chain)?;
    checked_svid(id, chain, &key, provider)
}

/// A key whose memory is overwritten when it is dropped.
pub(super) fn secret(key: Vec<u8>) -> Zeroizing<PrivatePkcs8KeyDer<'static>> {
    Zeroizing::new(key.into())
}

/// An SVID that is of the id its sender says it is of.
pub(super) fn checked_svid(
    id: &str,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivatePkcs8KeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<X509Svid, SvidFlawError> {
    let id: SpiffeId = id.parse().map_err(|_| SvidFlawError::Id)?;
    let svid = X509Svid::from_der(chain, key.clone_key(), provider)?;
    if *svid.id() == id { Ok(svid) } else { Err(SvidFlawError::OtherId { id: svid.id().clone() }) }
}

fn read_bundle(trust_domain: TrustDomain, der: &[u8]) -> Result<TrustBundle, BundleFlawError> {
    let certificates = split(der).ok_or(BundleFlawError::Der)?;
    Ok(TrustBundle::from_der(trust_domain, certificates)?)
}

/// Takes certificates apart that follow each other; `None` if anything else is among them.
fn split(mut der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).ok()?;
        let length = der.len().checked_sub(rest.len())?;
        certificates.push(CertificateDer::from(der.get(..length)?.to_vec()));
        der = rest;
    }
    Some(certificates)
}

/// Why a part of a message is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlawError {
    #[error("bundle of {key:?}")]
    Bundle { key: String, source: BundleFlawError },
    #[error("svid of {id:?}")]
    Svid { id: String, source: SvidFlawError },
}

impl FlawError {
    fn bundle(key: &str, source: BundleFlawError) -> Self {
        Self::Bundle { key: shorten(key), source }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BundleFlawError {
    #[error("it is not certificates in der")]
    Der,
    #[error("that is no trust domain")]
    Key,
    #[error("it is no trust bundle")]
    Bundle(#[from] TrustBundleError),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SvidFlawError {
    #[error("its chain is not certificates in der")]
    Chain,
    #[error("that is no spiffe id")]
    Id,
    #[error("it is of {id}")]
    OtherId { id: SpiffeId },
    #[error("it is unusable")]
    Svid(#[from] SvidError),
}

/// Of a text from outside, for one log line.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::testing::{Authority, provider};

    const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

    fn sent(authority: &Authority, id: &str) -> X509svid {
        let pem = authority.leaf(id).issue().pem();
        let chain = CertificateDer::pem_slice_iter(pem.chain().as_bytes());
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.key().as_bytes()).unwrap();
        X509svid {
            spiffe_id: id.to_owned(),
            x509_svid: chain.flat_map(|der| der.unwrap().to_vec()).collect(),
            x509_svid_key: key.secret_pkcs8_der().to_vec(),
            bundle: authority.root().to_vec(),
            hint: "internal".to_owned(),
        }
    }

    fn read(svids: Vec<X509svid>, federated: &[(&str, Vec<u8>)]) -> Received {
        let federated_bundles = federated.iter().map(|(key, der)| ((*key).to_owned(), der.clone())).collect();
        let message = X509svidResponse { svids, crl: Vec::new(), federated_bundles };
        Received::read(message, &provider())
    }

    #[test]
    fn chains_and_bundles_are_taken_apart() {
        let authority = Authority::new("example.org");
        let issuing = authority.intermediate();
        let mut svid = sent(&issuing, ID);
        svid.bundle.extend_from_slice(&Authority::new("example.org").root());
        let received = read(vec![svid], &[]);
        assert!(received.flaws.is_empty());
        let [(svid, hint)] = received.svids.as_slice() else { panic!("{received:?}") };
        assert_eq!((svid.chain().len(), hint.as_str()), (2, "internal"));
        let bundle = received.bundles.get(&"example.org".parse().unwrap()).unwrap();
        assert_eq!(bundle.certificates().len(), 2);
    }

    // identity#78, identity#89
    #[test]
    fn federated_bundles_belong_to_their_trust_domain_however_it_is_written() {
        let (own, other) = (Authority::new("example.org"), Authority::new("other.example.org"));
        for key in ["other.example.org", "spiffe://other.example.org"] {
            let received = read(vec![sent(&own, ID)], &[(key, other.root().to_vec())]);
            assert!(received.flaws.is_empty());
            let bundle = |name: &str| {
                received.bundles.get(&name.parse().unwrap()).map(|bundle| bundle.certificates().to_vec())
            };
            assert_eq!(bundle("example.org"), Some(vec![own.root()]));
            assert_eq!(bundle("other.example.org"), Some(vec![other.root()]));
            assert_eq!(bundle("third.example.org"), None);
        }
    }

    #[test]
    fn a_flaw_takes_nothing_from_the_rest() {
        let authority = Authority::new("example.org");
        let spoilt = |spoil: fn(&mut X509svid)| {
            let mut svid = sent(&authority, "spiffe://example.org/spoilt");
            spoil(&mut svid);
            svid
        };
        let received = read(
            vec![
                spoilt(|svid| svid.x509_svid.truncate(100)),
                spoilt(|svid| svid.x509_svid.clear()),
                spoilt(|svid| svid.x509_svid_key.truncate(10)),
                spoilt(|svid| svid.spiffe_id = "spiffe://example.org/other".to_owned()),
                spoilt(|svid| svid.spiffe_id.clear()),
                sent(&authority, ID),
            ],
            &[("spiffe://other.example.org/path", Vec::new()), ("third.example.org", vec![0x30])],
        );
        assert_eq!(received.svids.len(), 1);
        assert_eq!(received.svids[0].0.id().as_str(), ID);
        assert_eq!(received.bundles.iter().count(), 1);
        assert_eq!(received.flaws.len(), 7, "{:?}", received.flaws);
    }
}
