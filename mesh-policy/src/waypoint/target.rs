//! To what a policy applies.

use std::{collections::BTreeMap, sync::Arc};

use super::Mesh;
use crate::{
    object::{AuthorizationPolicy, Extent, Metadata, RequestAuthentication, Selector, TargetRef},
    set::{Folding, fingerprint},
};

/// Whose policies are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A gateway at the edge of the mesh.
    Gateway {
        /// Its namespace.
        namespace: &'a str,
        /// The name of its Gateway object.
        name: &'a str,
        /// The labels of its workload.
        labels: Labels<'a>,
    },
    /// A waypoint.
    Waypoint {
        /// Its namespace.
        namespace: &'a str,
        /// The name of its Gateway object.
        name: &'a str,
        /// The service that was addressed; nothing for traffic to a workload.
        service: Option<Service<'a>>,
    },
    /// A workload that enforces policies itself, as with a sidecar.
    Workload {
        /// Its namespace.
        namespace: &'a str,
        /// Its labels.
        labels: Labels<'a>,
    },
}

/// Labels of a workload, in any order.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A service that a waypoint stands in front of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service<'a> {
    /// What it is.
    pub kind: ServiceKind,
    /// Its namespace.
    pub namespace: &'a str,
    /// The name of its object.
    pub name: &'a str,
}

/// The kinds of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKind {
    /// A Kubernetes Service.
    Service,
    /// A ServiceEntry.
    ServiceEntry,
}

impl AuthorizationPolicy {
    /// Whether the policy applies to a target. A pure function of the two and of the mesh.
    ///
    /// Selectors are for gateways and workloads, never for waypoints; Services, ServiceEntries and the
    /// GatewayClass `istio-waypoint` are for waypoints only. A policy without either applies to all gateways
    /// and workloads of its namespace or, in the root namespace, of the mesh. A target in another namespace
    /// than the policy counts for nothing.
    pub fn applies_to(&self, target: &Target<'_>, mesh: &Mesh) -> bool {
        match self.extent {
            Extent::Mesh => true,
            Extent::Namespace => {
                is_at(&Place::Unknown(self.metadata.namespace.as_str().into()), target, mesh)
            }
            Extent::Written => applies(&self.metadata, self.selector.as_ref(), self.targets(), target, mesh),
        }
    }
}

impl RequestAuthentication {
    /// Whether the object applies to a target, as that of an
    /// [`AuthorizationPolicy`](AuthorizationPolicy::applies_to).
    pub fn applies_to(&self, target: &Target<'_>, mesh: &Mesh) -> bool {
        applies(&self.metadata, self.selector.as_ref(), self.targets(), target, mesh)
    }
}

fn applies<'a>(
    metadata: &Metadata,
    selector: Option<&Selector>,
    targets: impl Iterator<Item = &'a TargetRef>,
    target: &Target<'_>,
    mesh: &Mesh,
) -> bool {
    let at = |place: Place| is_at(&place, target, mesh);
    let mut targets = targets.peekable();
    if targets.peek().is_none() {
        return at(Place::Namespace(metadata.namespace.as_str().into()))
            && selects(selector.map(|selector| &selector.match_labels), target, mesh);
    }
    targets.filter_map(|target| Place::of(target, metadata, mesh)).any(at)
}

fn is_at(place: &Place, target: &Target<'_>, mesh: &Mesh) -> bool {
    target.places(mesh).into_iter().flatten().any(|wanted| place.as_ref() == wanted)
}

/// Whether a selector, or the lack of one, fits the labels of a target.
pub(super) fn selects(selector: Option<&BTreeMap<String, String>>, target: &Target<'_>, mesh: &Mesh) -> bool {
    let labels = match target {
        Target::Waypoint { .. } => return false,
        Target::Gateway { labels, .. } => labels,
        Target::Workload { labels, .. } => labels,
    };
    if matches!(target, Target::Gateway { .. }) && !mesh.gateway_selectors {
        return false;
    }
    let has = |(key, value): (&String, &String)| labels.contains(&(key.as_str(), value.as_str()));
    selector.is_none_or(|selector| selector.iter().all(has))
}

