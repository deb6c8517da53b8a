//! A stream or a request, in values of its own.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{IpAddr, SocketAddr};

use mesh_policy::{
    Semantics,
    waypoint::{
        ClaimValue, Claims, FilterMetadata, Headers, PathNormalization, RequestFacts, Service, ServiceKind,
        StreamFacts, Target,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) place: Place,
    pub(crate) source: IpAddr,
    pub(crate) remote: IpAddr,
    pub(crate) peer: Option<String>,
    pub(crate) destination: SocketAddr,
    pub(crate) sni: Option<String>,
    pub(crate) metadata: Vec<(String, String, ClaimValue)>,
    pub(crate) method: String,
    pub(crate) authority: Option<String>,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) claims: Option<Claims>,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Gateway { namespace: String, name: String, labels: Vec<(String, String)> },
    Waypoint { namespace: String, name: String, service: Option<(ServiceKind, String, String)> },
    Workload { namespace: String, labels: Vec<(String, String)> },
}

impl Call {
    /// Calls back with the facts, which borrow.
    pub(crate) fn with_facts<T>(&self, use_them: impl FnOnce(&RequestFacts<'_>) -> T) -> T {
        let labels = match &self.place {
            Place::Gateway { labels, .. } | Place::Workload { labels, .. } => labels.as_slice(),
            Place::Waypoint { .. } => &[],
        };
        let labels: Vec<_> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let target = match &self.place {
            Place::Gateway { namespace, name, .. } => Target::Gateway { namespace, name, labels: &labels },
            Place::Waypoint { namespace, name, service } => Target::Waypoint {
                namespace,
                name,
                service: service.as_ref().map(|(kind, namespace, name)| Service {
                    kind: *kind,
                    namespace,
                    name,
                }),
            },
            Place::Workload { namespace, .. } => Target::Workload { namespace, labels: &labels },
        };
        let metadata: Vec<_> =
            self.metadata.iter().map(|(filter, key, value)| FilterMetadata { filter, key, value }).collect();
        let lines: Vec<_> =
            self.headers.iter().map(|(name, line)| (name.as_str(), line.as_slice())).collect();
        let path = PathNormalization::None.normalize(&self.path, Semantics::Istio).expect("no fragment");
        use_them(&RequestFacts {
            stream: StreamFacts {
                target,
                source: self.source,
                remote: self.remote,
                peer: self.peer.as_deref(),
                destination: self.destination,
                sni: self.sni.as_deref(),
                metadata: &metadata,
            },
            method: &self.method,
            authority: self.authority.as_deref(),
            path: &path,
            headers: Headers::Lines(&lines),
            claims: self.claims.as_ref(),
        })
    }
}
