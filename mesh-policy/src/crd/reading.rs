//! What a text holds, and what becomes of it.

use std::{collections::BTreeSet, fmt};

use serde_yaml_ng::Value;

use super::{document::documents, fields::Fields, kind};
use crate::{
    Code, Finding, Level, ObjectRef, Place, Semantics,
    finding::{Path, Report},
    object::{
        Action, AuthorizationPolicy, Metadata, MutualTlsMode, PeerAuthentication, PolicyObject,
        PolicyObjects, RequestAuthentication, Rule,
    },
};

/// Reads every policy object of a text in YAML or JSON, lists included.
///
/// Never fails: what cannot be read is a [finding](Reading::findings). Objects of other kinds are passed over and
/// [named](Reading::others). Texts of more than 64 MiB are not read.
pub fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    if text.len() > MOST_BYTES {
        reading.note(Code::TooLarge, None, "");
        return reading;
    }
    for (index, document) in documents(text).into_iter().enumerate() {
        let place = Place { document: index + 1, line: document.line };
        match document.content {
            Ok(value) => reading.read(&value, "", place, true),
            Err(problem) => reading.note(Code::Syntax, Some(place), &problem),
        }
    }
    reading
}

/// The policy objects of one or more texts, with everything that is wrong with them.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Reading {
    entries: Vec<Entry>,
    /// Of what is not even an object.
    stray: Vec<Finding>,
    others: Vec<ObjectRef>,
}

impl Reading {
    /// Reads one object, or a list of them.
    pub(super) fn of(value: &Value) -> Self {
        let mut reading = Self::default();
        reading.read(value, "", Place { document: 1, line: 1 }, true);
        reading
    }

