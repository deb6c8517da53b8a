//! Authorization for a service mesh as a pure, total function that explains its decisions.
//!
//! A [`PolicySet`] holds the policies of a mesh, indexed by where they apply. Given the
//! [facts](ConnectionFacts) of a connection it answers with a [`Decision`]: allow or deny, and the policy and
//! rule that decided. Asked to [explain](PolicySet::explain), it tells which clause of which policy missed,
//! the nearest miss first.
//!
//! It is *not* an enforcement point: no sockets, no async, no clock, no configuration files, and nothing here
//! fetches policies or closes connections. It never sees certificates either; a peer's identity comes in
//! already verified.
//!
//! ```
//! use mesh_identity::SpiffeId;
//! use mesh_policy::{
//!     Action, Clause, ConnectionFacts, Match, Policy, PolicySet, Rule, Scope, StringMatch, Verdict,
//! };
//!
//! let from_cart = Match {
//!     principals: vec![StringMatch::Exact("example.org/ns/shop/sa/cart".into())],
//!     ..Match::default()
//! };
//! let set = PolicySet::builder()
//!     .policy(Policy {
//!         name: "bank/only-cart".parse()?,
//!         scope: Scope::Namespace,
//!         action: Action::Allow,
//!         dry_run: false,
//!         rules: vec![Rule { clauses: vec![Clause { matches: vec![from_cart] }] }],
//!     })
//!     .build()?;
//!
//! let cart: SpiffeId = "spiffe://example.org/ns/shop/sa/cart".parse()?;
//! let mut facts = ConnectionFacts {
//!     source: "192.0.2.1".parse()?,
//!     peer: Some(&cart),
//!     destination: "192.0.2.2:8080".parse()?,
//!     namespace: "bank",
//!     policies: &[],
//! };
//! assert_eq!(set.evaluate_connection(&facts).verdict(), Verdict::Allow);
//!
//! facts.peer = None;
//! let decision = set.evaluate_connection(&facts);
//! assert_eq!(decision.verdict(), Verdict::Deny);
//! assert_eq!(decision.reason().to_string(), "allow policies exist, but none allowed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | type | what it is |
//! |---|---|
//! | [`Policy`], [`Rule`], [`Clause`], [`Match`] | a policy as written |
//! | [`PolicySet`], [`PolicySetBuilder`] | all policies: cheap to clone, changed copy-on-write |
//! | [`ConnectionFacts`] | what is known about a connection |
//! | [`Decision`], [`Verdict`], [`Reason`] | the answer |
//! | [`Explanation`] | the answer with its proof |
//! | [`wire`] | policies as a control plane sends them: refused or used, with the last good one kept |
//! | [`waypoint`] | the same for requests and streams at waypoints, from objects as users write them |
//!
//! # Semantics
//!
//! Those of Istio's node proxy at layer 4. A policy matches if any of its rules does, a rule if all of its
//! clauses do, a clause if any of its matches does, a match if all of its fields do. Two corners look alike
//! and are opposites: a clause *without* matches is true, a clause with one *empty* match is false. A policy
//! without rules never matches.
//!
//! A connection is denied if a DENY policy matches it; allowed if no ALLOW policy applies to its destination
//! or one of them matches; denied otherwise. Policies in dry run never decide, they are
//! [reported](Decision::dry_run_denials).
//!
//! There are three enforcement points: connections at a node proxy ([`PolicySet`]), streams at a waypoint
//! ([`waypoint::StreamPolicySet`]) and requests at one ([`waypoint::RequestPolicySet`]). What arrives at a node
//! proxy on the wire has the one meaning above. Objects have two readings, [`Semantics`], named by the
//! constructor:
//!
//! | | strict | Istio |
//! |---|---|---|
//! | value that cannot be used (`ports: ["65616"]`) | refused | ALLOW loses the rule; elsewhere the value vanishes, and with the last one its field |
//! | unknown key of `when` | refused | the rule vanishes, from a DENY too |
//! | key of `when` whose brackets do not pair | refused | ALLOW loses the rule; elsewhere the condition vanishes |
//! | unknown field, mis-spelled kind | refused | as an API server: the field is dropped, the kind passed over |
//! | DENY or CUSTOM without rules, empty source or operation | refused | as written |
//! | `requestPrincipals` that would be cut or read literally (`*/*`, `https://iss*`, `plain`) | refused | as written |
//! | wildcard within a principal, host or server name | refused | read literally |
//! | principal with more than one namespace or account | refused | matches that text at waypoints, nobody at node proxies |
//! | IPv4 address in the form of IPv6 | refused | never matches |
//! | target of another namespace or kind | refused | ignored |
//! | selector without labels | refused | nobody at node proxies, everybody elsewhere |
//! | PeerAuthentication with a selector in the root namespace | refused | ignored |
//! | attribute of requests at a stream | ALLOW: the rule does not match; else it matches by the rest | the same |
//! | attribute that a node proxy cannot see, in an ALLOW | the rule does not match | the same; but a trust domain in `from` is left out, which widens |
//! | attribute that a node proxy cannot see, in a DENY | matches by the rest, which may be everything | a part without a rest never matches |
//! | trust domain at a node proxy | as a prefix of principals, if it is one; else not seen | left out of `from`; of `when`, not seen |
//! | `source.serviceAccount` of `when` at a node proxy | as in `from` | not seen |
//! | wildcard within a namespace | a wildcard at waypoints; not seen at node proxies | a wildcard at waypoints; read literally at node proxies |
//! | peer that is not `spiffe://<trust domain>/ns/<namespace>/sa/<account>`, at a waypoint | principal and trust domain as they are; namespace and account not seen: an ALLOW by them does not match, a DENY does | each attribute by its own pattern: a URI may be in several namespaces |
//! | such a peer at a node proxy | no identity | the same |
//! | no identity, header or token | positive fields false, negative ones true | the same |
//! | workload without labels | selected by no selector that has some | lists every policy with a selector of its namespace and the root namespace |
//! | path that normalised twice is another one (`/a/%2e%2e;/b`) | refused with the status 400 | as normalised once |
//! | host that a DENY, CUSTOM or AUDIT lists, or an ALLOW excludes | matches with any port or the one listed, with and without a dot at the end, whichever way the request writes it; one without a port has 80 and 443 | as written, without case |
//! | other hosts | as written, without case | the same |
//! | `connection.sni` | without case | value as written against the name in lower case |
//! | `user-agent` | line by line, as other headers | its lines joined by commas |
//! | CUSTOM that names the peer or a token | refused | asked before tokens are known |
//! | CUSTOM with a provider that the mesh lacks | refused | what matches is denied |
//! | CUSTOM with a provider of requests, at a stream | what matches is denied | ignored |
//! | CUSTOM with several providers | each is asked | what matches is denied, unless the mesh allows it |
//!
//! # Features
//!
//! - `crd`: the module of that name, which reads objects in YAML and JSON and converts them to what node
//!   proxies receive. With it, findings and explanations serialise, and access logs are read in JSON.
//!
//! # Security
//!
//! Policy fails closed. A policy that a workload lists and that is not there denies, unless
//! [`MissingPolicy::Skip`] is chosen. Values that a wire format can get wrong (addresses, ports, an unset
//! kind of match) have no representation here, so a lenient parser cannot widen a rule. A negative field is
//! true for a peer without an identity: an ALLOW that says only `not_namespaces` admits plaintext.

mod attributes;
mod check;
#[cfg(feature = "crd")]
pub mod crd;
mod decision;
mod evaluate;
mod explain;
mod facts;
mod finding;
pub mod lint;
mod matcher;
mod name;
pub mod object;
mod policy;
mod rule;
mod semantics;
mod set;
pub mod simulate;
mod string_match;
pub mod waypoint;
pub mod wire;

pub use decision::{Decision, Reason, Verdict};
pub use explain::{
    Actual, ClauseMiss, Expected, Explanation, Field, MatchMiss, Mismatch, PolicyTrace, RuleTrace,
};
pub use facts::ConnectionFacts;
pub use finding::{Code, Finding, Level, ObjectRef, Place};
pub use name::{PolicyName, PolicyNameError};
pub use policy::{Action, Policy, Scope};
pub use rule::{Clause, Match, Rule, ServiceAccountMatch};
pub use semantics::Semantics;
pub use set::{MissingPolicy, PolicySet, PolicySetBuilder, PolicySetError};
pub use string_match::StringMatch;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
