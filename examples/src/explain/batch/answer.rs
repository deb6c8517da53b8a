//! The decision about a line.

use std::{collections::BTreeMap, net::SocketAddr};

use mesh_identity::SpiffeId;
use mesh_policy::{
    ConnectionFacts, ObjectRef, PolicyName, Reason, Verdict,
    waypoint::{
        Answer, FilterMetadata, Headers, Question, RequestFacts, Service, ServiceKind, Step, StreamFacts,
        Target,
    },
};
use serde_json::{Value, json};

use super::{
    Fault,
    line::{Described, Line, Named, WaypointLine},
    policies::Used,
};
use crate::explain::{
    reach::{Decided, UNKNOWN, UNSAID_NAMESPACE, unsaid_labels, verdict},
    world::World,
};

/// Decides about a line.
pub(super) fn decide(world: &World, used: &Used, line: &Line) -> Result<Value, Fault> {
    let world = used.world.as_ref().unwrap_or(world);
    match point(line)? {
        Point::Node => at_node(world, used, line),
        Point::WaypointHttp => at_waypoint(world, used, line, true),
        Point::WaypointTcp => at_waypoint(world, used, line, false),
    }
}

#[derive(Clone, Copy)]
enum Point {
    Node,
    WaypointHttp,
    WaypointTcp,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::WaypointHttp => "waypoint-http",
            Self::WaypointTcp => "waypoint-tcp",
        }
    }
}

/// The enforcement point; if the line does not say, what its facts suggest.
fn point(line: &Line) -> Result<Point, Fault> {
    let Some(text) = &line.point else {
        let behind =
            line.waypoint.as_ref().is_some_and(|waypoint| !matches!(waypoint, WaypointLine::Flag(false)));
        return Ok(match () {
            () if line.is_http() => Point::WaypointHttp,
            () if behind || line.sni.is_some() || line.service.is_some() || line.gateway.is_some() => {
                Point::WaypointTcp
            }
            () => Point::Node,
        });
    };
    match text.to_ascii_lowercase().replace(['_', ' '], "-").as_str() {
        "node" | "node-proxy" | "node-l4" | "l4" | "ztunnel" | "e1" => Ok(Point::Node),
        "waypoint-http" | "waypoint-l7" | "http" | "request" | "l7" | "e3" => Ok(Point::WaypointHttp),
        "waypoint-tcp" | "waypoint-l4" | "tcp" | "stream" | "e2" => Ok(Point::WaypointTcp),
        "gateway" | "sidecar" | "waypoint" if line.is_http() => Ok(Point::WaypointHttp),
        "gateway" | "sidecar" | "waypoint" => Ok(Point::WaypointTcp),
        _ => Err(Fault::new(format!("point `{text}`: write node, waypoint-tcp or waypoint-http"))),
    }
}

fn at_node(world: &World, used: &Used, line: &Line) -> Result<Value, Fault> {
    let peer = line.peer();
    let peer = peer.as_deref().map(|text| {
        text.parse::<SpiffeId>().map_err(|error| Fault::new(format!("principal `{text}`: {error}")))
    });
    let peer = peer.transpose()?;
    let workload = workload(world, line)?;
    let mut listed = workload.listed;
    // A workload of which no labels are told has some, in all likelihood; none select it.
    let labels = workload.labels.filter(|labels| !labels.is_empty() || line.labels.is_some());
    let labels = labels.unwrap_or_else(unsaid_labels);
    listed.extend(used.compiled.listing.listed_by(&workload.namespace, &labels));
    let facts = ConnectionFacts {
        source: line.source_ip().unwrap_or(UNKNOWN),
        peer: peer.as_ref(),
        destination: destination(line)?,
        namespace: &workload.namespace,
        policies: &listed,
    };
    let decision = used.compiled.node.evaluate_connection(&facts);
    let object_of =
        |name: &PolicyName| used.compiled.listing.converted_from(name, &workload.namespace, &labels);
    let reason = decision.reason();
    let object = reason.policy().and_then(object_of);
    let dry_run: Vec<_> = decision.dry_run_denials().map(PolicyName::to_string).collect();
    let answer = answer(Point::Node, used, reason, object.as_ref(), dry_run, Vec::new());
    let proof = line.explain.then(|| json!(used.compiled.node.explain(&facts).with_objects(object_of)));
    Ok(with_proof(answer, proof))
}

