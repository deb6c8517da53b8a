//! What agents send, as checked values.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};
use zeroize::Zeroizing;

use super::{AgentError, held::Held};
use crate::{
    IdentityState, IdentityStatus, RevocationListError, RevocationLists, SpiffeId, SvidError, TrustBundle,
    TrustBundleError, TrustBundles, TrustDomain, VerifyError, X509Svid,
    describe::describe,
    proto::spiffe::{X509svid, X509svidResponse},
    verify::check_own,
};

/// A message of the Workload API. What of it is of no use is left out, so that one bad bundle of a federated
/// trust domain does not stop the rotation of everything; what was good before stays in its place.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// In the order of the agent, of which the first is the default.
    pub(super) entries: Vec<Entry>,
    pub(super) bundles: Arc<TrustBundles>,
    pub(super) flaws: Vec<FlawError>,
}

/// An identity of a message.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As the agent says; `None` if that is no id.
    pub(super) id: Option<SpiffeId>,
    pub(super) hint: String,
    /// The one that was sent, or the one before if that cannot be used.
    pub(super) svid: Option<Arc<X509Svid>>,
    /// Why the one that was sent cannot be used.
    pub(super) flaw: Option<Arc<str>>,
}

impl Entry {
    /// The id, if there is a certificate for it.
    pub(super) fn usable(&self) -> Result<SpiffeId, AgentError> {
        match (&self.svid, &self.flaw) {
            (Some(svid), _) => Ok(svid.id().clone()),
            (None, Some(flaw)) => Err(AgentError::Unusable { reason: Arc::clone(flaw) }),
            (None, None) => Err(AgentError::NoIdentity),
        }
    }

    pub(super) fn status(&self, now: SystemTime) -> Option<IdentityStatus> {
        let mut status = IdentityStatus::at(self.id.clone()?, self.svid.clone(), now);
        status.last_error.clone_from(&self.flaw);
        if let (None, Some(flaw)) = (&self.svid, &self.flaw) {
            status.state = IdentityState::Unavailable(Arc::clone(flaw));
        }
        Some(status)
    }
}

/// The revocation lists of a message, which count all together or not at all.
pub(super) fn read_lists(sent: &[Vec<u8>]) -> Result<RevocationLists, RevocationListError> {
    RevocationLists::from_der(sent.iter().map(|der| CertificateRevocationListDer::from(der.as_slice())))
}

impl Received {
    /// Reads a message as a successor of what is `held`.
    pub(super) fn read(
        message: X509svidResponse,
        held: &Held,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Self {
        let before = held.bundles();
        let (mut bundles, mut flaws) = read_bundles(message.federated_bundles, &before);
        let mut read = Vec::new();
        for mut sent in message.svids {
            let text = std::mem::take(&mut sent.spiffe_id);
            let hint = std::mem::take(&mut sent.hint);
            let id = text.parse::<SpiffeId>().ok();
            if let Some(id) = &id {
                let trust_domain = id.trust_domain().clone();
                match read_bundle(trust_domain.clone(), &sent.bundle) {
                    Ok(bundle) => bundles.push(bundle),
                    Err(error) => {
                        bundles.extend(before.get(&trust_domain).cloned());
                        flaws.push(FlawError::bundle(&text, error));
                    }
                }
            }
            read.push((text, id, hint, read_svid(sent, provider)));
        }
        let bundles = Arc::new(TrustBundles::new(bundles));
        let entries = read.into_iter().map(|(text, id, hint, svid)| {
            let svid = svid.and_then(|svid| checked(svid, id.as_ref(), &bundles, provider, now));
            let (svid, flaw) = match svid {
                Ok(svid) => (Some(Arc::new(svid)), None),
                Err(source) => {
                    let flaw = FlawError::svid(&text, source);
                    let reason = describe(&flaw).into();
                    flaws.push(flaw);
                    (id.as_ref().and_then(|id| held.svid(id)), Some(reason))
                }
            };
            Entry { id, hint, svid, flaw }
        });
        Self { entries: entries.collect(), bundles, flaws }
    }
}

/// The bundles of a map whose keys are trust domains, with those of before where one cannot be used, and why not.
pub(super) fn read_bundles(
    sent: HashMap<String, Vec<u8>>,
    before: &TrustBundles,
) -> (Vec<TrustBundle>, Vec<FlawError>) {
    let mut flaws = Vec::new();
    let bundles = sent.into_iter().filter_map(|(key, der)| {
        let Some(trust_domain) = trust_domain(&key) else {
            flaws.push(FlawError::bundle(&key, BundleFlawError::Key));
            return None;
        };
        match read_bundle(trust_domain.clone(), &der) {
            Ok(bundle) => Some(bundle),
            Err(error) => {
                flaws.push(FlawError::bundle(&key, error));
                before.get(&trust_domain).cloned()
            }
        }
    });
    (bundles.collect(), flaws)
}

/// A trust domain as a name or as a SPIFFE ID: agents send either, whatever their documentation says.
pub(super) fn trust_domain(key: &str) -> Option<TrustDomain> {
    key.strip_prefix("spiffe://").unwrap_or(key).parse().ok()
}

fn read_svid(sent: X509svid, provider: &CryptoProvider) -> Result<X509Svid, SvidFlawError> {
    let key = secret(sent.x509_svid_key);
    let chain = split(&sent.x509_svid).ok_or(SvidFlawError::Chain)?;
    Ok(X509Svid::from_der(chain, key.clone_key(), provider)?)
}

/// A key whose memory is overwritten when it is dropped.
pub(super) fn secret(key: Vec<u8>) -> Zeroizing<PrivatePkcs8KeyDer<'static>> {
    Zeroizing::new(key.into())
}

