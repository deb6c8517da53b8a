//! AuthorizationPolicies at waypoints: on requests, and on streams.

mod attribute;
mod attributes;
mod claims;
mod compile;
mod condition;
mod decision;
mod evaluate;
mod explain;
mod facts;
mod forwarded_for;
mod header;
mod key;
mod mesh;
mod path;
mod policy;
mod set;
mod target;
mod tokens;
mod value;

pub(crate) use attribute::{Attribute, KeyError};
pub use claims::{ClaimValue, Claims};
pub(crate) use compile::text::{self, has_inner_wildcard};
pub use decision::{Answer, Question, Step, WaypointDecision};
pub use explain::{ConditionMiss, RuleMiss, WaypointExplanation, WaypointPolicyTrace, WaypointRuleTrace};
pub use facts::{FilterMetadata, Headers, RequestFacts, StreamFacts};
pub use forwarded_for::ForwardedFor;
pub use mesh::{ExtensionProvider, Mesh, ProviderProtocol};
pub use path::{NormalizedPath, PathError, PathNormalization};
pub use policy::{DroppedRule, RulePart};
pub use set::{EnforcementPoint, RequestPolicySet, Requests, StreamPolicySet, Streams, WaypointPolicySet};
pub(crate) use target::WAYPOINT_CLASS;
pub use target::{Labels, Service, ServiceKind, Target};
pub use tokens::{Authentication, Token, TokenRules, TokenState};
pub(crate) use value::{PathTemplate, RequestPrincipal};

/// The body that Istio's proxies send with the status 403 for a request that is denied.
pub const DENIED_BODY: &str = "RBAC: access denied";
