//! What a folder says about a mesh.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf};

use mesh_policy::{
    Finding, MissingPolicy, ObjectRef, Place, Policy, PolicyName, PolicySet, PolicySetError, Semantics,
    crd::{NodePolicies, NodeSettings, Reading},
    lint::{KnownService, KnownWorkload, Surroundings},
    object::{
        Action, AuthorizationPolicy, MutualTlsMode, ObjectError, PeerAuthentication, PolicyObjects, Source,
    },
    waypoint::{ForwardedFor, Mesh, PathNormalization, RequestPolicySet, StreamPolicySet},
};
use serde::Serialize;
use thiserror::Error;

/// A mesh: its policies, and what they apply to.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) objects: PolicyObjects,
    /// Where each object was read.
    places: BTreeMap<ObjectRef, Place>,
    /// What is wrong with objects that others stand for, or that are used nevertheless.
    pub(super) findings: Vec<Finding>,
    /// Objects that others stand for.
    stand_ins: Vec<StandIn>,
    /// Policies that came in the form of the wire.
    pub(super) wire: Vec<Policy>,
    /// And the files that have them.
    pub(super) wire_files: Vec<(PolicyName, PathBuf)>,
    pub(super) workloads: Vec<Workload>,
    pub(super) services: Vec<Service>,
    pub(super) gateways: Vec<Gateway>,
    /// What the labels of namespaces say of waypoints.
    pub(super) namespaces: BTreeMap<String, WaypointUse>,
    pub(super) settings: Settings,
}

/// What is enforced in the place of an object that is refused, and why.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StandIn {
    pub(super) object: ObjectRef,
    /// What it does.
    pub(super) does: &'static str,
    pub(super) because: Vec<Finding>,
}

/// Displayed on a line, and on one more for each thing that is wrong.
impl fmt::Display for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused, and what stands for it {}", self.object, self.does)?;
        self.because.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

/// The settings of a mesh.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mesh: Mesh,
    pub(super) normalization: PathNormalization,
    /// How far other proxies are trusted to tell the client's address.
    pub(super) forwarded_for: ForwardedFor,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mesh: Mesh::new("cluster.local"),
            normalization: PathNormalization::default(),
            forwarded_for: ForwardedFor { trusted_hops: 0, use_remote_address: true },
        }
    }
}

/// A workload, or what makes workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) service_account: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Named ports of its containers.
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) waypoint: WaypointUse,
    /// Policies that it lists, where a local configuration says so.
    pub(super) listed: Vec<PolicyName>,
}

/// A Service or a ServiceEntry.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) is_entry: bool,
    pub(super) selector: BTreeMap<String, String>,
    pub(super) ports: Vec<ServicePort>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) waypoint: WaypointUse,
}

/// A port of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServicePort {
    pub(super) port: u16,
    /// A number or the name of a container's port; empty for the same number.
    pub(super) target: String,
    /// Whether the protocol is one of HTTP's: a waypoint sees requests.
    pub(super) is_http: Option<bool>,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) name: GatewayName,
    pub(super) is_waypoint: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GatewayName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What a label says of the waypoint to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum WaypointUse {
    /// What the namespace says.
    #[default]
    Inherited,
    None,
    Named(GatewayName),
}

/// Why policies cannot be compiled.
#[derive(Debug, Error)]
pub(super) enum CompileError {
    #[error("{}", listed(.0))]
    Refused(Vec<Finding>),
    #[error("{problem}; give one of them another name, or remove it")]
    Duplicate { problem: String },
}

/// What stands for a policy that is refused does.
fn stands_for(action: Action) -> &'static str {
    match action {
        Action::Allow => "allows nothing",
        Action::Audit => "does nothing",
        Action::Custom | Action::Deny => "denies everything in its scope",
    }
}

const MUTUAL: &str = "asks for mutual TLS";

/// A finding on each line.
pub(super) fn listed(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nexplain: ")
}

/// Policies compiled for every point.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) node: PolicySet,
    pub(super) listing: NodePolicies,
    pub(super) requests: RequestPolicySet,
    pub(super) streams: StreamPolicySet,
}

impl World {
    /// Takes the objects of a reading, or what stands for them.
    ///
    /// # Errors
    ///
    /// What is refused and has nothing that stands for it.
    pub(super) fn set_objects(
        &mut self,
        reading: Reading,
        semantics: Semantics,
        fail_closed: bool,
    ) -> Result<(), ObjectError> {
        self.note(&reading);
        let refused = reading
            .refused(semantics)
            .map(|(object, because)| (object, because.into_iter().cloned().collect::<Vec<_>>()));
        let refused: Vec<_> = refused.collect();
        self.objects = match fail_closed {
            true => reading.fail_closed(semantics)?,
            false => reading.into_objects(semantics)?,
        };
        for (object, because) in refused {
            let does = self
                .objects
                .authorization
                .iter()
                .find(|policy| object == ObjectRef::new(AuthorizationPolicy::KIND, &policy.metadata));
            let does = match does {
                Some(policy) => stands_for(policy.action),
                None if object.kind == PeerAuthentication::KIND => MUTUAL,
                None => stands_for(Action::Audit),
            };
            self.stand_ins.push(StandIn { object, does, because });
        }
        Ok(())
    }