fn with_proof(mut answer: Value, proof: Option<Value>) -> Value {
    if let (Some(fields), Some(proof)) = (answer.as_object_mut(), proof) {
        fields.insert("proof".into(), proof);
    }
    answer
}

fn at_waypoint(world: &World, used: &Used, line: &Line, http: bool) -> Result<Value, Fault> {
    let peer = line.peer();
    let source = line.source_ip().unwrap_or(UNKNOWN);
    let request = line.http();
    let headers: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| !name.starts_with(':'))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let headers = Headers::Lines(&headers);
    let remote = match line.remote_ip() {
        Some(remote) => remote,
        None => {
            let told =
                request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
            used.settings.forwarded_for.client(source, told.map(|(_, value)| value.as_str()))
        }
    };
    let metadata: Vec<_> = line
        .metadata
        .iter()
        .map(|note| FilterMetadata { filter: &note.filter, key: &note.key, value: &note.value })
        .collect();
    let place = Place::of(world, used, line)?;
    let labels: Vec<_> = place.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let stream = StreamFacts {
        target: place.target(&labels),
        source,
        remote,
        peer: peer.as_deref(),
        destination: destination(line)?,
        sni: line.sni.as_deref(),
        metadata: &metadata,
    };
    let point = if http { Point::WaypointHttp } else { Point::WaypointTcp };
    let (answer, proof) = if http {
        let path = request.path.unwrap_or("/");
        let path = match used.settings.normalization.normalize(path, used.semantics) {
            Ok(path) => path,
            Err(error) => {
                return Ok(json!({
                    "verdict": "deny",
                    "status": 400,
                    "reason": format!("{error}, refused before any policy"),
                    "point": point.name(),
                    "semantics": used.semantics.to_string(),
                }));
            }
        };
        let facts = RequestFacts {
            stream,
            method: request.method.unwrap_or("GET"),
            authority: request.host,
            path: &path,
            headers,
            claims: request.claims,
        };
        let requests = &used.compiled.requests;
        let answer = asked(line, requests.evaluate_request(&facts))?.into_answer(point, used);
        let explain = || requests.explain(&facts, |question| said_or_failed(line, question));
        (answer, line.explain.then(|| json!(explain())))
    } else {
        let streams = &used.compiled.streams;
        let answer = asked(line, streams.evaluate_stream(&stream))?.into_answer(point, used);
        let explain = || streams.explain(&stream, |question| said_or_failed(line, question));
        (answer, line.explain.then(|| json!(explain())))
    };
    Ok(with_proof(answer, proof))
}

/// A decision with what providers said.
struct Asked<'a> {
    reason: Reason<'a>,
    dry_run: Vec<String>,
    audits: Vec<Value>,
}

impl Asked<'_> {
    fn into_answer(self, point: Point, used: &Used) -> Value {
        answer(point, used, self.reason, None, self.dry_run, self.audits)
    }
}

/// Goes through the steps of a decision with the answers that the line has. A provider without one fails.
fn asked<'a>(line: &Line, mut step: Step<'a>) -> Result<Asked<'a>, Fault> {
    let decision = loop {
        match step {
            Step::Ask(question) => step = question.answer(said(line, question.provider())?),
            Step::Decided(decision) => break decision,
        }
    };
    let audits = decision.audits().map(|(name, rule)| json!({ "policy": name, "rule": rule })).collect();
    let dry_run = decision.dry_run_denials().map(PolicyName::to_string).collect();
    Ok(Asked { reason: decision.reason(), dry_run, audits })
}

/// What makes no sense was a fault when the decision was made.
fn said_or_failed(line: &Line, question: &Question<'_>) -> Answer {
    said(line, question.provider()).unwrap_or(Answer::Failed)
}

