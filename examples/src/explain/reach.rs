//! The way from a client to a destination, and who decides on it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use mesh_identity::SpiffeId;
use mesh_policy::{
    ConnectionFacts, ObjectRef, PolicyName, Reason, Verdict,
    waypoint::{self, Answer, Claims, Headers, RequestFacts, ServiceKind, StreamFacts, Target},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    options::Request,
    world::{Compiled, GatewayName, Service, ServicePort, Workload, World},
};

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) peer: Option<&'a SpiffeId>,
    pub(super) address: IpAddr,
    pub(super) sni: Option<&'a str>,
    pub(super) request: &'a Request,
    pub(super) claims: Option<&'a Claims>,
}

/// What is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'a> {
    Service(&'a Service, &'a ServicePort),
    Workload(&'a Workload, u16),
}

/// What one enforcement point on the way decides.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hop {
    /// The kind of point: `node`, `waypoint-http` or `waypoint-tcp`.
    pub(super) point: &'static str,
    /// Whose.
    pub(super) at: String,
    pub(super) verdict: &'static str,
    pub(super) reason: String,
    /// What decided, by the name of its object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    /// The kind of the object, and the name of what node proxies receive for it, if they are others.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) converted: Option<Converted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<usize>,
    /// The proof, for people.
    pub(super) explanation: String,
    /// The proof, for machines.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) proof: Value,
    /// What has to be known to rely on the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<&'static str>,
}

impl Hop {
    pub(super) fn allows(&self) -> bool {
        self.verdict == ALLOW
    }

    fn new(
        point: &'static str,
        at: String,
        reason: Reason<'_>,
        object: Option<&ObjectRef>,
        explanation: &(impl Serialize + ToString),
        note: Option<&'static str>,
    ) -> Self {
        let proof = serde_json::to_value(explanation).unwrap_or_default();
        let explanation = explanation.to_string();
        let decided = Decided::new(reason, object);
        Self {
            point,
            at,
            verdict: verdict(reason.verdict()),
            reason: decided.reason,
            policy: decided.policy,
            converted: decided.converted,
            rule: reason.rule(),
            explanation,
            proof,
            note,
        }
    }
}

/// What a decision names, for people and machines.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) reason: String,
    pub(super) policy: Option<String>,
    pub(super) converted: Option<Converted>,
}

/// That what decided is not the object itself but what node proxies receive for it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Converted {
    kind: String,
    sent_as: String,
}

impl Decided {
    /// Names the object that the policy was converted from, if it is another.
    pub(super) fn new(reason: Reason<'_>, object: Option<&ObjectRef>) -> Self {
        let policy = reason.policy();
        match (policy, object) {
            (Some(policy), Some(object)) => Self {
                reason: reason.naming(object).to_string(),
                policy: Some(format!("{}/{}", object.namespace, object.name)),
                converted: Some(Converted { kind: object.kind.to_string(), sent_as: policy.to_string() }),
            },
            _ => {
                let policy = policy.map(PolicyName::to_string);
                Self { reason: reason.to_string(), policy, converted: None }
            }
        }
    }
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => ALLOW,
        Verdict::Deny => "deny",
    }
}

const ALLOW: &str = "allow";

/// Asks every enforcement point on the way. The way is open if all allow.
pub(super) fn reach(world: &World, compiled: &Compiled, client: Client<'_>, to: Destination<'_>) -> Vec<Hop> {
    let mut hops = Vec::new();
    let (namespace, use_of) = match to {
        Destination::Service(service, _) => (&service.namespace, &service.waypoint),
        Destination::Workload(workload, _) => (&workload.namespace, &workload.waypoint),
    };
    let waypoint = world.waypoint(namespace, use_of);
    if let Some(waypoint) = waypoint {
        hops.push(at_waypoint(world, compiled, client, waypoint, to));
    }
    // Behind a waypoint, a node proxy sees the waypoint.
    let identity = waypoint.and_then(|waypoint| world.identity_of(waypoint));
    let seen = match waypoint {
        Some(waypoint) => Client {
            peer: identity.as_ref(),
            address: world.address_of(waypoint).unwrap_or(UNKNOWN),
            ..client
        },
        None => client,
    };
    let note = world.note_of(seen.address);
    let at_node = |workload, labels, port| at_node(compiled, seen, workload, labels, namespace, port, note);
    match to {
        Destination::Workload(workload, port) => {
            hops.push(at_node(Some(workload), &workload.labels, port));
        }
        Destination::Service(service, port) => {
            let before = hops.len();
            for workload in world.endpoints(service) {
                if let Some(port) = workload.target_port(port) {
                    hops.push(at_node(Some(workload), &workload.labels, port));
                }
            }
            if hops.len() == before {
                let port = port.target.parse().unwrap_or(port.port);
                // Whoever serves it has the labels that it selects.
                let mut labels = unsaid_labels();
                labels.extend(service.selector.clone());
                hops.push(at_node(None, &labels, port));
            }
        }
    }
    hops
}