    /// The same mesh before it has any.
    pub(super) fn without_policies(&self) -> Self {
        let nothing = Self::default();
        Self {
            objects: nothing.objects,
            places: nothing.places,
            findings: nothing.findings,
            stand_ins: nothing.stand_ins,
            wire: nothing.wire,
            wire_files: nothing.wire_files,
            ..self.clone()
        }
    }

    /// Takes the objects of a reading that can be read.
    pub(super) fn keep_readable(&mut self, reading: &Reading) {
        self.note(reading);
        self.objects = reading.readable();
    }

    fn note(&mut self, reading: &Reading) {
        self.findings = reading.findings().cloned().collect();
        self.places = reading.places().map(|(object, place)| (object, place.clone())).collect();
    }

    /// Adds where their objects were read to findings that do not know.
    pub(super) fn located(&self, findings: impl IntoIterator<Item = Finding>) -> Vec<Finding> {
        let located = findings.into_iter().map(|mut finding| {
            finding.place = finding.place.or_else(|| self.places.get(&finding.object).cloned());
            finding
        });
        located.collect()
    }

    /// What stands for objects that are refused, for their own sake or in this mesh.
    pub(super) fn stand_ins(&self, settings: &Settings, semantics: Semantics) -> Vec<StandIn> {
        let mut found = self.stand_ins.clone();
        if semantics == Semantics::Istio {
            return found;
        }
        let PolicyObjects { authorization, peer, .. } = &self.objects;
        let authorization = authorization.iter().map(|policy| {
            let object = ObjectRef::new(AuthorizationPolicy::KIND, &policy.metadata);
            (object, stands_for(policy.action), policy.refusals_in(&settings.mesh))
        });
        let peer = peer.iter().map(|policy| {
            let object = ObjectRef::new(PeerAuthentication::KIND, &policy.metadata);
            (object, MUTUAL, policy.refusals_in(&settings.mesh))
        });
        for (object, does, because) in authorization.chain(peer) {
            if !because.is_empty() && found.iter().all(|other| other.object != object) {
                found.push(StandIn { object, does, because: self.located(because) });
            }
        }
        found
    }

    /// Compiles the policies for every point.
    ///
    /// # Errors
    ///
    /// What strict semantics refuse, unless objects are to fail closed, and two policies of one name.
    pub(super) fn compile(
        &self,
        settings: &Settings,
        semantics: Semantics,
        fail_closed: bool,
    ) -> Result<Compiled, CompileError> {
        let refused = |error: ObjectError| CompileError::Refused(self.located(error.findings().to_vec()));
        let mesh = settings.mesh.clone();
        let root_namespace = mesh.root_namespace.clone();
        let node_settings = NodeSettings { root_namespace, semantics, dry_run: true };
        let mut objects = self.objects.clone();
        if fail_closed && semantics == Semantics::Strict {
            for policy in &mut objects.peer {
                if !policy.refusals_in(&mesh).is_empty() {
                    let PeerAuthentication { selector, mtls, port_level_mtls, .. } = policy;
                    (*selector, *mtls) = (None, MutualTlsMode::Strict);
                    port_level_mtls.clear();
                }
            }
        }
        let listing = NodePolicies::new(&objects, node_settings).map_err(refused)?;
        let missing = match semantics {
            Semantics::Istio => MissingPolicy::Skip,
            Semantics::Strict => MissingPolicy::Deny,
        };
        let policies = listing.policies().iter().chain(&self.wire).cloned();
        let node = PolicySet::builder().missing(missing).policies(policies).build();
        let node = node.map_err(|error| self.duplicate(error))?;
        let (mut requests, mut streams) = match semantics {
            Semantics::Istio => (RequestPolicySet::istio(mesh.clone()), StreamPolicySet::istio(mesh)),
            Semantics::Strict => (RequestPolicySet::strict(mesh.clone()), StreamPolicySet::strict(mesh)),
        };
        if fail_closed {
            for object in &self.objects.authorization {
                requests.insert_closed(object);
                streams.insert_closed(object);
            }
        } else {
            requests = requests.replaced(&self.objects.authorization).map_err(refused)?;
            streams = streams.replaced(&self.objects.authorization).map_err(refused)?;
        }
        Ok(Compiled { node, listing, requests, streams })
    }

    /// Says in which files the policies are that have one name.
    fn duplicate(&self, error: PolicySetError) -> CompileError {
        let mut problem = error.to_string();
        if let PolicySetError::Duplicate { policy } = error {
            let files = self.wire_files.iter().filter(|(name, _)| *name == policy);
            let files = files.map(|(_, file)| file.display().to_string());
            let here = |(object, place): (&ObjectRef, &Place)| {
                let is_one = object.namespace == policy.namespace() && object.name == policy.name();
                (is_one && object.kind == AuthorizationPolicy::KIND).then(|| place.to_string())
            };
            let places: Vec<_> = files.chain(self.places.iter().filter_map(here)).collect();
            if !places.is_empty() {
                problem += &format!(" (in {})", places.join(", "));
            }
        }
        CompileError::Duplicate { problem }
    }

