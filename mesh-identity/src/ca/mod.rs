//! Certificate authorities: the seam, those that live in this process, and clients of others.

mod authority;
#[cfg(any(feature = "dev-ca", feature = "testing"))]
mod in_process;
#[cfg(feature = "istio-ca")]
mod istio;
#[cfg(feature = "workload-api")]
mod workload_api;

pub use authority::{CertificateAuthority, IssueError, IssueFault, IssueFuture, IssuedSvid};
#[cfg(all(any(test, fuzzing), feature = "istio-ca"))]
pub(crate) use istio::accept as accept_istio;
#[cfg(feature = "istio-ca")]
pub use istio::{
    CaAddress, CaAddressError, IstioCa, IstioCaBuilder, IstioCaBuilderError, IstioCaError, ResponseError,
};
#[cfg(all(any(test, fuzzing), feature = "workload-api"))]
pub(crate) use workload_api::read_agent;
#[cfg(feature = "workload-api")]
pub use workload_api::{
    AgentEndpoint, AgentEndpointError, AgentError, DelegatedIdentity, DelegatedIdentityDriver, Subscription,
    WorkloadApi, WorkloadApiDriver, WorkloadSelectors,
};
