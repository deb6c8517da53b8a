use std::sync::{Arc, Mutex, PoisonError};

use hbone::{Baggage, WorkloadKind};
use http::HeaderValue;

use crate::state::{Workload, WorkloadType};

/// What peers are told about a workload of ours, for their telemetry.
pub(crate) fn describe(workload: &Workload) -> Baggage {
    let kind = match workload.workload_type {
        WorkloadType::CronJob => WorkloadKind::CronJob,
        WorkloadType::Deployment => WorkloadKind::Deployment,
        WorkloadType::Job => WorkloadKind::Job,
        WorkloadType::Pod => WorkloadKind::Pod,
    };
    Baggage::new()
        .with_cluster(Arc::clone(&workload.cluster_id))
        .with_namespace(Arc::clone(workload.namespace()))
        .with_workload(kind, Arc::clone(&workload.workload_name))
        .with_service_name(Arc::clone(&workload.canonical_name))
        .with_service_version(Arc::clone(&workload.canonical_revision))
        .with_region(Arc::clone(&workload.locality.region))
        .with_zone(Arc::clone(&workload.locality.zone))
}

/// The `baggage` header of the local workload, made once for each of its records.
#[derive(Debug, Default)]
pub(crate) struct LocalBaggage {
    last: Mutex<Option<(Arc<Workload>, HeaderValue)>>,
}

impl LocalBaggage {
    /// The header for `workload`; costs a reference count unless the record is a new one.
    pub(crate) fn header(&self, workload: &Arc<Workload>) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, header)) = &*last
            && Arc::ptr_eq(known, workload)
        {
            return header.clone();
        }
        let header = describe(workload).to_header_value();
        *last = Some((Arc::clone(workload), header.clone()));
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart(revision: &str) -> Arc<Workload> {
        let mut workload = Workload::new("cluster1//Pod/shop/cart-0", "example.org", "shop", "cart").unwrap();
        workload.workload_name = "cart".into();
        workload.workload_type = WorkloadType::Job;
        workload.canonical_name = "cart".into();
        workload.canonical_revision = revision.into();
        workload.locality.region = "eu".into();
        Arc::new(workload)
    }

    /// routing#47, routing#48
    #[test]
    fn baggage_has_a_fixed_order_and_no_empty_field() {
        let expected = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.job.name=cart,service.name=cart,\
                        service.version=v1,cloud.region=eu";
        assert_eq!(describe(&cart("v1")).to_header_value(), expected);
    }

    #[test]
    fn a_new_record_of_the_workload_has_a_new_header() {
        let baggage = LocalBaggage::default();
        let first = cart("v1");
        assert_eq!(baggage.header(&first), baggage.header(&first));
        assert_ne!(baggage.header(&first), baggage.header(&cart("v2")));
    }
}
