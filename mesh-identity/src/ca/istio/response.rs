//! What is taken of an answer: nothing that would fail later, or be somebody else's.

use std::{sync::Arc, time::SystemTime};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject, SectionKind},
    },
};
use zeroize::Zeroizing;

use crate::{
    IssuedSvid, SpiffeId, SvidError, TrustBundle, TrustBundleError, TrustBundles, VerifyError, X509Svid,
    leaf::{is_authority, parse_certificate},
    verify::check_own,
};

/// Checks everything that can be checked: that the chain is for `requested`, belongs to `key`, is in date, and
/// leads to the roots beside it.
///
/// An element before the last may hold several certificates: some authorities send all intermediates in one.
pub(crate) fn accept(
    cert_chain: &[String],
    key: PrivatePkcs8KeyDer<'static>,
    requested: &SpiffeId,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<IssuedSvid, ResponseError> {
    let key = Zeroizing::new(key);
    let (last, chain) = cert_chain.split_last().ok_or(ResponseError::Empty)?;
    if chain.is_empty() {
        return Err(ResponseError::NoRoots);
    }
    let mut certificates = Vec::with_capacity(chain.len());
    for (element, text) in chain.iter().enumerate() {
        let before = certificates.len();
        for certificate in certificates_of(element, text) {
            certificates.push(certificate?);
        }
        if certificates.len() == before {
            return Err(ResponseError::NoCertificate { element });
        }
    }
    let mut roots = certificates_of(chain.len(), last).collect::<Result<Vec<_>, _>>()?;
    if roots.is_empty() {
        return Err(ResponseError::NoRoots);
    }
    // One root that cannot be used takes nothing from the others.
    let all = roots.len();
    roots.retain(|root| {
        parse_certificate(root).is_some_and(|root| is_authority(&root))
            && webpki::anchor_from_trusted_cert(root).is_ok()
    });
    if roots.len() < all {
        tracing::warn!(
            target: "ca",
            unusable = all - roots.len(),
            "the authority sent roots that cannot be read or are no authorities"
        );
    }
    let bundle = TrustBundle::from_der(requested.trust_domain().clone(), roots)?;

    let svid = X509Svid::from_der(certificates, key.clone_key(), provider)?;
    if svid.id() != requested {
        return Err(ResponseError::Identity { requested: requested.clone(), received: svid.id().clone() });
    }
    check_own(&svid, &Arc::new(TrustBundles::new([bundle.clone()])), provider, now)?;
    Ok(IssuedSvid { svid, bundle })
}

/// The certificates of one text, which must contain nothing else.
fn certificates_of(
    element: usize,
    text: &str,
) -> impl Iterator<Item = Result<CertificateDer<'static>, ResponseError>> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).map(move |section| match section {
        Ok((SectionKind::Certificate, der)) => Ok(der.into()),
        Ok(_) => Err(ResponseError::Section { element }),
        Err(source) => Err(ResponseError::Pem { element, source }),
    })
}

