//! The AuthorizationPolicies of a mesh, for waypoints.

use std::{fmt, marker::PhantomData, sync::Arc};

use super::{
    Answer, Mesh, Question, RequestFacts, Step, StreamFacts, WaypointExplanation,
    compile::{Compiler, Point},
    evaluate::{Case, Facts},
    policy::CompiledPolicy,
};
use crate::{
    Code, ObjectRef, PolicyName, Semantics,
    finding::{Path, Report},
    object::{AuthorizationPolicy, Metadata, ObjectError},
    set::{Index, Indexed},
};

/// The AuthorizationPolicies of a mesh as they are enforced at one kind of point: on [requests](Requests) or on
/// [streams](Streams).
///
/// Holds those of all targets; each decision finds its own. A clone costs two reference counts and never
/// changes: changing a set that is shared copies the parts of its index that the change touches.
///
/// ```
/// use mesh_policy::{
///     Verdict,
///     object::{AuthorizationPolicy, Metadata, Operation, Rule, TargetRef},
///     waypoint::{
///         Headers, Mesh, PathNormalization, RequestFacts, RequestPolicySet, Service, ServiceKind, StreamFacts, Target,
///     },
/// };
///
/// let mut set = RequestPolicySet::strict(Mesh::new("example.org"));
/// set.insert(&AuthorizationPolicy {
///     metadata: Metadata::named("shop", "reading"),
///     target_refs: vec![TargetRef { kind: "Service".into(), name: "cart".into(), ..TargetRef::default() }],
///     rules: vec![Rule {
///         to: vec![Operation {
///             methods: vec!["GET".into()],
///             paths: vec!["/items/{*}".into()],
///             ..Operation::default()
///         }],
///         ..Rule::default()
///     }],
///     ..AuthorizationPolicy::default()
/// })?;
///
/// let path = PathNormalization::Base.normalize("/items/7?full=1", set.semantics())?;
/// let service = Service { kind: ServiceKind::Service, namespace: "shop", name: "cart" };
/// let facts = RequestFacts {
///     stream: StreamFacts {
///         target: Target::Waypoint { namespace: "shop", name: "waypoint", service: Some(service) },
///         source: "192.0.2.1".parse()?,
///         remote: "192.0.2.1".parse()?,
///         peer: Some("spiffe://example.org/ns/shop/sa/web"),
///         destination: "192.0.2.2:8080".parse()?,
///         sni: None,
///         metadata: &[],
///     },
///     method: "GET",
///     authority: Some("cart.shop"),
///     path: &path,
///     headers: Headers::Lines(&[]),
///     claims: None,
/// };
/// let decision = set.evaluate_request(&facts).without_providers();
/// assert_eq!(decision.verdict(), Verdict::Allow);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WaypointPolicySet<P> {
    index: Arc<Index<CompiledPolicy>>,
    compiler: Arc<Compiler>,
    point: PhantomData<P>,
}

/// Policies as they are enforced on requests.
pub type RequestPolicySet = WaypointPolicySet<Requests>;

/// Policies as they are enforced on streams.
pub type StreamPolicySet = WaypointPolicySet<Streams>;

/// The requests of HTTP, at a waypoint, a gateway or a sidecar.
#[derive(Clone, Copy, Debug)]
pub enum Requests {}

/// Streams that are not HTTP, or whose HTTP is none of the proxy's business.
///
/// They have no attributes of requests: a rule that allows by one does not match, one that denies by one matches
/// by what else it says, which may be everything.
#[derive(Clone, Copy, Debug)]
pub enum Streams {}

/// Where policies are enforced: [`Requests`] or [`Streams`].
pub trait EnforcementPoint: sealed::Sealed {}

impl EnforcementPoint for Requests {}
impl EnforcementPoint for Streams {}

mod sealed {
    use super::{Point, Requests, Streams};

    #[expect(unnameable_types, reason = "seals the trait")]
    pub trait Sealed {
        #[expect(private_interfaces, reason = "nobody else can name it, nor implements the trait")]
        const POINT: Point;
    }

    #[expect(private_interfaces, reason = "as above")]
    impl Sealed for Requests {
        const POINT: Point = Point::Request;
    }

    #[expect(private_interfaces, reason = "as above")]
    impl Sealed for Streams {
        const POINT: Point = Point::Stream;
    }
}

impl<P: EnforcementPoint> WaypointPolicySet<P> {
    /// An empty set that refuses objects which Istio would silently widen or drop.
    pub fn strict(mesh: Mesh) -> Self {
        Self::new(Semantics::Strict, mesh)
    }

    /// An empty set that reads objects as Istio does.
    pub fn istio(mesh: Mesh) -> Self {
        Self::new(Semantics::Istio, mesh)
    }

    fn new(semantics: Semantics, mesh: Mesh) -> Self {
        let compiler = Compiler { point: P::POINT, semantics, mesh: Arc::new(mesh) };
        Self { index: Arc::default(), compiler: Arc::new(compiler), point: PhantomData }
    }

    /// Whose reading is followed.
    pub fn semantics(&self) -> Semantics {
        self.compiler.semantics
    }

    /// The settings of the mesh.
    pub fn mesh(&self) -> &Mesh {
        &self.compiler.mesh
    }

