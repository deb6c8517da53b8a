//! What a text holds, and what becomes of it.

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    sync::Arc,
};

use serde_yaml_ng::Value;

use super::{document::documents, fields::Fields, kind};
use crate::{
    Code, Finding, Level, ObjectRef, Place, Semantics,
    finding::{Path, Report},
    object::{
        Action, AuthorizationPolicy, Extent, Metadata, MutualTlsMode, ObjectError, PeerAuthentication,
        PolicyObject, PolicyObjects, RequestAuthentication, Rule,
    },
};

/// Reads every policy object of a text in YAML or JSON, lists included.
///
/// Never fails: what cannot be read is a [finding](Reading::findings). Objects of other kinds are passed over and
/// [named](Reading::others). Texts of more than 64 MiB are not read.
pub fn read(text: &str) -> Reading {
    read_all(text, None)
}

/// Reads every policy object of a text as [`read`] does, and calls the text by a name, such as that of its file, in
/// whatever is said about [where](Place) objects are.
pub fn read_file(file: impl Into<Arc<str>>, text: &str) -> Reading {
    read_all(text, Some(file.into()))
}

fn read_all(text: &str, file: Option<Arc<str>>) -> Reading {
    let mut reading = Reading::default();
    if text.len() > MOST_BYTES {
        let place = file.is_some().then_some(Place { file, document: 1, line: 1 });
        reading.note(Code::TooLarge, place.as_ref(), "");
        return reading;
    }
    for (index, document) in documents(text).into_iter().enumerate() {
        let place = Place { file: file.clone(), document: index + 1, line: document.line };
        match document.content {
            Ok(value) => reading.read(&value, "", &place, true),
            Err(problem) => reading.note(Code::Syntax, Some(&place), &problem),
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
        reading.read(value, "", &Place { file: None, document: 1, line: 1 }, true);
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

    /// The objects that can be told by kind and name, and where each was read; a name may come twice.
    pub fn places(&self) -> impl Iterator<Item = (ObjectRef, &Place)> {
        self.entries.iter().map(|entry| (entry.object.reference(), &entry.place))
    }

    /// The objects that [`into_objects`](Self::into_objects) fails for and that [`fail_closed`](Self::fail_closed) puts
    /// something in the place of, each with the findings that make it so.
    pub fn refused(&self, semantics: Semantics) -> impl Iterator<Item = (ObjectRef, Vec<&Finding>)> {
        self.entries.iter().filter_map(move |entry| {
            let fatal: Vec<_> =
                entry.findings.iter().filter(|finding| is_fatal(finding, semantics)).collect();
            (!fatal.is_empty()).then(|| (entry.object.reference(), fatal))
        })
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
    pub fn into_objects(self, semantics: Semantics) -> Result<PolicyObjects, ObjectError> {
        let objects = self.duplicates();
        let findings = self.findings().chain(&objects).filter(|finding| is_fatal(finding, semantics));
        let findings: Vec<_> = findings.cloned().collect();
        match ObjectError::new(findings) {
            Some(error) => Err(error),
            None => Ok(self.entries.into_iter().map(|entry| entry.object).collect()),
        }
    }

    /// The objects that can be read, whatever else is wrong with them. For tools that look at what there is: what
    /// cannot be read is left out, so others may admit more than all would.
    pub fn readable(&self) -> PolicyObjects {
        let is_readable =
            |entry: &&Entry| entry.findings.iter().all(|finding| finding.level < Level::Unreadable);
        self.entries.iter().filter(is_readable).map(|entry| entry.object.clone()).collect()
    }

    /// All objects, with one that fails closed in the place of each that
    /// [`into_objects`](Self::into_objects) fails for: an ALLOW that matches nothing, a DENY that matches
    /// everything in its scope (for a CUSTOM and an unknown action too), a PeerAuthentication that asks for mutual
    /// TLS. A broken AUDIT is dropped. Where the selector cannot be read, the scope is the namespace, or the mesh in
    /// the root namespace; where the targets cannot, or a field that may have been either,
    /// [all of it](crate::object::Extent::Namespace), waypoints included.
    ///
    /// # Errors
    ///
    /// If something cannot be told to be an object of a kind and name, if two objects have one name, or if a
    /// RequestAuthentication is broken: nothing stands for it.
    pub fn fail_closed(self, semantics: Semantics) -> Result<PolicyObjects, ObjectError> {
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
                    objects.authorization.extend(closed(policy, &entry.findings, entry.says_action));
                }
                PolicyObject::Peer(policy) => objects.peer.push(closed_peer(policy, &entry.findings)),
                PolicyObject::Request(_) => findings.extend(entry.findings),
            }
        }
        ObjectError::new(findings).map_or(Ok(objects), Err)
    }

    /// A finding for each object whose kind and name another has.
    fn duplicates(&self) -> Vec<Finding> {
        let mut first = BTreeMap::new();
        let mut findings = Vec::new();
        for entry in &self.entries {
            let reference = entry.object.reference();
            let first = match first.entry(reference.clone()) {
                Slot::Vacant(slot) => {
                    slot.insert(&entry.place);
                    continue;
                }
                Slot::Occupied(slot) => *slot.get(),
            };
            Report::new(&reference, &mut findings).add(Code::Duplicate, Path::Root);
            if let Some(finding) = findings.last_mut() {
                finding.place = Some(entry.place.clone());
                finding.problem = format!("{}: {first}", finding.problem).into();
            }
        }
        findings
    }

    fn note(&mut self, code: Code, place: Option<&Place>, detail: &str) {
        let object = ObjectRef::new("", &Metadata::default());
        Report::new(&object, &mut self.stray).add(code, Path::Root);
        if let Some(finding) = self.stray.last_mut() {
            finding.place = place.cloned();
            if !detail.is_empty() {
                finding.problem = format!("{}: {detail}", code.summary()).into();
            }
        }
    }

    /// Reads an object or a list of objects; an item of a list of one kind need not say which.
    fn read(&mut self, value: &Value, kind_of_list: &str, place: &Place, may_be_list: bool) {
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
        let known = [AuthorizationPolicy::KIND, PeerAuthentication::KIND, RequestAuthentication::KIND]
            .contains(&kind);
        match known {
            false if group == GROUP => self.refuse_kind(value, kind, place),
            false => self.pass_over(value, kind),
            true if group == FOREIGN_GROUP => self.pass_over(value, kind),
            // In a list, an item need not say it.
            true => {
                let [newest, _] = VERSIONS;
                let implied = (!kind_of_list.is_empty()).then_some(newest);
                self.read_policy(value, kind, version.or(implied), place);
            }
        }
    }

    /// A kind that is mis-spelled would be passed over, and what it restricts with it.
    fn refuse_kind(&mut self, value: &Value, kind: &str, place: &Place) {
        self.pass_over(value, kind);
        let Some(object) = self.others.pop() else { return };
        Report::new(&object, &mut self.stray).value(Code::UnknownKind, Path::Root.field("kind"), kind);
        self.stray.last_mut().into_iter().for_each(|finding| finding.place = Some(place.clone()));
    }

    fn pass_over(&mut self, value: &Value, kind: &str) {
        let text = |name: &str| Some(value.get("metadata")?.get(name)?.as_str()?.to_owned());
        let (namespace, name) = (text("namespace").unwrap_or_default(), text("name").unwrap_or_default());
        self.others.push(ObjectRef { kind: kind.to_owned().into(), namespace, name });
    }

    fn read_policy(&mut self, value: &Value, kind: &str, version: Option<&str>, place: &Place) {
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
            Some(_) => {}
            None => report.add(Code::ApiVersion, Path::Root.field("apiVersion")),
        }
        let nameless = metadata.name.is_empty();
        reference = ObjectRef::new(kind, &metadata);
        first.iter_mut().for_each(|finding| finding.object = reference.clone());
        let report = &mut Report::new(&reference, &mut findings);
        let spec = fields.get("spec");
        let action = spec.and_then(|spec| spec.get("action")).and_then(Value::as_str);
        let says_action = action.is_some_and(|action| kind::action(action).is_some());
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
        first.iter_mut().for_each(|finding| finding.place = Some(place.clone()));
        if nameless {
            self.stray.extend(first);
        } else {
            self.entries.push(Entry { object, place: place.clone(), findings: first, says_action });
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
fn closed(
    policy: AuthorizationPolicy,
    findings: &[Finding],
    says_action: bool,
) -> Option<AuthorizationPolicy> {
    let broken = |field: &str| findings.iter().any(|finding| finding.path.starts_with(field));
    let any = |code: Code| findings.iter().any(|finding| finding.code == code);
    // Any field may have been in what could not be read, and what is not known may be one that is mis-spelled.
    let lost = findings.iter().any(|finding| {
        finding.path == "spec" && finding.code == Code::WrongType
            || finding.code == Code::UnknownField
                && !finding.path.trim_start_matches("spec.").contains(['.', '['])
    });
    let unknown = !says_action && (lost || broken("spec.action"));
    let (action, rules) = match policy.action {
        // It may have been a DENY.
        _ if unknown => (Action::Deny, vec![Rule::default()]),
        Action::Allow => (Action::Allow, Vec::new()),
        Action::Audit => return None,
        Action::Custom | Action::Deny => (Action::Deny, vec![Rule::default()]),
    };
    let (extent, selector, target_ref, target_refs) =
        if lost || broken("spec.targetRef") || any(Code::SeveralTargets) {
            (Extent::Namespace, None, None, Vec::new())
        } else {
            let selector = policy.selector.filter(|_| !broken("spec.selector"));
            (Extent::Written, selector, policy.target_ref, policy.target_refs)
        };
    let mut metadata = policy.metadata;
    if broken("metadata") {
        // Whether it is in dry run cannot be told.
        metadata.annotations.clear();
    }
    let provider = None;
    Some(AuthorizationPolicy { metadata, selector, target_ref, target_refs, action, provider, rules, extent })
}

fn closed_peer(policy: PeerAuthentication, findings: &[Finding]) -> PeerAuthentication {
    let broken = findings.iter().any(|finding| finding.path.starts_with("spec.selector"));
    PeerAuthentication {
        metadata: policy.metadata,
        selector: policy.selector.filter(|_| !broken),
        mtls: MutualTlsMode::Strict,
        port_level_mtls: Default::default(),
        extent: Extent::Written,
    }
}

#[derive(Clone, Debug)]
struct Entry {
    object: PolicyObject,
    place: Place,
    findings: Vec<Finding>,
    /// Whether it has an action that can be read.
    says_action: bool,
}

const GROUP: &str = "security.istio.io";
/// Has an AuthorizationPolicy of its own.
const FOREIGN_GROUP: &str = "policy.linkerd.io";
const VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];

/// More than a cluster's policies take; reading stays within seconds.
const MOST_BYTES: usize = 64 << 20;
