//! What other policies would change, told from connections and requests that there were.

mod access_log;

pub use access_log::{AccessLogError, AccessRecord};

use crate::{
    ConnectionFacts, Decision, PolicyName, PolicySet, Verdict,
    waypoint::{RequestFacts, RequestPolicySet, StreamFacts, StreamPolicySet, WaypointDecision},
};

/// Decides twice, by the policies in force and by others, and keeps the decisions that differ.
///
/// ```
/// use mesh_policy::{Action, MissingPolicy, Policy, PolicySet, Rule, Scope, simulate::{AccessRecord, Simulation}};
///
/// let before = PolicySet::empty(MissingPolicy::Deny);
/// let name = "shop/nobody".parse()?;
/// let deny = Policy { name, scope: Scope::Namespace, action: Action::Deny, dry_run: false, rules: vec![Rule::default()] };
/// let after = before.with(deny);
/// let simulation = Simulation::new(&before, &after);
///
/// let line = r#"info access connection complete src.addr=192.0.2.1:4711 dst.addr=192.0.2.2:8080 dst.namespace="shop" direction="inbound""#;
/// let record = AccessRecord::parse(line)?.expect("an inbound connection");
/// let change = simulation.connection(&record.facts(&[]), &[]).expect("another decision");
/// assert_eq!(change.to_string(), "allowed: no allow policies apply -> denied: explicitly denied by: shop/nobody");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Simulation<'a, S> {
    before: &'a S,
    after: &'a S,
}

/// A decision that would be another.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Change<D> {
    /// The decision by the policies in force.
    pub before: D,
    /// The decision by the others.
    pub after: D,
}

impl<'a, S> Simulation<'a, S> {
    /// Compares the policies in force with others.
    pub fn new(before: &'a S, after: &'a S) -> Self {
        Self { before, after }
    }
}

impl<'a> Simulation<'a, PolicySet> {
    /// Whether the verdict on a connection would be another. The workload may list other policies then.
    pub fn connection(
        &self,
        facts: &ConnectionFacts<'a>,
        listed_after: &'a [PolicyName],
    ) -> Option<Change<Decision<'a>>> {
        let before = self.before.evaluate_connection(facts);
        let after = self.after.evaluate_connection(&ConnectionFacts { policies: listed_after, ..*facts });
        (before.verdict() != after.verdict()).then_some(Change { before, after })
    }
}

impl<'a> Simulation<'a, RequestPolicySet> {
    /// Whether the verdict on a request would be another, where no provider answers.
    pub fn request(&self, facts: &'a RequestFacts<'a>) -> Option<Change<WaypointDecision<'a>>> {
        let before = self.before.evaluate_request(facts).without_providers();
        let after = self.after.evaluate_request(facts).without_providers();
        (before.verdict() != after.verdict()).then_some(Change { before, after })
    }
}

impl<'a> Simulation<'a, StreamPolicySet> {
    /// Whether the verdict on a stream would be another, where no provider answers.
    pub fn stream(&self, facts: &'a StreamFacts<'a>) -> Option<Change<WaypointDecision<'a>>> {
        let before = self.before.evaluate_stream(facts).without_providers();
        let after = self.after.evaluate_stream(facts).without_providers();
        (before.verdict() != after.verdict()).then_some(Change { before, after })
    }
}

impl Change<Decision<'_>> {
    /// The verdict that would come.
    pub fn verdict(&self) -> Verdict {
        self.after.verdict()
    }
}

impl Change<WaypointDecision<'_>> {
    /// The verdict that would come.
    pub fn verdict(&self) -> Verdict {
        self.after.verdict()
    }
}

/// Displayed as both verdicts with their reasons, joined by an arrow.
impl std::fmt::Display for Change<Decision<'_>> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after } = self;
        write!(f, "{}: {} -> {}: {}", before.verdict(), before.reason(), after.verdict(), after.reason())
    }
}

/// Displayed as both verdicts with their reasons, joined by an arrow.
impl std::fmt::Display for Change<WaypointDecision<'_>> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after } = self;
        write!(f, "{}: {} -> {}: {}", before.verdict(), before.reason(), after.verdict(), after.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MissingPolicy, Semantics,
        object::{Action, AuthorizationPolicy, Metadata, Operation, Rule},
        waypoint::{Headers, Mesh, PathNormalization, Target},
    };

    #[test]
    fn only_other_verdicts_are_changes() {
        let rule = |method: &str| Rule {
            to: vec![Operation { methods: vec![method.into()], ..Operation::default() }],
            ..Rule::default()
        };
        let set = |method: &str| {
            let policy = AuthorizationPolicy {
                metadata: Metadata::named("shop", "only"),
                action: Action::Deny,
                rules: vec![rule(method)],
                ..AuthorizationPolicy::default()
            };
            RequestPolicySet::strict(Mesh::new("example.org")).replaced([&policy]).unwrap()
        };
        let (before, after) = (set("PUT"), set("GET"));
        let path = PathNormalization::None.normalize("/", Semantics::Strict).unwrap();
        let facts = RequestFacts {
            stream: StreamFacts {
                target: Target::Workload { namespace: "shop", labels: &[] },
                source: "192.0.2.1".parse().unwrap(),
                remote: "192.0.2.1".parse().unwrap(),
                peer: None,
                destination: "192.0.2.2:80".parse().unwrap(),
                sni: None,
                metadata: &[],
            },
            method: "GET",
            authority: None,
            path: &path,
            headers: Headers::Lines(&[]),
            claims: None,
        };
        let simulation = Simulation::new(&before, &after);
        assert_eq!(simulation.request(&facts).unwrap().verdict(), Verdict::Deny);
        assert!(simulation.request(&RequestFacts { method: "POST", ..facts }).is_none());
        assert!(Simulation::new(&before, &before).request(&facts).is_none());
    }

    #[test]
    fn a_policy_that_is_listed_later_counts_later() {
        let set = PolicySet::empty(MissingPolicy::Deny);
        let record = AccessRecord::parse(
            r#"access connection complete src.addr=192.0.2.1:1 dst.addr=192.0.2.2:80 dst.namespace="a" direction="inbound""#,
        );
        let record = record.unwrap().unwrap();
        let listed = ["a/gone".parse().unwrap()];
        let change = Simulation::new(&set, &set).connection(&record.facts(&[]), &listed).unwrap();
        assert_eq!(change.after.missing_policy(), listed.first());
    }
}
