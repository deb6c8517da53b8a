//! The messages and services generated from `proto/`.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unnameable_types,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::or_fun_call,
    clippy::use_self,
    clippy::unwrap_used,
    reason = "generated code"
)]

#[cfg(feature = "istio-ca")]
pub mod istio {
    tonic::include_proto!("istio.v1.auth");
}
#[cfg(feature = "workload-api")]
pub mod spiffe {
    tonic::include_proto!("_");
}
// As deep as the packages, since the generated code refers to one from the other.
#[cfg(feature = "workload-api")]
pub mod spire {
    pub mod api {
        pub mod agent {
            pub mod delegatedidentity {
                pub mod v1 {
                    tonic::include_proto!("spire.api.agent.delegatedidentity.v1");
                }
            }
        }
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
    }
}