    /// Adds what another text holds.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.stray.extend(other.stray);
        self.others.extend(other.others);
    }

    /// Everything that is wrong, in the order in which it was read.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.stray.iter().chain(self.entries.iter().flat_map(|entry| &entry.findings))
    }

    /// Objects of kinds that are no policies.
    pub fn others(&self) -> &[ObjectRef] {
        &self.others
    }

    /// All objects as they are written.
    ///
    /// # Errors
    ///
    /// If any object cannot be read; with [`Semantics::Strict`] also if Istio would refuse, widen or drop any part
    /// of one. Keep the last good set.
    pub fn into_objects(self, semantics: Semantics) -> Result<PolicyObjects, ReadError> {
        let objects = self.duplicates();
        let findings = self.findings().chain(&objects).filter(|finding| is_fatal(finding, semantics));
        let findings: Vec<_> = findings.cloned().collect();
        if !findings.is_empty() {
            return Err(ReadError { findings });
        }
        Ok(self.entries.into_iter().map(|entry| entry.object).collect())
    }

    /// All objects, with one that fails closed in the place of each that
    /// [`into_objects`](Self::into_objects) fails for: an ALLOW that matches nothing, a DENY that matches
    /// everything in its scope (for a CUSTOM too), a PeerAuthentication that asks for mutual TLS. A broken AUDIT
    /// is dropped. Where the selector or the targets cannot be read, the scope is the namespace, or the mesh in
    /// the root namespace.
    ///
    /// # Errors
    ///
    /// If something cannot be told to be an object of a kind and name, if two objects have one name, or if a
    /// RequestAuthentication is broken: nothing stands for it.
    pub fn fail_closed(self, semantics: Semantics) -> Result<PolicyObjects, ReadError> {
        let mut findings: Vec<_> =
            self.stray.iter().filter(|finding| is_fatal(finding, semantics)).cloned().collect();
        findings.extend(self.duplicates());
        let mut objects = PolicyObjects::default();
        for entry in self.entries {
            if !entry.findings.iter().any(|finding| is_fatal(finding, semantics)) {
                objects.extend([entry.object]);
                continue;
            }
            match entry.object {
                PolicyObject::Authorization(policy) => {
                    // An action that cannot be read may have been a DENY.
                    let unknown = entry.findings.iter().any(|finding| finding.path == "spec.action");
                    objects.authorization.extend(closed(policy, &entry.findings, unknown));
                }
                PolicyObject::Peer(policy) => objects.peer.push(closed_peer(policy, &entry.findings)),
                PolicyObject::Request(_) => findings.extend(entry.findings),
            }
        }
        if findings.is_empty() { Ok(objects) } else { Err(ReadError { findings }) }
    }

    /// A finding for each object whose kind and name another has.
    fn duplicates(&self) -> Vec<Finding> {
        let mut seen = BTreeSet::new();
        let again = self.entries.iter().filter(|entry| !seen.insert(entry.object.reference()));
        let mut findings = Vec::new();
        for entry in again {
            let reference = entry.object.reference();
            let start = findings.len();
            Report::new(&reference, &mut findings).add(Code::Duplicate, Path::Root);
            findings.iter_mut().skip(start).for_each(|finding| finding.place = Some(entry.place));
        }
        findings
    }

    fn note(&mut self, code: Code, place: Option<Place>, detail: &str) {
        let object = ObjectRef::new("", &Metadata::default());
        Report::new(&object, &mut self.stray).add(code, Path::Root);
        if let Some(finding) = self.stray.last_mut() {
            finding.place = place;
            if !detail.is_empty() {
                finding.problem = format!("{}: {detail}", code.summary()).into();
            }
        }
    }

    /// Reads an object or a list of objects; an item of a list of one kind need not say which.
    fn read(&mut self, value: &Value, kind_of_list: &str, place: Place, may_be_list: bool) {
        let text = |name| value.get(name).and_then(Value::as_str);
        let kind = text("kind").unwrap_or(kind_of_list);
        if kind.is_empty() {
            return self.note(Code::NotAnObject, Some(place), "");
        }
        if let Some(kind_of_items) = kind.strip_suffix("List").filter(|_| value.get("items").is_some()) {
            let items = value.get("items").and_then(Value::as_sequence);
            return match items.filter(|_| may_be_list) {
                Some(items) => items.iter().for_each(|item| self.read(item, kind_of_items, place, false)),
                None => self.note(Code::NotAnObject, Some(place), ""),
            };
        }
        let version = text("apiVersion");
        let group = version.map_or("", |version| version.split_once('/').map_or("", |(group, _)| group));
        let ours = group == GROUP || (version.is_none() && !kind_of_list.is_empty());
        let known = [AuthorizationPolicy::KIND, PeerAuthentication::KIND, RequestAuthentication::KIND]
            .contains(&kind);
        if !known || !(ours || version.is_none()) {
            return self.pass_over(value, kind);
        }
        self.read_policy(value, kind, version.filter(|_| ours), place, !kind_of_list.is_empty());
    }

    fn pass_over(&mut self, value: &Value, kind: &str) {
        let text = |name: &str| Some(value.get("metadata")?.get(name)?.as_str()?.to_owned());
        let (namespace, name) = (text("namespace").unwrap_or_default(), text("name").unwrap_or_default());
        self.others.push(ObjectRef { kind: kind.to_owned().into(), namespace, name });
    }

    fn read_policy(&mut self, value: &Value, kind: &str, version: Option<&str>, place: Place, in_list: bool) {
        let mut findings = Vec::new();
        let kind = match kind {
            AuthorizationPolicy::KIND => AuthorizationPolicy::KIND,
            PeerAuthentication::KIND => PeerAuthentication::KIND,
            _ => RequestAuthentication::KIND,
        };
        // The name is not known until the metadata is read, so that is reported without.
        let mut reference = ObjectRef::new(kind, &Metadata::default());
        let mut first = Vec::new();
        let report = &mut Report::new(&reference, &mut first);
        let Some(mut fields) = Fields::open(value, Path::Root, report) else {
            return self.stray.append(&mut first);
        };
        let metadata = fields
            .get("metadata")
            .and_then(|value| kind::metadata(value, Path::Root.field("metadata"), report));
        let metadata = metadata.unwrap_or_default();
        if metadata.name.is_empty() {
            report.add(Code::Nameless, Path::Root.field("metadata"));
        }
        match version {
            Some(version) if !VERSIONS.contains(&version) => {
                report.value(Code::ApiVersion, Path::Root.field("apiVersion"), version);
            }
            None if !in_list => report.add(Code::ApiVersion, Path::Root.field("apiVersion")),
            _ => {}
        }
        let nameless = metadata.name.is_empty();
        reference = ObjectRef::new(kind, &metadata);
        first.iter_mut().for_each(|finding| finding.object = reference.clone());
        let report = &mut Report::new(&reference, &mut findings);
        let spec = fields.get("spec");
        let object = match kind {
            AuthorizationPolicy::KIND => {
                PolicyObject::Authorization(kind::authorization_policy(metadata, spec, report))
            }
            PeerAuthentication::KIND => PolicyObject::Peer(kind::peer_authentication(metadata, spec, report)),
            _ => PolicyObject::Request(kind::request_authentication(metadata, spec, report)),
        };
        fields.ignore(&["apiVersion", "kind", "status"]);
        fields.close(report);
        first.extend(findings);
        // What could not be read is missing, and says nothing about what was written.
        if first.iter().all(|finding| finding.level < Level::Unreadable) {
            first.extend(object.refusals());
        }
        first.iter_mut().for_each(|finding| finding.place = Some(place));
        if nameless {
            self.stray.extend(first);
        } else {
            self.entries.push(Entry { object, place, findings: first });
        }
    }
}