    /// This set with other policies in place of its own, compiled and indexed in one go.
    ///
    /// # Errors
    ///
    /// Whatever objects are refused for, also for a name that two of them have. This set is as it was: keep it in
    /// force.
    pub fn replaced<'a>(
        &self,
        objects: impl IntoIterator<Item = &'a AuthorizationPolicy>,
    ) -> Result<Self, ObjectError> {
        let mut policies = Vec::new();
        let mut findings = Vec::new();
        for object in objects {
            match self.compiler.compile(object) {
                Ok(policy) => policies.push(Arc::new(policy)),
                Err(error) => findings.extend(error.into_findings()),
            }
        }
        let index = Index::of(policies);
        if let Err(name) = &index {
            let metadata = Metadata::named(name.namespace(), name.name());
            let object = ObjectRef::new(AuthorizationPolicy::KIND, &metadata);
            Report::new(&object, &mut findings).add(Code::Duplicate, Path::Root);
        }
        match (index, ObjectError::new(findings)) {
            (Ok(index), None) => Ok(Self { index: Arc::new(index), ..self.clone() }),
            (_, Some(error)) => Err(error),
            // Not reached: a name that two have is a finding.
            (Err(_), None) => Ok(self.clone()),
        }
    }

    /// Adds a policy, or replaces the one with its name.
    ///
    /// Costs its compilation, and a few binary searches for each value that a rule of it is found by.
    ///
    /// # Errors
    ///
    /// With strict semantics, if the object is refused. The set keeps the policy that it had by that name, if
    /// any.
    pub fn insert(&mut self, object: &AuthorizationPolicy) -> Result<(), ObjectError> {
        let policy = self.compiler.compile(object)?;
        Arc::make_mut(&mut self.index).insert(Arc::new(policy));
        Ok(())
    }

    /// Adds a policy, or replaces the one with its name, by something at least as tight if it is refused: an
    /// ALLOW that matches nothing, a DENY or CUSTOM that denies everything, where the policy applies or, if that
    /// is what is broken, in all of its namespace. Returns why.
    pub fn insert_closed(&mut self, object: &AuthorizationPolicy) -> Option<ObjectError> {
        let error = self.insert(object).err()?;
        let policy = self.compiler.compile_closed(object);
        Arc::make_mut(&mut self.index).insert(Arc::new(policy));
        Some(error)
    }

    /// Removes the policy of that name, if there is one.
    pub fn remove(&mut self, name: &PolicyName) {
        if self.index.get(name).is_some() {
            Arc::make_mut(&mut self.index).remove(name);
        }
    }

    /// The names of all policies, in their order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &PolicyName> {
        self.index.iter().map(Indexed::name)
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.index.iter().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RequestPolicySet {
    /// Decides about a request.
    ///
    /// Never fails, blocks or allocates.
    ///
    /// Costs one look-up for each form of value by which rules for the target are found, and then what it takes
    /// to ask the rules that are found, as
    /// [`PolicySet::evaluate_connection`](crate::PolicySet::evaluate_connection) does. For gateways and
    /// workloads that policies select by labels, looking for an ALLOW policy is linear in the policies of their
    /// namespaces that select others.
    pub fn evaluate_request<'a>(&'a self, facts: &'a RequestFacts<'a>) -> Step<'a> {
        self.case(facts).applicable().step(None)
    }

    /// Decides about a request as [`evaluate_request`](Self::evaluate_request) does with what providers
    /// answer, and shows why.
    ///
    /// For people and tools: evaluates every rule that applies and allocates.
    pub fn explain<'a>(
        &'a self,
        facts: &'a RequestFacts<'a>,
        answer: impl FnMut(&Question<'a>) -> Answer,
    ) -> WaypointExplanation<'a> {
        WaypointExplanation::new(self.case(facts), answer)
    }

    fn case<'a>(&'a self, facts: &'a RequestFacts<'a>) -> Case<'a> {
        let facts = Facts::Request(facts);
        Case { index: &self.index, semantics: self.semantics(), mesh: self.mesh(), facts }
    }
}

impl StreamPolicySet {
    /// Decides about a stream, at the cost of [`RequestPolicySet::evaluate_request`].
    pub fn evaluate_stream<'a>(&'a self, facts: &'a StreamFacts<'a>) -> Step<'a> {
        self.case(facts).applicable().step(None)
    }

    /// Decides about a stream as [`evaluate_stream`](Self::evaluate_stream) does with what providers answer,
    /// and shows why. Evaluates every rule that applies and allocates.
    pub fn explain<'a>(
        &'a self,
        facts: &'a StreamFacts<'a>,
        answer: impl FnMut(&Question<'a>) -> Answer,
    ) -> WaypointExplanation<'a> {
        WaypointExplanation::new(self.case(facts), answer)
    }

    fn case<'a>(&'a self, facts: &'a StreamFacts<'a>) -> Case<'a> {
        let facts = Facts::Stream(facts);
        Case { index: &self.index, semantics: self.semantics(), mesh: self.mesh(), facts }
    }
}

impl<P> Clone for WaypointPolicySet<P> {
    fn clone(&self) -> Self {
        Self { index: Arc::clone(&self.index), compiler: Arc::clone(&self.compiler), point: PhantomData }
    }
}

impl<P: EnforcementPoint> fmt::Debug for WaypointPolicySet<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.debug_struct("WaypointPolicySet")
            .field("semantics", &self.semantics())
            .field("policies", &names)
            .finish_non_exhaustive()
    }
}