/// Why an answer of a certificate authority is of no use. Elements are counted from zero, the leaf.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// It contains nothing.
    #[error("response is empty")]
    Empty,
    /// The certificate is somebody else's.
    #[error("certificate is for {received} instead of {requested}")]
    Identity {
        /// Whom it was requested for.
        requested: SpiffeId,
        /// Whom it names.
        received: SpiffeId,
    },
    /// An element has no certificate.
    #[error("element {element} contains no certificate")]
    NoCertificate {
        /// Its place.
        element: usize,
    },
    /// There are no roots, only the leaf.
    #[error("response contains no roots")]
    NoRoots,
    /// An element is not PEM.
    #[error("element {element} is not pem")]
    Pem {
        /// Its place.
        element: usize,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// No root can be used.
    #[error("roots are unusable")]
    Roots(#[from] TrustBundleError),
    /// An element contains something else than certificates.
    #[error("element {element} contains something else than certificates")]
    Section {
        /// Its place.
        element: usize,
    },
    /// The chain is no SVID, or not one for our key.
    #[error("certificate is unusable")]
    Svid(#[from] SvidError),
    /// The chain is out of date, for another purpose, or does not lead to the roots beside it.
    #[error("certificate would not be accepted by a peer")]
    Verify(#[from] VerifyError),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::KeyPair;

    use super::*;
    use crate::{
        Role,
        testing::{Authority, provider},
    };

    const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

    struct Answer {
        chain: Vec<String>,
        key: PrivatePkcs8KeyDer<'static>,
    }

    impl Answer {
        fn of(authority: &Authority, leaf: crate::testing::LeafBuilder<'_>) -> Self {
            let pem = leaf.issue().pem();
            let mut chain: Vec<_> =
                pem.chain().split_inclusive("-----END CERTIFICATE-----").map(str::to_owned).collect();
            chain.retain(|text| text.contains("BEGIN"));
            chain.push(authority.root_pem());
            let key = PrivatePkcs8KeyDer::from_pem_slice(pem.key().as_bytes()).unwrap();
            Self { chain, key }
        }

        fn accept(self) -> Result<IssuedSvid, ResponseError> {
            accept(&self.chain, self.key, &ID.parse().unwrap(), SystemTime::now(), &provider())
        }
    }

    fn flawless() -> Answer {
        let authority = Authority::new("example.org");
        Answer::of(&authority, authority.leaf(ID))
    }

    #[test]
    fn a_flawless_answer_is_taken() {
        let accepted = flawless().accept().unwrap();
        assert_eq!(accepted.svid.id().as_str(), ID);
        assert_eq!(accepted.bundle.certificates().len(), 1);
    }

    // identity#34
    #[test]
    fn every_flaw_has_its_error() {
        type Flaw = (fn(&mut Answer), fn(&ResponseError) -> bool);
        let flaws: [Flaw; 9] = [
            (|a| a.chain.clear(), |e| matches!(e, ResponseError::Empty)),
            (|a| a.chain.truncate(1), |e| matches!(e, ResponseError::NoRoots)),
            (|a| a.chain[1].clear(), |e| matches!(e, ResponseError::NoRoots)),
            (|a| a.chain[0] = "garbage".into(), |e| matches!(e, ResponseError::NoCertificate { element: 0 })),
            (
                |a| a.chain[0] = a.chain[0].replace("-----END", "----"),
                |e| matches!(e, ResponseError::Pem { element: 0, .. }),
            ),
            (
                |a| a.chain[1] += &KeyPair::generate().unwrap().serialize_pem(),
                |e| matches!(e, ResponseError::Section { element: 1 }),
            ),
            (
                |a| a.chain[0] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".into(),
                |e| matches!(e, ResponseError::Svid(SvidError::Leaf(_))),
            ),
            (
                |a| a.key = KeyPair::generate().unwrap().serialize_der().into(),
                |e| matches!(e, ResponseError::Svid(SvidError::KeyMismatch(_))),
            ),
            (
                |a| a.chain[1] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".into(),
                |e| matches!(e, ResponseError::Roots(TrustBundleError::Empty)),
            ),
        ];
        for (index, (spoil, is_right)) in flaws.into_iter().enumerate() {
            let mut answer = flawless();
            spoil(&mut answer);
            let error = answer.accept().unwrap_err();
            assert!(is_right(&error), "flaw {index}: {error:?}");
        }
    }

    // identity#34
    #[test]
    fn certificates_that_a_peer_would_refuse_are_not_taken() {
        let (authority, other) = (Authority::new("example.org"), Authority::new("example.org"));
        let accept = |leaf| Answer::of(&authority, leaf).accept().unwrap_err();
        let leaf = || authority.leaf(ID);
        let verify = |error: ResponseError| match error {
            ResponseError::Verify(error) => error,
            other => panic!("{other:?}"),
        };
        let wrong = authority.leaf("spiffe://example.org/ns/shop/sa/stock");
        assert!(matches!(accept(wrong), ResponseError::Identity { .. }));
        assert!(matches!(verify(accept(leaf().expired())), VerifyError::Expired { .. }));
        assert!(matches!(verify(accept(leaf().not_yet_valid())), VerifyError::NotYetValid { .. }));
        assert!(matches!(
            verify(accept(leaf().client_only())),
            VerifyError::Purpose { role: Role::Server, .. }
        ));
        assert!(matches!(
            verify(accept(leaf().server_only())),
            VerifyError::Purpose { role: Role::Client, .. }
        ));
        let foreign = Answer::of(&authority, other.leaf(ID)).accept().unwrap_err();
        assert!(matches!(verify(foreign), VerifyError::Chain { .. }));
        let uris = leaf().uris([ID, "spiffe://example.org/ns/shop/sa/stock"]);
        assert!(matches!(accept(uris), ResponseError::Svid(SvidError::Leaf(_))));
        assert!(matches!(accept(leaf().certificate_authority()), ResponseError::Svid(SvidError::Leaf(_))));
    }

    // identity#35, identity#88
    #[test]
    fn the_last_element_is_all_roots_and_what_is_between_keeps_its_order() {
        let root = Authority::new("example.org");
        let issuing = root.intermediate().intermediate();
        let mut answer = Answer::of(&issuing, issuing.leaf(ID));
        let more = [(); 2].map(|()| Authority::new("example.org").root_pem());
        answer.chain.iter_mut().for_each(|element| element.push('\n'));
        answer.chain[3] += &more.join("\n");
        let sent = answer.chain.clone();
        let accepted = answer.accept().unwrap();
        assert_eq!(accepted.bundle.certificates().len(), 3);
        assert_eq!(accepted.bundle.certificates()[0], root.root());
        let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        let expected: Vec<_> = sent[..3].iter().map(|text| der(text)).collect();
        assert_eq!(accepted.svid.chain(), expected);
    }

    // identity#69
    #[test]
    fn an_unreadable_root_takes_nothing_from_the_others() {
        let mut answer = flawless();
        answer.chain[1] += "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert_eq!(answer.accept().unwrap().bundle.certificates().len(), 1);
    }

    // identity#34: an authority that does not backdate what it issues.
    #[test]
    fn a_clock_that_is_a_little_behind_the_authoritys_refuses_nothing() {
        let answer = flawless();
        let certificates = certificates_of(0, &answer.chain[0]).map(Result::unwrap);
        let svid = X509Svid::from_der(certificates, answer.key.clone_key(), &provider()).unwrap();
        let accept = |seconds| {
            let now = svid.not_before() - Duration::from_secs(seconds);
            accept(&answer.chain, answer.key.clone_key(), &ID.parse().unwrap(), now, &provider())
        };
        assert!(accept(30).is_ok());
        assert!(matches!(accept(90), Err(ResponseError::Verify(VerifyError::NotYetValid { .. }))));
    }

    #[test]
    fn time_is_the_callers() {
        let answer = flawless();
        let later = SystemTime::now() + Duration::from_secs(48 * 60 * 60);
        let error = accept(&answer.chain, answer.key, &ID.parse().unwrap(), later, &provider()).unwrap_err();
        assert!(matches!(error, ResponseError::Verify(VerifyError::Expired { .. })));
    }
}