fn is_fatal(finding: &Finding, semantics: Semantics) -> bool {
    let least = match semantics {
        Semantics::Istio => Level::Unreadable,
        Semantics::Strict => Level::Refused,
    };
    finding.level >= least
}

/// What stands for an AuthorizationPolicy that cannot be used.
fn closed(policy: AuthorizationPolicy, findings: &[Finding], unknown: bool) -> Option<AuthorizationPolicy> {
    let broken = |field: &str| findings.iter().any(|finding| finding.path.starts_with(field));
    let (action, rules) = match policy.action {
        _ if unknown => (Action::Deny, vec![Rule::default()]),
        Action::Allow => (Action::Allow, Vec::new()),
        Action::Audit => return None,
        Action::Custom | Action::Deny => (Action::Deny, vec![Rule::default()]),
    };
    let (selector, target_ref, target_refs) = match () {
        // Nothing is left that tells which was meant.
        () if broken("spec.selector")
            || broken("spec.targetRef")
            || findings.iter().any(|f| f.code == Code::SeveralTargets) =>
        {
            (None, None, Vec::new())
        }
        () => (policy.selector, policy.target_ref, policy.target_refs),
    };
    let mut metadata = policy.metadata;
    if broken("metadata") {
        // Whether it is in dry run cannot be told.
        metadata.annotations.clear();
    }
    Some(AuthorizationPolicy { metadata, selector, target_ref, target_refs, action, provider: None, rules })
}

fn closed_peer(policy: PeerAuthentication, findings: &[Finding]) -> PeerAuthentication {
    let broken = findings.iter().any(|finding| finding.path.starts_with("spec.selector"));
    PeerAuthentication {
        metadata: policy.metadata,
        selector: policy.selector.filter(|_| !broken),
        mtls: MutualTlsMode::Strict,
        port_level_mtls: Default::default(),
    }
}

#[derive(Clone, Debug)]
struct Entry {
    object: PolicyObject,
    place: Place,
    findings: Vec<Finding>,
}

/// Why the objects of a text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    findings: Vec<Finding>,
}

impl ReadError {
    /// Everything that stands in the way; never empty.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl std::error::Error for ReadError {}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.findings.first() {
            write!(f, "{first}")?;
        }
        match self.findings.len() {
            0 | 1 => Ok(()),
            several => write!(f, " (and {} more)", several - 1),
        }
    }
}

const GROUP: &str = "security.istio.io";
const VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];

/// More than a cluster's policies take; reading stays within seconds.
const MOST_BYTES: usize = 64 << 20;
