use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_identity::ExpectedPeer;

use super::RouteError;
use crate::state::{IpFamilies, Service, Workload};

/// A workload chosen to be dialled or tunnelled to, before an address of it is.
#[derive(Debug)]
pub(super) struct Upstream<'a> {
    pub(super) workload: &'a Arc<Workload>,
    /// The port on which it serves.
    pub(super) port: u16,
    /// The service through which it was found.
    pub(super) service: Option<&'a Arc<Service>>,
}

impl Upstream<'_> {
    /// The address and port to use: the address that was asked for if the workload owns it, or else one of
    /// the same family, or else any that the service's families allow.
    pub(super) fn socket_address(&self, asked: IpAddr) -> Result<SocketAddr, RouteError> {
        self.address(asked).map(|address| SocketAddr::new(address, self.port))
    }

    /// The identities that may answer: the workload's own and those that the service lists.
    ///
    /// Shared by all connections unless the service lists some, as Kubernetes services never do.
    pub(super) fn expected_peer(&self) -> ExpectedPeer {
        let own = self.workload.expected_peer();
        match self.service {
            Some(service) if !service.subject_alt_names.is_empty() => {
                let listed = service.subject_alt_names.iter().cloned();
                ExpectedPeer::exact(listed.chain([self.workload.identity().clone()]))
            }
            _ => own.clone(),
        }
    }

    fn address(&self, asked: IpAddr) -> Result<IpAddr, RouteError> {
        let addresses = &self.workload.addresses;
        if addresses.contains(&asked) {
            return Ok(asked);
        }
        let families = self.service.and_then(|service| service.ip_families);
        let allowed = || {
            addresses.iter().copied().filter(move |address| match families {
                None | Some(IpFamilies::Dual) => true,
                Some(IpFamilies::V4) => address.is_ipv4(),
                Some(IpFamilies::V6) => address.is_ipv6(),
            })
        };
        if let Some(address) = allowed().find(|address| address.is_ipv4() == asked.is_ipv4()) {
            return Ok(address);
        }
        allowed().next().ok_or_else(|| {
            if self.workload.hostname.is_empty() {
                RouteError::NoValidDestination { uid: Arc::clone(&self.workload.uid) }
            } else {
                RouteError::UnresolvedHostname { hostname: Arc::clone(&self.workload.hostname) }
            }
        })
    }
}
