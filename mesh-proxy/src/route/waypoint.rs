//! Waypoints: which one a service uses, where it is, and who is one.

use std::sync::Arc;

use fastrand::Rng;

use super::{
    balance::{Balance, NoEndpoint, Purpose},
    upstream::Upstream,
};
use crate::state::{Endpoint, GatewayDestination, GatewayReference, Service, Snapshot, Workload};

/// The waypoint for one connection to a service: drawn by weight where there are weights.
pub(super) fn choose<'a>(service: &'a Service, rng: &mut Rng) -> Option<&'a GatewayReference> {
    let total: u64 = service.weighted_waypoints.iter().map(|weighted| u64::from(weighted.weight)).sum();
    if total == 0 {
        return service.waypoint.as_ref();
    }
    let mut ticket = rng.u64(..total);
    for weighted in &service.weighted_waypoints {
        match ticket.checked_sub(weighted.weight.into()) {
            Some(rest) => ticket = rest,
            None => return Some(&weighted.destination),
        }
    }
    None
}

/// Finds the workload behind a reference to a gateway; `None` if there is none.
///
/// A gateway that is a service is balanced by the service's rules, except that passing through makes no sense
/// for one.
pub(super) fn locate<'a>(
    snapshot: &'a Snapshot,
    reference: &GatewayReference,
    source: &Workload,
    rng: &mut Rng,
) -> Result<Upstream<'a>, NoEndpoint> {
    match referent(snapshot, reference) {
        Some(Referent::Service(service)) => {
            let purpose = Purpose::Gateway;
            let balance = Balance { source, service, service_port: reference.port, purpose };
            let chosen = balance.choose(snapshot.endpoints(&service.id), rng)?;
            Ok(Upstream { workload: &chosen.endpoint.workload, port: chosen.port, service: Some(service) })
        }
        Some(Referent::Workload(workload)) if workload.network != source.network => {
            Err(NoEndpoint::OtherNetwork)
        }
        Some(Referent::Workload(workload)) => Ok(Upstream { workload, port: reference.port, service: None }),
        None => Err(NoEndpoint::Unfit),
    }
}

/// Whether `is_meant` holds for the workload behind a reference to a gateway, or for one of several.
pub(super) fn is_behind(
    snapshot: &Snapshot,
    reference: &GatewayReference,
    is_meant: impl Fn(&Workload) -> bool,
) -> bool {
    match referent(snapshot, reference) {
        Some(Referent::Service(service)) => {
            snapshot.endpoints(&service.id).iter().any(|Endpoint { workload, .. }| is_meant(workload))
        }
        Some(Referent::Workload(workload)) => is_meant(workload),
        None => false,
    }
}

/// What a reference to a gateway names.
enum Referent<'a> {
    Service(&'a Arc<Service>),
    Workload(&'a Arc<Workload>),
}

fn referent<'a>(snapshot: &'a Snapshot, reference: &GatewayReference) -> Option<Referent<'a>> {
    let (service, workload) = match &reference.destination {
        GatewayDestination::Address(address) => {
            (snapshot.service_at(address, None), snapshot.workload_at(address))
        }
        GatewayDestination::Hostname(name) => (snapshot.service(name), snapshot.workload_by_hostname(name)),
    };
    service.map(Referent::Service).or_else(|| workload.map(Referent::Workload))
}
