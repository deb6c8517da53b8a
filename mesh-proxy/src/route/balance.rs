//! Choosing one endpoint of a service: at random by capacity, among the candidates that rank highest.

use fastrand::Rng;

use crate::state::{
    Endpoint, EndpointTable, Health, HealthPolicy, LoadBalancer, LoadBalancerMode, Scope, Service, Workload,
};

/// What a chosen endpoint is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To serve an application's connection.
    Application,
    /// To be the next hop of a tunnel, on a port that the service itself may not list.
    Gateway,
}

/// A choice to be made.
#[derive(Debug)]
pub(super) struct Balance<'a> {
    pub(super) source: &'a Workload,
    pub(super) service: &'a Service,
    pub(super) service_port: u16,
    pub(super) purpose: Purpose,
}

/// An endpoint and the port on which it serves.
#[derive(Debug)]
pub(super) struct Chosen<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) port: u16,
}

/// Why no endpoint can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoEndpoint {
    /// All candidates are on other networks.
    OtherNetwork,
    /// There are none, or none is fit.
    Unfit,
}

impl Balance<'_> {
    /// Chooses an endpoint. Allocates nothing; usually constant time, at worst linear in the number of
    /// endpoints.
    pub(super) fn choose<'a>(
        &self,
        table: &'a EndpointTable,
        rng: &mut Rng,
    ) -> Result<Chosen<'a>, NoEndpoint> {
        if self.purpose == Purpose::Application && self.service.ports.get(self.service_port).is_none() {
            return Err(NoEndpoint::Unfit);
        }
        if let Some(chosen) = self.guess(table, rng) {
            return Ok(chosen);
        }
        self.scan(table, rng)
    }

    /// Draws endpoints until one is accepted, each with a probability proportional to its capacity: the same
    /// distribution as a full scan, at a cost that does not grow with the service.
    fn guess<'a>(&self, table: &'a EndpointTable, rng: &mut Rng) -> Option<Chosen<'a>> {
        if self.balancer().is_some() || table.len() <= GUESSES {
            return None;
        }
        for _ in 0..GUESSES {
            let endpoint = table.at(rng.usize(..table.len()))?;
            let Fitness::Fit { port, .. } = self.fitness(endpoint) else { continue };
            if rng.u32(..table.highest_capacity().max(1)) < endpoint.workload.capacity {
                return Some(Chosen { endpoint, port });
            }
        }
        None
    }

    fn scan<'a>(&self, table: &'a EndpointTable, rng: &mut Rng) -> Result<Chosen<'a>, NoEndpoint> {
        let endpoints = || (0..table.len()).filter_map(|position| table.at(position));
        let (mut highest, mut total, mut other_network) = (0, 0_u64, false);
        for endpoint in endpoints() {
            match self.fitness(endpoint) {
                Fitness::Fit { rank, .. } if rank > highest || total == 0 => {
                    (highest, total) = (rank, endpoint.workload.capacity.into());
                }
                Fitness::Fit { rank, .. } if rank == highest => {
                    total += u64::from(endpoint.workload.capacity)
                }
                Fitness::Fit { .. } | Fitness::Unfit => {}
                Fitness::OtherNetwork => other_network = true,
            }
        }
        let nothing = if other_network { NoEndpoint::OtherNetwork } else { NoEndpoint::Unfit };
        if total == 0 {
            return Err(nothing);
        }
        let mut ticket = rng.u64(..total);
        for endpoint in endpoints() {
            let Fitness::Fit { rank, port } = self.fitness(endpoint) else { continue };
            if rank != highest {
                continue;
            }
            match ticket.checked_sub(endpoint.workload.capacity.into()) {
                Some(rest) => ticket = rest,
                None => return Ok(Chosen { endpoint, port }),
            }
        }
        Err(nothing)
    }

    fn fitness(&self, endpoint: &Endpoint) -> Fitness {
        let workload = &*endpoint.workload;
        let policy =
            self.service.load_balancer.as_ref().map_or(HealthPolicy::OnlyHealthy, |b| b.health_policy);
        if workload.capacity == 0
            || policy == HealthPolicy::OnlyHealthy && workload.status == Health::Unhealthy
            || self.is_strict()
                && !self.preferences().iter().all(|&scope| agree(scope, self.source, workload))
        {
            return Fitness::Unfit;
        }
        let Some(port) = self.target_port(endpoint) else { return Fitness::Unfit };
        if workload.network != self.source.network {
            return Fitness::OtherNetwork;
        }
        if workload.addresses.is_empty() && workload.hostname.is_empty() {
            return Fitness::Unfit;
        }
        Fitness::Fit { rank: rank(self.preferences(), self.source, workload), port }
    }

    /// The port on which an endpoint serves: its own mapping first, then the service's, then, for a gateway
    /// whose application takes tunnelled connections on one port, the port asked for.
    fn target_port(&self, endpoint: &Endpoint) -> Option<u16> {
        let known = |port: &u16| *port != 0;
        endpoint
            .ports
            .get(self.service_port)
            .filter(known)
            .or_else(|| self.service.ports.get(self.service_port).filter(known))
            .or_else(|| {
                let tunnel = endpoint.workload.application_tunnel?;
                (self.purpose == Purpose::Gateway && tunnel.port.is_some()).then_some(self.service_port)
            })
    }

    /// The settings of a service whose endpoints are not all alike.
    fn balancer(&self) -> Option<&LoadBalancer> {
        self.service.load_balancer.as_ref().filter(|balancer| balancer.mode != LoadBalancerMode::Standard)
    }

    fn preferences(&self) -> &[Scope] {
        self.balancer().map_or(&[], |balancer| &balancer.preferences)
    }

    fn is_strict(&self) -> bool {
        self.balancer().is_some_and(|balancer| balancer.mode == LoadBalancerMode::Strict)
    }
}

/// How an endpoint qualifies.
#[derive(Clone, Copy, Debug)]
enum Fitness {
    Fit { rank: usize, port: u16 },
    OtherNetwork,
    Unfit,
}

/// How many preferences hold before the first that does not.
///
/// The network is special where it comes first: a different one does not end the count, and the same one
/// outweighs everything else together.
pub(super) fn rank(preferences: &[Scope], source: &Workload, candidate: &Workload) -> usize {
    let mut rank = 0;
    for (position, &scope) in preferences.iter().enumerate() {
        let leads_with_network = position == 0 && scope == Scope::Network;
        match (agree(scope, source, candidate), leads_with_network) {
            (true, true) => rank += preferences.len(),
            (true, false) => rank += 1,
            (false, true) => {}
            (false, false) => break,
        }
    }
    rank
}

/// Whether two workloads have this much in common. Unknown equals unknown, as in Istio.
fn agree(scope: Scope, source: &Workload, candidate: &Workload) -> bool {
    match scope {
        Scope::Cluster => source.cluster_id == candidate.cluster_id,
        Scope::Network => source.network == candidate.network,
        Scope::Node => source.node == candidate.node,
        Scope::Region => source.locality.region == candidate.locality.region,
        Scope::Subzone => source.locality.subzone == candidate.locality.subzone,
        Scope::Zone => source.locality.zone == candidate.locality.zone,
    }
}

/// Draws before falling back to a scan. With half of the endpoints fit, one connection in 256 scans.
const GUESSES: usize = 8;