    /// What lint looks at policies against. What the files do not have at all is taken for not known.
    pub(super) fn surroundings(&self, semantics: Semantics) -> Surroundings {
        let known = |any: bool| any.then_some(());
        let workloads = self.workloads.iter().map(|workload| {
            let serving = self
                .services
                .iter()
                .filter(|service| self.endpoints(service).any(|endpoint| std::ptr::eq(endpoint, workload)));
            let mut ports: Vec<_> = workload.ports.values().copied().collect();
            let mut behind_waypoint = self.waypoint(&workload.namespace, &workload.waypoint).is_some();
            for service in serving {
                ports.extend(service.ports.iter().filter_map(|port| workload.target_port(port)));
                behind_waypoint |= self.waypoint(&service.namespace, &service.waypoint).is_some();
            }
            let (namespace, labels) = (workload.namespace.clone(), workload.labels.clone());
            KnownWorkload { namespace, labels, ports, behind_waypoint }
        });
        let services = self.services.iter().map(|service| KnownService {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            is_entry: service.is_entry,
            has_waypoint: self.waypoint(&service.namespace, &service.waypoint).is_some(),
            has_tcp: service.ports.iter().any(|port| port.is_http == Some(false)),
        });
        let gateways =
            self.gateways.iter().map(|gateway| (gateway.name.namespace.clone(), gateway.name.name.clone()));
        let is_mesh = !self.workloads.is_empty() || !self.services.is_empty() || !self.gateways.is_empty();
        Surroundings {
            semantics,
            normalization: self.settings.normalization,
            workloads: known(!self.workloads.is_empty()).map(|()| workloads.collect()),
            services: known(is_mesh).map(|()| services.collect()),
            gateways: known(is_mesh).map(|()| gateways.collect()),
            ..Surroundings::new(self.settings.mesh.clone())
        }
    }

    /// Whether any policy looks at where a connection comes from.
    pub(super) fn asks_for_addresses(&self) -> bool {
        let of_object = |policy: &AuthorizationPolicy| {
            policy.rules.iter().any(|rule| {
                let by_source = |source: &Source| {
                    let Source { ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks, .. } =
                        source;
                    [ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks]
                        .iter()
                        .any(|all| !all.is_empty())
                };
                let by_key = |key: &str| key == "source.ip" || key == "remote.ip";
                rule.from.iter().any(by_source) || rule.when.iter().any(|condition| by_key(&condition.key))
            })
        };
        let of_wire = |policy: &Policy| {
            let matches =
                policy.rules.iter().flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.matches);
            let mut matches = matches.map(|one| !one.source_ips.is_empty() || !one.not_source_ips.is_empty());
            matches.any(|asks| asks)
        };
        self.objects.authorization.iter().any(of_object) || self.wire.iter().any(of_wire)
    }

    /// The workloads that a service selects.
    pub(super) fn endpoints<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Workload> {
        let here = self.workloads.iter().filter(|workload| workload.namespace == service.namespace);
        here.filter(|workload| {
            let fits = |(name, value): (&String, &String)| workload.labels.get(name) == Some(value);
            !service.selector.is_empty() && service.selector.iter().all(fits)
        })
    }

    /// The workload of that name, or what made it: a pod's name continues that of its Deployment.
    pub(super) fn workload(&self, namespace: &str, name: &str) -> Option<&Workload> {
        let mut here = self.workloads.iter().filter(|workload| workload.namespace == namespace);
        let made = |workload: &&Workload| {
            let rest = name.strip_prefix(workload.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
            rest.is_some_and(|rest| rest.matches('-').count() <= 1)
        };
        here.clone().find(|workload| workload.name == name).or_else(|| here.find(made))
    }

    /// The waypoint that a label and that of the namespace lead to.
    pub(super) fn waypoint(&self, namespace: &str, own: &WaypointUse) -> Option<&GatewayName> {
        let named = match own {
            WaypointUse::Inherited => match self.namespaces.get(namespace)? {
                WaypointUse::Named(name) => name,
                _ => return None,
            },
            WaypointUse::None => return None,
            WaypointUse::Named(name) => name,
        };
        // Traffic goes directly while the gateway is not there.
        self.gateways.iter().map(|gateway| &gateway.name).find(|name| *name == named)
    }
}

impl Workload {
    /// The account it runs under.
    pub(super) fn account(&self) -> &str {
        if self.service_account.is_empty() { "default" } else { &self.service_account }
    }

    /// The number of the port that a service's port leads to.
    pub(super) fn target_port(&self, port: &ServicePort) -> Option<u16> {
        match port.target.as_str() {
            "" => Some(port.port),
            target => target.parse().ok().or_else(|| self.ports.get(target).copied()),
        }
    }
}
