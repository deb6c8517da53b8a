//! The certificate a side of a connection presents, and what it trusts: given once, or asked for in each
//! handshake.

use std::sync::Arc;

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{CertSelector, IdentitySource, TrustBundles, X509Svid, verify::Trust};

#[derive(Clone, Debug)]
pub(super) enum Credentials {
    Fixed { svid: Arc<X509Svid>, bundles: Arc<TrustBundles> },
    Live { source: Arc<dyn IdentitySource>, selector: CertSelector },
}

impl Credentials {
    pub(super) fn trust(&self) -> Trust {
        match self {
            Self::Fixed { bundles, .. } => Trust::Fixed(Arc::clone(bundles)),
            Self::Live { source, .. } => Trust::Live(Arc::clone(source)),
        }
    }

    fn key(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Fixed { svid, .. } => Some(Arc::clone(svid.certified_key())),
            Self::Live { source, selector } => {
                source.try_svid(selector.id(server_name)?).map(|svid| Arc::clone(svid.certified_key()))
            }
        }
    }
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key(client_hello.server_name())
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.key(None)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
