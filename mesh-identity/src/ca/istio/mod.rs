//! A client of Istio's certificate API.

mod address;
mod builder;
mod error;
mod request;
mod response;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};
use tonic::{Request, metadata::MetadataMap};

pub use address::{CaAddress, CaAddressError};
pub use builder::{IstioCaBuilder, IstioCaBuilderError};
pub use error::IstioCaError;
pub use response::ResponseError;
pub(crate) use response::accept;

use self::request::SigningRequest;
use crate::{
    CertificateAuthority, ChannelError, IssueFuture, IssuedSvid, SpiffeId, TokenSource, grpc::Channel,
    proto::istio::istio_certificate_service_client::IstioCertificateServiceClient,
};

/// Istio's certificate authority, or one that speaks its API: `istiod`, `istio-csr`, `mesh-control`.
///
/// Each request has a key of its own, which does not leave the process. What comes back is taken only if a
/// peer would take it. Calls share one connection, dialled when the first needs it, within deadlines.
#[derive(Clone)]
pub struct IstioCa(Arc<Shared>);

struct Shared {
    channel: Channel,
    origin: Uri,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    token: Option<TokenSource>,
    headers: HeaderMap,
    impersonate: bool,
    call_timeout: Duration,
}

impl IstioCa {
    /// Starts to describe the authority at `address`. `provider` computes for TLS and checks what comes back.
    pub fn builder(address: CaAddress, provider: Arc<CryptoProvider>) -> IstioCaBuilder {
        IstioCaBuilder::new(address, provider)
    }

    async fn request(&self, id: &SpiffeId, lifetime: Duration) -> Result<IssuedSvid, IstioCaError> {
        let Shared { call_timeout, .. } = *self.0;
        let call = async {
            match self.call(id, lifetime).await {
                // A server that went away while nothing was asked of it is noticed by asking: no attempt at all.
                Err(IstioCaError::Channel(ChannelError::Lost(_))) => self.call(id, lifetime).await,
                called => called,
            }
        };
        match tokio::time::timeout(call_timeout, call).await {
            Ok(issued) => issued,
            Err(_) => Err(IstioCaError::Deadline { after: call_timeout }),
        }
    }

    async fn call(&self, id: &SpiffeId, lifetime: Duration) -> Result<IssuedSvid, IstioCaError> {
        let shared = &*self.0;
        let mut headers = shared.headers.clone();
        if let Some(token) = &shared.token {
            headers.insert(AUTHORIZATION, token.header().await?);
        }
        let SigningRequest { pem, key } = SigningRequest::new(id).map_err(IstioCaError::Request)?;
        let message = request::message(pem, lifetime, shared.impersonate.then_some(id));
        let mut request =
            Request::from_parts(MetadataMap::from_headers(headers), tonic::Extensions::new(), message);
        request.set_timeout(shared.call_timeout);
        let answer =
            IstioCertificateServiceClient::with_origin(shared.channel.clone(), shared.origin.clone())
                .max_decoding_message_size(MAX_RESPONSE)
                .create_certificate(request)
                .await?
                .into_inner();
        let now = shared
            .time
            .current_time()
            .map_or(UNIX_EPOCH, |now| UNIX_EPOCH + Duration::from_secs(now.as_secs()));
        Ok(accept(&answer.cert_chain, key.clone_key(), id, now, &shared.provider)?)
    }
}

impl CertificateAuthority for IstioCa {
    fn issue<'a>(&'a self, id: &'a SpiffeId, lifetime: Duration) -> IssueFuture<'a> {
        Box::pin(async move { Ok(self.request(id, lifetime).await?) })
    }
}

impl fmt::Debug for IstioCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IstioCa").field("origin", &self.0.origin).finish_non_exhaustive()
    }
}

/// A chain, and all roots of a mesh several times over.
const MAX_RESPONSE: usize = 1024 * 1024;