fn at_waypoint(
    world: &World,
    compiled: &Compiled,
    client: Client<'_>,
    waypoint: &GatewayName,
    to: Destination<'_>,
) -> Hop {
    let (service, destination, is_http) = match to {
        Destination::Service(service, port) => {
            let kind = if service.is_entry { ServiceKind::ServiceEntry } else { ServiceKind::Service };
            let named = waypoint::Service { kind, namespace: &service.namespace, name: &service.name };
            (Some(named), SocketAddr::new(address(&service.addresses), port.port), port.is_http)
        }
        Destination::Workload(workload, port) => {
            (None, SocketAddr::new(address(&workload.addresses), port), None)
        }
    };
    let headers = &client.request.headers;
    let told = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let told = told.map(|(_, value)| value.as_str());
    let stream = StreamFacts {
        target: Target::Waypoint { namespace: &waypoint.namespace, name: &waypoint.name, service },
        source: client.address,
        remote: world.settings.forwarded_for.client(client.address, told),
        peer: client.peer.map(SpiffeId::as_str),
        destination,
        sni: client.sni,
        metadata: &[],
    };
    let note = world.note_of(client.address);
    let at = format!("waypoint {}/{}", waypoint.namespace, waypoint.name);
    // A provider's answer is not known here, so what hangs on it is denied.
    if !is_http.unwrap_or_else(|| client.request.is_http()) {
        let explanation = compiled.streams.explain(&stream, |_| Answer::Failed);
        return Hop::new("waypoint-tcp", at, explanation.decision().reason(), None, &explanation, note);
    }
    let Request { method, path, host, headers, .. } = client.request;
    let path = match world
        .settings
        .normalization
        .normalize(path.as_deref().unwrap_or("/"), compiled.requests.semantics())
    {
        Ok(path) => path,
        Err(error) => {
            let reason = format!("{error}, refused with status 400 before any policy");
            let (point, verdict) = ("waypoint-http", "deny");
            let (explanation, proof) = (reason.clone(), Value::Null);
            return Hop {
                point,
                at,
                verdict,
                explanation,
                reason,
                policy: None,
                converted: None,
                rule: None,
                proof,
                note,
            };
        }
    };
    let lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let facts = RequestFacts {
        stream,
        method: method.as_deref().unwrap_or("GET"),
        authority: host.as_deref(),
        path: &path,
        headers: Headers::Lines(&lines),
        claims: client.claims,
    };
    let explanation = compiled.requests.explain(&facts, |_| Answer::Failed);
    Hop::new("waypoint-http", at, explanation.decision().reason(), None, &explanation, note)
}

fn at_node(
    compiled: &Compiled,
    client: Client<'_>,
    workload: Option<&Workload>,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    port: u16,
    note: Option<&'static str>,
) -> Hop {
    let mut listed = compiled.listing.listed_by(namespace, labels);
    listed.extend(workload.iter().flat_map(|workload| workload.listed.iter().cloned()));
    let facts = ConnectionFacts {
        source: client.address,
        peer: client.peer,
        destination: SocketAddr::new(workload.map_or(UNKNOWN, |workload| address(&workload.addresses)), port),
        namespace,
        policies: &listed,
    };
    let object_of = |policy: &PolicyName| compiled.listing.converted_from(policy, namespace, labels);
    let explanation = compiled.node.explain(&facts).with_objects(object_of);
    let at = match workload {
        Some(workload) => format!("node of {namespace}/{}", workload.name),
        None => format!("node of a workload in {namespace} that is not in the folder"),
    };
    let reason = explanation.decision().reason();
    let object = reason.policy().and_then(object_of);
    Hop::new("node", at, reason, object.as_ref(), &explanation, note)
}

fn address(addresses: &[IpAddr]) -> IpAddr {
    addresses.first().copied().unwrap_or(UNKNOWN)
}

impl World {
    /// The workload of a waypoint.
    fn workload_of(&self, waypoint: &GatewayName) -> Option<&Workload> {
        let label = "gateway.networking.k8s.io/gateway-name";
        self.workloads.iter().find(|workload| {
            workload.namespace == waypoint.namespace && workload.labels.get(label) == Some(&waypoint.name)
        })
    }

    fn address_of(&self, waypoint: &GatewayName) -> Option<IpAddr> {
        self.workload_of(waypoint)?.addresses.first().copied()
    }

    /// What to know where policies ask for an address that nobody told.
    fn note_of(&self, source: IpAddr) -> Option<&'static str> {
        (source == UNKNOWN && self.asks_for_addresses())
            .then_some("the source's address is not known, 0.0.0.0 stands for it; policies ask for addresses")
    }

    /// The identity of a waypoint: that of its workload if there is one, else the account that is made for it.
    fn identity_of(&self, waypoint: &GatewayName) -> Option<SpiffeId> {
        let own = self.workload_of(waypoint);
        let account = own.map_or(waypoint.name.as_str(), Workload::account);
        self.identity(&waypoint.namespace, account)
    }

    pub(super) fn identity(&self, namespace: &str, account: &str) -> Option<SpiffeId> {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.settings.mesh.trust_domain).parse().ok()
    }
}

/// The labels of a workload that is not known: none that a policy selects, and not without labels either, which
/// Istio takes for having all.
pub(super) fn unsaid_labels() -> BTreeMap<String, String> {
    BTreeMap::from([(UNSAID_LABEL.to_owned(), "true".to_owned())])
}

const UNSAID_LABEL: &str = "explain.invalid/not-said";

/// The namespace of what has none that is known.
pub(super) const UNSAID_NAMESPACE: &str = "default";

/// The address of what has none that is known.
pub(super) const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