impl<'a> Target<'a> {
    /// The places whose policies apply.
    pub(super) fn places<'b>(&self, mesh: &'b Mesh) -> [Option<PlaceRef<'b>>; MAX_PLACES]
    where
        'a: 'b,
    {
        match *self {
            Self::Gateway { namespace, name, .. } => {
                let [own, root] = namespaces(namespace, mesh);
                let gateway = Some(PlaceRef::Gateway(namespace, name));
                let [own_unknown, root_unknown] =
                    [own, root].map(|namespace| namespace.map(PlaceRef::Unknown));
                let [own, root] = [own, root].map(|namespace| namespace.map(PlaceRef::Namespace));
                [own, root, gateway, own_unknown, root_unknown, None]
            }
            Self::Waypoint { namespace, name, service } => {
                let [own, root] = namespaces(namespace, mesh);
                let of_service = service.map(|service| service.namespace);
                let of_service =
                    of_service.filter(|other| [own, root].iter().all(|known| *known != Some(other)));
                let gateway = Some(PlaceRef::Gateway(namespace, name));
                let [own, root, other] =
                    [own, root, of_service].map(|namespace| namespace.map(PlaceRef::Unknown));
                [Some(PlaceRef::Waypoints), gateway, service.map(PlaceRef::Service), own, root, other]
            }
            Self::Workload { namespace, .. } => {
                let [own, root] = namespaces(namespace, mesh);
                let [own_unknown, root_unknown] =
                    [own, root].map(|namespace| namespace.map(PlaceRef::Unknown));
                let [own, root] = [own, root].map(|namespace| namespace.map(PlaceRef::Namespace));
                [own, root, None, own_unknown, root_unknown, None]
            }
        }
    }
}

/// A namespace, and that whose policies may apply to all of the mesh if it is another.
fn namespaces<'a>(namespace: &'a str, mesh: &'a Mesh) -> [Option<&'a str>; 2] {
    let root = mesh.root_namespace.as_str();
    [Some(namespace), Some(root).filter(|root| *root != namespace)]
}

/// Where policies apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Gateway(Arc<str>, Arc<str>),
    /// All gateways and workloads of a namespace that a selector fits.
    Namespace(Arc<str>),
    Service(ServiceKind, Arc<str>, Arc<str>),
    /// Everywhere in a namespace or, if it is the root namespace, in the mesh: of an object that is broken where it
    /// names its target.
    Unknown(Arc<str>),
    /// All waypoints.
    Waypoints,
}

/// A place that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlaceRef<'a> {
    Gateway(&'a str, &'a str),
    Namespace(&'a str),
    Service(Service<'a>),
    Unknown(&'a str),
    Waypoints,
}

impl Place {
    /// Where an object that names a target applies; nowhere if there are no such targets.
    pub(super) fn of(target: &TargetRef, object: &Metadata, mesh: &Mesh) -> Option<Self> {
        let (group, kind) = (target.group.as_str(), target.kind.as_str());
        let namespace = || Arc::from(object.namespace.as_str());
        if !target.namespace.is_empty() && target.namespace != object.namespace {
            return None;
        }
        match (group, kind) {
            ("gateway.networking.k8s.io", "Gateway") => {
                Some(Self::Gateway(namespace(), target.name.as_str().into()))
            }
            ("gateway.networking.k8s.io", "GatewayClass") if target.name == WAYPOINT_CLASS => {
                if object.namespace != mesh.root_namespace {
                    return None;
                }
                Some(Self::Waypoints)
            }
            ("" | "core", "Service") => {
                Some(Self::Service(ServiceKind::Service, namespace(), target.name.as_str().into()))
            }
            ("networking.istio.io", "ServiceEntry") => {
                Some(Self::Service(ServiceKind::ServiceEntry, namespace(), target.name.as_str().into()))
            }
            _ => None,
        }
    }

    pub(super) fn as_ref(&self) -> PlaceRef<'_> {
        match self {
            Self::Gateway(namespace, name) => PlaceRef::Gateway(namespace, name),
            Self::Namespace(namespace) => PlaceRef::Namespace(namespace),
            Self::Service(kind, namespace, name) => {
                PlaceRef::Service(Service { kind: *kind, namespace, name })
            }
            Self::Unknown(namespace) => PlaceRef::Unknown(namespace),
            Self::Waypoints => PlaceRef::Waypoints,
        }
    }
}

impl PlaceRef<'_> {
    /// A number to find the place by.
    pub(super) fn number(self) -> u64 {
        let of = |kind: u64, texts: [&str; 2]| {
            let [first, second] = texts;
            let outer = fingerprint(kind, first.as_bytes(), Folding::None);
            fingerprint(outer, second.as_bytes(), Folding::None)
        };
        match self {
            Self::Gateway(namespace, name) => of(1, [namespace, name]),
            Self::Namespace(namespace) => fingerprint(2, namespace.as_bytes(), Folding::None),
            Self::Service(Service { kind: ServiceKind::Service, namespace, name }) => {
                of(3, [namespace, name])
            }
            Self::Service(Service { kind: ServiceKind::ServiceEntry, namespace, name }) => {
                of(4, [namespace, name])
            }
            // Looked up for every target, and seldom there.
            Self::Unknown(_) => 1,
            Self::Waypoints => 0,
        }
    }
}

/// How many places one target has at most.
pub(super) const MAX_PLACES: usize = 6;
/// The class of all waypoints' gateways.
pub(crate) const WAYPOINT_CLASS: &str = "istio-waypoint";
