//! The calls of Istio's certificate API.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use mesh_identity::{
    SpiffeId, TrustDomain,
    proto::istio::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::IstioCertificateService,
    },
};
use mesh_proxy::Report;
use thiserror::Error;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    authority::{Limits, SignError},
    authority_files::AuthoritySource,
    callers::{Callers, Cluster, Forbidden, Unknown, one},
    connection::Conduct,
    failure::Failure,
    line::line,
    workloads::WorkloadsFile,
};

/// An authority as a gRPC service.
pub(super) struct CertificateService {
    pub(super) authority: Arc<AuthoritySource>,
    pub(super) callers: Callers,
    pub(super) workloads: Option<WorkloadsFile>,
    pub(super) trust_domain: TrustDomain,
    pub(super) cluster_id: String,
    pub(super) limits: Limits,
    pub(super) failure: Option<Failure>,
    pub(super) fail_first: Option<u64>,
    pub(super) calls: AtomicU64,
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (headers, extensions, request) = request.into_parts();
        let conduct = extensions.get::<Conduct>();
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let failure = self.failure.filter(|_| self.fail_first.is_none_or(|first| call < first));
        match self.answer(&headers, conduct, request, failure).await {
            Ok(cert_chain) => Ok(Response::new(IstioCertificateResponse { cert_chain })),
            Err(refusal) => {
                tracing::warn!("refused: {}", line(&Report(&refusal)));
                Err(refusal.status())
            }
        }
    }
}

impl CertificateService {
    async fn answer(
        &self,
        headers: &MetadataMap,
        conduct: Option<&Conduct>,
        request: IstioCertificateRequest,
        failure: Option<Failure>,
    ) -> Result<Vec<String>, Refusal> {
        match failure {
            Some(Failure::Hang) => std::future::pending().await,
            Some(Failure::Slow(time)) => tokio::time::sleep(time).await,
            Some(Failure::Refuse) => return Err(Refusal::Unknown(Unknown::Token)),
            Some(Failure::Unavailable) => return Err(Refusal::NotReady),
            _ => {}
        }
        let caller = self.callers.authenticate(headers).await?;
        if let Some(conduct) = conduct {
            conduct.known();
        }
        let requested = impersonated(&request)?;
        let cluster = Cluster { sent: one(headers, "clusterid"), own: &self.cluster_id };
        let workloads = self.workloads.as_ref().map(WorkloadsFile::get);
        let id = caller
            .identity(requested, cluster, &self.trust_domain, workloads.as_deref())
            .map_err(|why| Refusal::Forbidden { caller: caller.name.clone(), why })?;

        let ready = self.authority.get().await;
        let authority = &ready.authority;
        let now = SystemTime::now();
        let refused = |why| Refusal::Sign { caller: caller.name.clone(), why };
        let seconds = request.validity_duration;
        let leaf = match failure {
            Some(Failure::WrongKey) => authority.sign_foreign_key(&id, now + self.limits.default, now),
            Some(Failure::WrongIdentity) => {
                authority.sign(&request.csr, &self.somebody_else(), seconds, &self.limits, now)
            }
            _ => authority.sign(&request.csr, &id, seconds, &self.limits, now),
        };
        let leaf = leaf.map_err(refused)?;
        tracing::info!("signed {id} for {}", caller.name);
        Ok(match failure {
            Some(Failure::LeafOnly) => vec![leaf],
            _ => authority.answer(leaf),
        })
    }

    fn somebody_else(&self) -> SpiffeId {
        let id = format!("spiffe://{}/ns/somebody/sa/else", self.trust_domain);
        id.parse().expect("a trust domain makes an id")
    }
}

/// Whom the certificate is for, if the request says so.
fn impersonated(request: &IstioCertificateRequest) -> Result<Option<&str>, Refusal> {
    let Some(metadata) = &request.metadata else { return Ok(None) };
    match metadata.fields.get("ImpersonatedIdentity").map(|value| &value.kind) {
        None => Ok(None),
        Some(Some(prost_types::value::Kind::StringValue(id))) => Ok(Some(id)),
        Some(_) => Err(Refusal::NoText),
    }
}

/// Why a call gets no certificate; callers see only the status.
#[derive(Debug, Error)]
enum Refusal {
    #[error("{caller}")]
    Forbidden {
        caller: String,
        #[source]
        why: Forbidden,
    },
    #[error("the identity to impersonate is no text")]
    NoText,
    #[error("told to be unavailable")]
    NotReady,
    #[error("{caller}")]
    Sign {
        caller: String,
        #[source]
        why: SignError,
    },
    #[error("an unknown caller")]
    Unknown(#[from] Unknown),
}

impl Refusal {
    /// With the codes and as few words as Istio's authority.
    fn status(&self) -> Status {
        match self {
            Self::Unknown(_) => Status::unauthenticated("request authenticate failure"),
            Self::Forbidden { .. } | Self::NoText => {
                Status::unauthenticated("request impersonation authentication failure")
            }
            Self::Sign { why: SignError::Lifetime { .. } | SignError::Request(_), .. } => {
                Status::invalid_argument("CSR signing error")
            }
            Self::Sign { why: SignError::Sign(_) | SignError::SignerExpired, .. } => {
                Status::internal("CSR signing error")
            }
            Self::NotReady => Status::unavailable("not ready"),
        }
    }
}