fn said(line: &Line, provider: &str) -> Result<Answer, Fault> {
    let Some(text) = line.answers.get(provider) else { return Ok(Answer::Failed) };
    match text.to_ascii_lowercase().as_str() {
        "allow" => Ok(Answer::Allow),
        "deny" => Ok(Answer::Deny),
        "error" | "fail" | "failed" => Ok(Answer::Failed),
        _ => Err(Fault::new(format!("answer `{text}` of {provider}: write allow, deny or error"))),
    }
}

fn answer(
    point: Point,
    used: &Used,
    reason: Reason<'_>,
    object: Option<&ObjectRef>,
    dry_run: Vec<String>,
    audits: Vec<Value>,
) -> Value {
    let decided = Decided::new(reason, object);
    let mut answer = json!({
        "verdict": verdict(reason.verdict()),
        "reason": decided.reason,
        "point": point.name(),
        "semantics": used.semantics.to_string(),
    });
    if let Some(fields) = answer.as_object_mut() {
        if let Some(policy) = decided.policy {
            fields.insert("policy".into(), policy.into());
        }
        if let Value::Object(converted) = json!(decided.converted) {
            fields.extend(converted);
        }
        if let Some(rule) = reason.rule() {
            fields.insert("rule".into(), rule.into());
        }
        if !dry_run.is_empty() {
            fields.insert("dryRunDenials".into(), dry_run.into());
        }
        if !audits.is_empty() {
            fields.insert("audits".into(), audits.into());
        }
        if reason.verdict() == Verdict::Deny && matches!(point, Point::WaypointHttp) {
            fields.insert("status".into(), 403.into());
        }
    }
    answer
}

fn destination(line: &Line) -> Result<SocketAddr, Fault> {
    let (ip, port) = line.destination()?;
    Ok(SocketAddr::new(ip.unwrap_or(UNKNOWN), port.unwrap_or(0)))
}

/// What a line says of the workload that is reached, with what the folder knows.
struct Reached {
    namespace: String,
    labels: Option<BTreeMap<String, String>>,
    listed: Vec<PolicyName>,
}

fn workload(world: &World, line: &Line) -> Result<Reached, Fault> {
    let mut reached =
        Reached { namespace: line.namespace.clone().unwrap_or_default(), labels: None, listed: Vec::new() };
    match &line.workload {
        None => {}
        Some(Named::Name(text)) => {
            let (namespace, name) = split(text, line)?;
            let known =
                world.workloads.iter().find(|known| known.namespace == namespace && known.name == name);
            let known = known.ok_or_else(|| {
                Fault::new(format!("workload `{text}` is not known; describe it in the line"))
            })?;
            reached = Reached { namespace, labels: Some(known.labels.clone()), listed: known.listed.clone() };
        }
        Some(Named::Described(described)) => {
            if let Some(namespace) = &described.namespace {
                reached.namespace.clone_from(namespace);
            }
            reached.labels = Some(described.labels.clone());
            for name in &described.policies {
                reached
                    .listed
                    .push(name.parse().map_err(|error| Fault::new(format!("policy `{name}`: {error}")))?);
            }
        }
    }
    if let Some(labels) = &line.labels {
        reached.labels = Some(labels.clone());
    }
    if reached.namespace.is_empty() {
        reached.namespace = UNSAID_NAMESPACE.into();
    }
    Ok(reached)
}

/// `namespace/name`, or a name in the line's namespace.
fn split(text: &str, line: &Line) -> Result<(String, String), Fault> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        Some(_) => Err(Fault::new(format!("`{text}` is not of the form namespace/name"))),
        None => Ok((line.namespace.clone().unwrap_or_else(|| "default".into()), text.to_owned())),
    }
}