/// An SVID that is of the id its sender says it is of, and that peers with these bundles would take.
fn checked(
    svid: X509Svid,
    id: Option<&SpiffeId>,
    bundles: &Arc<TrustBundles>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<X509Svid, SvidFlawError> {
    let svid = of_id(svid, id)?;
    check_own(&svid, bundles, provider, now)?;
    Ok(svid)
}

/// An SVID that is of the id its sender says it is of.
pub(super) fn of_id(svid: X509Svid, id: Option<&SpiffeId>) -> Result<X509Svid, SvidFlawError> {
    let id = id.ok_or(SvidFlawError::Id)?;
    if svid.id() == id { Ok(svid) } else { Err(SvidFlawError::OtherId { id: svid.id().clone() }) }
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
    pub(super) fn svid(id: &str, source: SvidFlawError) -> Self {
        Self::Svid { id: shorten(id), source }
    }

    pub(super) fn refused(id: &SpiffeId, error: VerifyError) -> Self {
        Self::svid(id.as_str(), error.into())
    }

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
    #[error("no peer would take it")]
    Refused(#[from] VerifyError),
    #[error("it is unusable")]
    Svid(#[from] SvidError),
}

/// Of a text from outside, for one log line.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::testing::{Authority, Leaf, provider};

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
        Received::read(message, &Held::default(), &provider(), SystemTime::now())
    }

    #[test]
    fn chains_and_bundles_are_taken_apart() {
        let authority = Authority::new("example.org");
        let issuing = authority.intermediate();
        let mut svid = sent(&issuing, ID);
        svid.bundle.extend_from_slice(&Authority::new("example.org").root());
        let received = read(vec![svid], &[]);
        assert!(received.flaws.is_empty());
        let [entry] = received.entries.as_slice() else { panic!("{received:?}") };
        let chain = entry.svid.as_ref().unwrap().chain();
        assert_eq!((chain.len(), entry.hint.as_str()), (2, "internal"));
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
        let usable: Vec<_> = received.entries.iter().map(|entry| entry.usable().is_ok()).collect();
        assert_eq!(usable, [false, false, false, false, false, true]);
        assert_eq!(received.entries[5].usable().unwrap().as_str(), ID);
        assert_eq!(received.bundles.iter().count(), 1);
        assert_eq!(received.flaws.len(), 7, "{:?}", received.flaws);
    }

    #[test]
    fn what_was_good_stays_in_the_place_of_what_is_not() {
        let (own, other) = (Authority::new("example.org"), Authority::new("other.example.org"));
        let held = Held::default();
        let good = |received: &Received| {
            let svids = received.entries.iter().filter_map(|entry| entry.svid.clone());
            held.replace(svids, Arc::clone(&received.bundles));
        };
        let message = |svids, federated: Vec<u8>| X509svidResponse {
            svids,
            crl: Vec::new(),
            federated_bundles: HashMap::from([("other.example.org".to_owned(), federated)]),
        };
        let read = |message| Received::read(message, &held, &provider(), SystemTime::now());
        good(&read(message(vec![sent(&own, ID)], other.root().to_vec())));
        let (svid, bundles) = (held.svid(&ID.parse().unwrap()).unwrap(), held.bundles());

        let mut torn = sent(&own, ID);
        torn.x509_svid.truncate(100);
        torn.bundle.truncate(100);
        let received = read(message(vec![torn], vec![0x30]));
        assert_eq!(received.flaws.len(), 3, "{:?}", received.flaws);
        assert!(received.entries[0].flaw.is_some());
        good(&received);
        assert!(Arc::ptr_eq(&held.svid(&ID.parse().unwrap()).unwrap(), &svid));
        assert!(Arc::ptr_eq(&held.bundles(), &bundles));
    }

    #[test]
    fn a_certificate_that_no_peer_would_take_is_none() {
        let (own, other) = (Authority::new("example.org"), Authority::new("example.org"));
        let now = SystemTime::now();
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let of = |leaf: Leaf| {
            let pem = leaf.pem();
            let chain = CertificateDer::pem_slice_iter(pem.chain().as_bytes());
            let key = PrivatePkcs8KeyDer::from_pem_slice(pem.key().as_bytes()).unwrap();
            X509svid {
                spiffe_id: ID.to_owned(),
                x509_svid: chain.flat_map(|der| der.unwrap().to_vec()).collect(),
                x509_svid_key: key.secret_pkcs8_der().to_vec(),
                bundle: own.root().to_vec(),
                hint: String::new(),
            }
        };
        assert!(read(vec![of(own.leaf(ID).issue())], &[]).entries[0].usable().is_ok());
        for (what, leaf) in [
            ("expired", own.leaf(ID).valid(now - hours(2), now - hours(1))),
            ("not yet valid", own.leaf(ID).valid(now + hours(1), now + hours(2))),
            ("for servers", own.leaf(ID).server_only()),
            ("for clients", own.leaf(ID).client_only()),
            ("of another root", other.leaf(ID)),
        ] {
            let received = read(vec![of(leaf.issue())], &[]);
            let error = received.entries[0].usable().unwrap_err();
            assert!(matches!(error, AgentError::Unusable { .. }), "{what}");
            assert!(matches!(
                received.flaws.as_slice(),
                [FlawError::Svid { source: SvidFlawError::Refused(_), .. }]
            ));
        }
    }
}
