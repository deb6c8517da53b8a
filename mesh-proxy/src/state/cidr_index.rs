use std::{cmp::Reverse, sync::Arc};

use ipnet::IpNet;
use rpds::RedBlackTreeMapSync;

use super::{CidrVip, NetworkAddress, Service, index::Index};

/// Services by ranges of addresses: one look-up per prefix length in use.
#[derive(Clone, Debug, Default)]
pub(super) struct CidrIndex {
    services: Index<CidrVip, Service>,
    lengths: RedBlackTreeMapSync<Length, usize>,
}

/// A prefix length within an address family, longest first.
type Length = (bool, Reverse<u8>);

impl CidrIndex {
    /// The service whose range around `address` ranks highest: those of the client's namespace first, then by
    /// prefix length, then canonical ones, then the one that came first.
    pub(super) fn get(
        &self,
        address: &NetworkAddress,
        client_namespace: Option<&str>,
    ) -> Option<&Arc<Service>> {
        if self.services.is_empty() {
            return None;
        }
        let family = address.address().is_ipv6();
        let mut best: Option<(_, &Arc<Service>)> = None;
        for (&(_, Reverse(length)), _) in
            self.lengths.range((family, Reverse(u8::MAX))..=(family, Reverse(0)))
        {
            let Ok(cidr) = IpNet::new(address.address(), length) else { continue };
            let key = CidrVip { network: Arc::clone(address.network()), cidr: cidr.trunc() };
            for service in self.services.get(&key) {
                let rank = (client_namespace == Some(service.namespace()), length, service.canonical);
                if service.is_visible_to(client_namespace) && best.is_none_or(|(highest, _)| rank > highest) {
                    best = Some((rank, service));
                }
            }
        }
        best.map(|(_, service)| service)
    }

    /// Replaces a service by its next version, either of which may be absent.
    pub(super) fn replace(&mut self, old: Option<&Arc<Service>>, new: Option<&Arc<Service>>) {
        self.services.replace(old, new, ranges);
        for cidr in old.map_or_else(Vec::new, |service| ranges(service)) {
            let length = length_of(&cidr);
            match self.lengths.get(&length) {
                Some(&count) if count > 1 => self.lengths.insert_mut(length, count - 1),
                _ => drop(self.lengths.remove_mut(&length)),
            }
        }
        for cidr in new.map_or_else(Vec::new, |service| ranges(service)) {
            let length = length_of(&cidr);
            let count = self.lengths.get(&length).copied().unwrap_or(0);
            self.lengths.insert_mut(length, count + 1);
        }
    }
}

fn ranges(service: &Service) -> Vec<CidrVip> {
    let truncated = |vip: &CidrVip| CidrVip { network: Arc::clone(&vip.network), cidr: vip.cidr.trunc() };
    service.cidr_vips.iter().map(truncated).collect()
}

fn length_of(range: &CidrVip) -> Length {
    (matches!(range.cidr, IpNet::V6(_)), Reverse(range.cidr.prefix_len()))
}