/// Whose policies are enforced at a waypoint, a gateway or a sidecar.
struct Place {
    kind: PlaceKind,
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    service: Option<(ServiceKind, String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Gateway,
    Waypoint,
    Workload,
}

impl Place {
    fn of(world: &World, used: &Used, line: &Line) -> Result<Self, Fault> {
        if used.all_apply {
            return Ok(Self {
                kind: PlaceKind::Workload,
                namespace: UNSAID_NAMESPACE.into(),
                name: String::new(),
                labels: BTreeMap::new(),
                service: None,
            });
        }
        let service = line.service.as_ref().map(|service| service_of(world, service, line)).transpose()?;
        if let Some(gateway) = &line.gateway {
            let (namespace, name, labels) = named(gateway, line, "gateway")?;
            return Ok(Self { kind: PlaceKind::Gateway, namespace, name, labels, service: None });
        }
        let of_workload = match &line.workload {
            Some(Named::Described(described)) => described.waypoint.as_ref(),
            _ => None,
        };
        let own_namespace = service.as_ref().map(|(_, namespace, _)| namespace.clone());
        let waypoint = match line.waypoint.as_ref().or(of_workload) {
            Some(WaypointLine::Flag(false)) => None,
            Some(WaypointLine::Named(waypoint)) => {
                let (namespace, name, _) = named(waypoint, line, "waypoint")?;
                Some((namespace, name))
            }
            Some(WaypointLine::Flag(true)) => {
                let namespace =
                    own_namespace.or_else(|| line.namespace.clone()).unwrap_or_else(|| "default".into());
                Some((namespace, "waypoint".into()))
            }
            // A service is addressed: there is one, or the folder knows which.
            None => own_namespace.map(|namespace| {
                known_waypoint(world, service.as_ref()).unwrap_or_else(|| (namespace, "waypoint".into()))
            }),
        };
        if let Some((namespace, name)) = waypoint {
            return Ok(Self { kind: PlaceKind::Waypoint, namespace, name, labels: BTreeMap::new(), service });
        }
        let Reached { namespace, labels, .. } = workload(world, line)?;
        Ok(Self {
            kind: PlaceKind::Workload,
            namespace,
            name: String::new(),
            labels: labels.unwrap_or_default(),
            service: None,
        })
    }

    fn target<'a>(&'a self, labels: &'a [(&'a str, &'a str)]) -> Target<'a> {
        let (namespace, name) = (self.namespace.as_str(), self.name.as_str());
        let service =
            self.service.as_ref().map(|(kind, namespace, name)| Service { kind: *kind, namespace, name });
        match self.kind {
            PlaceKind::Gateway => Target::Gateway { namespace, name, labels },
            PlaceKind::Waypoint => Target::Waypoint { namespace, name, service },
            PlaceKind::Workload => Target::Workload { namespace, labels },
        }
    }
}

fn named(one: &Named, line: &Line, what: &str) -> Result<(String, String, BTreeMap<String, String>), Fault> {
    match one {
        Named::Name(text) => split(text, line).map(|(namespace, name)| (namespace, name, BTreeMap::new())),
        Named::Described(described) => {
            let Described { namespace, name, labels, .. } = &**described;
            let name = name.clone().ok_or_else(|| Fault::new(format!("the {what} has no name")))?;
            let namespace = namespace.as_ref().or(line.namespace.as_ref());
            Ok((namespace.map_or("default", String::as_str).to_owned(), name, labels.clone()))
        }
    }
}

fn service_of(world: &World, service: &Named, line: &Line) -> Result<(ServiceKind, String, String), Fault> {
    let (namespace, name, _) = named(service, line, "service")?;
    let described = match service {
        Named::Described(described) => described.kind.as_deref(),
        Named::Name(_) => None,
    };
    let kind = match described {
        Some("Service") => ServiceKind::Service,
        Some("ServiceEntry") => ServiceKind::ServiceEntry,
        Some(kind) => {
            return Err(Fault::new(format!("service kind `{kind}`: write Service or ServiceEntry")));
        }
        None => {
            let mut entries = world.services.iter().filter(|known| known.is_entry);
            match entries.any(|known| known.namespace == namespace && known.name == name) {
                true => ServiceKind::ServiceEntry,
                false => ServiceKind::Service,
            }
        }
    };
    Ok((kind, namespace, name))
}

/// The waypoint of a service that the folder has.
fn known_waypoint(
    world: &World,
    service: Option<&(ServiceKind, String, String)>,
) -> Option<(String, String)> {
    let (_, namespace, name) = service?;
    let known = world.services.iter().find(|known| known.namespace == *namespace && known.name == *name)?;
    let found = world.waypoint(namespace, &known.waypoint)?;
    Some((found.namespace.clone(), found.name.clone()))
}
