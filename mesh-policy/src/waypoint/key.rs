//! What a rule is found by.

use std::{
    cmp::max,
    hash::{DefaultHasher, Hash, Hasher},
};

use ipnet::IpNet;

use super::{
    ClaimValue,
    attribute::Attribute,
    attributes::Attributes,
    condition::{Condition, PathMatch, Values},
    policy::{Alternative, Clause, CompiledRule},
    value::{Authority, KeptHost, SCHEME, accounts_within, namespaces_within},
};
use crate::{
    Semantics, StringMatch,
    set::{Breadth, Candidates, Cost, Folding, RangeShape, Selection, Text, TextShape, fingerprint},
};

/// A form of value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    form: Form,
    /// Nothing for rules that are always asked.
    attribute: Option<Attribute>,
    /// Tells keys of this shape from those of others.
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Account,
    Always,
    HostName(TextShape),
    Issuer(TextShape),
    Namespace,
    Port,
    Range(RangeShape),
    Subject(TextShape),
    Text(TextShape),
}

/// A value that something has to have for a rule to be asked about it.
#[derive(Clone, Copy, Debug)]
enum Key<'a> {
    Account(&'a str, &'a str),
    HostName(Text<'a>),
    Issuer(Text<'a>),
    Namespace(&'a str),
    Port(u16),
    Range(IpNet),
    Subject(Text<'a>),
    Text(Text<'a>),
}

/// A part of a rule that has values.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    /// The most selective condition of each alternative.
    Clause(&'a Clause),
    /// A condition of the only alternative of a clause.
    Condition(&'a Condition),
}

impl CompiledRule {
    /// The values of the part that is likely to let the fewest pass.
    pub(super) fn for_each_key(&self, mut found: impl FnMut(Shape, u64)) {
        let Self::Clauses(clauses) = self else { return };
        match selection(clauses).filed {
            Some(part) => part.for_each_key(&mut found),
            None => {
                let always = Shape::new(Form::Always, None);
                let key = fingerprint(always.seed, &[], Folding::None);
                found(always, key);
            }
        }
    }

    /// The values of the next such part.
    pub(super) fn for_each_guard_key(&self, mut found: impl FnMut(Shape, u64)) {
        let Self::Clauses(clauses) = self else { return };
        selection(clauses).guard.into_iter().for_each(|part| part.for_each_key(&mut found));
    }
}

/// The parts that a rule is found and guarded by: whatever it matches has a value of each.
fn selection(clauses: &[Clause]) -> Selection<Part<'_>> {
    let mut candidates = Candidates::new();
    for clause in clauses {
        match &*clause.alternatives {
            [one] => {
                for (condition, cost) in one.selective() {
                    candidates.offer(Part::Condition(condition), cost);
                }
            }
            _ => {
                if let Some(cost) = clause.cost() {
                    candidates.offer(Part::Clause(clause), cost);
                }
            }
        }
    }
    candidates.select()
}

impl Part<'_> {
    fn for_each_key(self, found: &mut impl FnMut(Shape, u64)) {
        let condition = |condition: &Condition, found: &mut dyn FnMut(Shape, u64)| {
            condition.for_each_key(&mut |key: Key<'_>| {
                let shape = Shape::new(key.form(), Some(condition.attribute.clone()));
                let key = key.fingerprint(shape.seed, condition.attribute.folding());
                found(shape, key);
            });
        };
        match self {
            Self::Clause(clause) => {
                let conditions = clause.alternatives.iter().filter_map(Alternative::most_selective);
                conditions.for_each(|(one, _)| condition(one, found));
            }
            Self::Condition(one) => condition(one, found),
        }
    }
}

impl Clause {
    /// Nothing if it may hold for what has no value of it.
    fn cost(&self) -> Option<Cost> {
        let mut total = Cost { breadth: Breadth::One, keys: 0 };
        for one in &self.alternatives {
            let (_, cost) = one.most_selective()?;
            total = Cost { breadth: max(total.breadth, cost.breadth), keys: total.keys + cost.keys };
        }
        Some(total)
    }
}

impl Alternative {
    fn most_selective(&self) -> Option<(&Condition, Cost)> {
        self.selective().min_by_key(|(_, cost)| *cost)
    }

    /// The conditions that something can be found by.
    fn selective(&self) -> impl Iterator<Item = (&Condition, Cost)> {
        self.conditions.iter().filter_map(|one| Some((one, one.cost()?)))
    }
}

impl Condition {
    /// Nothing if nothing can be found by it.
    fn cost(&self) -> Option<Cost> {
        if self.negated || !self.is_filed() {
            return None;
        }
        let mut cost = Cost { breadth: Breadth::One, keys: 0 };
        self.for_each_key(&mut |key| {
            cost = Cost { breadth: max(cost.breadth, key.breadth(&self.attribute)), keys: cost.keys + 1 };
        });
        Some(cost)
    }

    /// Whether there is a key for each of the values.
    fn is_filed(&self) -> bool {
        match &self.values {
            // A slash would take the value across segments.
            Values::Accounts(values) => {
                values.iter().all(|value| !value.namespace.contains('/') && !value.name.contains('/'))
            }
            Values::Globs(values) => {
                self.attribute == Attribute::Namespace
                    && values.iter().all(|value| value.literal().is_some_and(|value| !value.contains('/')))
            }
            Values::Hosts(values) => values.iter().all(|value| value.of_name().is_some()),
            Values::Metadata(_) => false,
            // Its lines may have to be joined, which takes room.
            Values::Texts(_) => {
                !matches!(&self.attribute, Attribute::Header(header) if header.may_be_joined())
            }
            Values::Paths(_) | Values::Ports(_) | Values::Ranges(_) | Values::RequestPrincipals(_) => true,
        }
    }

    fn for_each_key<'a>(&'a self, found: &mut impl FnMut(Key<'a>)) {
        match &self.values {
            Values::Accounts(values) => {
                values.iter().for_each(|value| found(Key::Account(&value.namespace, &value.name)));
                if self.holds_unseen {
                    found(Key::Account(UNSEEN, UNSEEN));
                }
            }
            Values::Globs(values) => {
                let literals = values.iter().filter_map(|value| value.literal());
                literals.for_each(|value| found(Key::Namespace(value)));
                if self.holds_unseen {
                    found(Key::Namespace(UNSEEN));
                }
            }
            Values::Hosts(values) => {
                values.iter().filter_map(KeptHost::of_name).for_each(|name| found(Key::HostName(name)));
            }
            Values::Metadata(_) => {}
            Values::Paths(values) => values.iter().for_each(|value| {
                found(Key::Text(match value {
                    PathMatch::Template(template) => Text::Prefix(template.prefix()),
                    PathMatch::Text(pattern) => pattern.into(),
                }));
            }),
            Values::Ports(values) => values.iter().for_each(|value| found(Key::Port(*value))),
            Values::Ranges(values) => values.iter().for_each(|value| found(Key::Range(value.trunc()))),
            Values::RequestPrincipals(values) => values.iter().for_each(|value| {
                found(match (&value.issuer, &value.subject) {
                    (issuer, StringMatch::Presence) => Key::Issuer(issuer.into()),
                    (_, subject) => Key::Subject(subject.into()),
                });
            }),
            Values::Texts(values) => values.iter().for_each(|value| found(Key::Text(value.into()))),
        }
    }
}

impl<'a> Key<'a> {
    fn form(self) -> Form {
        match self {
            Self::Account(..) => Form::Account,
            Self::HostName(text) => Form::HostName(text.shape()),
            Self::Issuer(text) => Form::Issuer(text.shape()),
            Self::Namespace(_) => Form::Namespace,
            Self::Port(_) => Form::Port,
            Self::Range(range) => Form::Range(RangeShape::of(&range)),
            Self::Subject(text) => Form::Subject(text.shape()),
            Self::Text(text) => Form::Text(text.shape()),
        }
    }

    fn breadth(self, attribute: &Attribute) -> Breadth {
        // What requests for one destination are likely to share, whatever rules say about it.
        let is_shared = matches!(
            attribute,
            Attribute::Audience
                | Attribute::DestinationIp
                | Attribute::Host
                | Attribute::Method
                | Attribute::Presenter
                | Attribute::Sni
        );
        let breadth = match self {
            Self::Account(..) => Breadth::One,
            Self::Namespace(_) | Self::Port(_) => Breadth::Some,
            Self::Range(range) => Breadth::of_range(&range),
            Self::HostName(text) | Self::Issuer(text) | Self::Subject(text) | Self::Text(text) => {
                match text {
                    Text::Presence | Text::Prefix("" | "/") | Text::Suffix("") => Breadth::All,
                    Text::Exact(_) if matches!(self, Self::Subject(_)) => Breadth::One,
                    Text::Exact(_) if matches!(self, Self::Issuer(_)) => Breadth::Some,
                    Text::Exact(_) if *attribute == Attribute::Principal => Breadth::One,
                    Text::Exact(_) => Breadth::Few,
                    // Rules of one service differ by path more than by anything else.
                    Text::Prefix(_) | Text::Suffix(_) if *attribute == Attribute::Path => Breadth::Few,
                    Text::Prefix(_) | Text::Suffix(_) => Breadth::Many,
                }
            }
        };
        if is_shared { max(breadth, Breadth::Some) } else { breadth }
    }

    fn fingerprint(self, seed: u64, folding: Folding) -> u64 {
        match self {
            Self::Account(namespace, name) => account(seed, namespace, name),
            Self::Namespace(namespace) => fingerprint(seed, namespace.as_bytes(), folding),
            Self::Port(port) => fingerprint(seed, &port.to_ne_bytes(), folding),
            Self::Range(net) => range(seed, &net),
            Self::HostName(text) | Self::Issuer(text) | Self::Subject(text) | Self::Text(text) => {
                match text {
                    Text::Exact(text) | Text::Prefix(text) | Text::Suffix(text) => {
                        fingerprint(seed, text.as_bytes(), folding)
                    }
                    Text::Presence => fingerprint(seed, &[], folding),
                }
            }
        }
    }
}

impl Shape {
    fn new(form: Form, attribute: Option<Attribute>) -> Self {
        let mut hasher = DefaultHasher::new();
        (form, &attribute).hash(&mut hasher);
        Self { form, attribute, seed: hasher.finish() }
    }
}

/// The numbers of all values of a shape that something has.
pub(super) fn for_each_fingerprint(shape: &Shape, attributes: &Attributes<'_>, mut visit: impl FnMut(u64)) {
    let seed = shape.seed;
    let Some(attribute) = &shape.attribute else { return visit(fingerprint(seed, &[], Folding::None)) };
    let folding = attribute.folding();
    let mut text = |shape: TextShape, text: &[u8]| {
        if let Some(part) = shape.part(text) {
            visit(fingerprint(seed, part, folding));
        }
    };
    match shape.form {
        Form::Account if attributes.is_peer_odd() => visit(account(seed, UNSEEN, UNSEEN)),
        Form::Account => match (attributes.identity, attributes.peer) {
            (Some(id), _) => visit(account(seed, id.namespace, id.account)),
            (None, Some(peer)) => {
                accounts_within(peer).for_each(|(namespace, name)| visit(account(seed, namespace, name)))
            }
            (None, None) => {}
        },
        Form::Always => visit(fingerprint(seed, &[], Folding::None)),
        Form::HostName(shape) => {
            let authority = attributes.request.as_ref().and_then(|request| request.facts.authority);
            authority.into_iter().for_each(|authority| text(shape, Authority::of(authority).name.as_bytes()));
        }
        Form::Issuer(shape) => {
            attributes
                .claims()
                .and_then(|claims| claims.text("iss"))
                .into_iter()
                .for_each(|issuer| text(shape, issuer.as_bytes()));
        }
        Form::Namespace if attributes.is_peer_odd() => {
            visit(fingerprint(seed, UNSEEN.as_bytes(), Folding::None));
        }
        Form::Namespace => {
            let namespace = |namespace: &str| visit(fingerprint(seed, namespace.as_bytes(), Folding::None));
            match attributes.semantics {
                Semantics::Istio => {
                    attributes.peer.into_iter().flat_map(namespaces_within).for_each(namespace)
                }
                Semantics::Strict => {
                    attributes.identity.map(|id| id.namespace).into_iter().for_each(namespace)
                }
            }
        }
        Form::Port => {
            visit(fingerprint(seed, &attributes.stream.destination.port().to_ne_bytes(), Folding::None))
        }
        Form::Range(shape) => {
            let address = attributes.address(attribute);
            shape.range(address).into_iter().for_each(|net| visit(range(seed, &net)));
        }
        Form::Subject(shape) => {
            attributes
                .claims()
                .and_then(|claims| claims.text("sub"))
                .into_iter()
                .for_each(|subject| text(shape, subject.as_bytes()));
        }
        Form::Text(shape) => {
            let request = attributes.request.as_ref();
            match attribute {
                Attribute::Audience | Attribute::Claim(_) | Attribute::Presenter => {
                    let texts = attributes.claim(attribute).into_iter().flat_map(ClaimValue::texts);
                    texts.for_each(|value| text(shape, value.as_bytes()));
                }
                Attribute::Header(header) => {
                    request
                        .into_iter()
                        .flat_map(|request| header.lines(request.facts))
                        .for_each(|line| text(shape, line));
                }
                Attribute::Host => {
                    let host = request.and_then(|request| request.facts.authority);
                    host.into_iter().for_each(|host| text(shape, host.as_bytes()));
                }
                Attribute::Method => {
                    request.into_iter().for_each(|request| text(shape, request.facts.method.as_bytes()));
                }
                Attribute::Path => {
                    request.into_iter().for_each(|request| text(shape, request.path.as_bytes()))
                }
                Attribute::Principal => {
                    let whole = |peer: &'_ str| shape == TextShape::Presence && !peer.is_empty();
                    if attributes.peer.is_some_and(whole) {
                        visit(fingerprint(seed, &[], folding));
                    } else if let Some(id) = attributes.peer.and_then(|peer| peer.strip_prefix(SCHEME)) {
                        text(shape, id.as_bytes());
                    }
                }
                Attribute::Sni => {
                    attributes.stream.sni.into_iter().for_each(|sni| text(shape, sni.as_bytes()))
                }
                _ => {}
            }
        }
    }
}

/// Stands for what a peer has and nobody sees: no namespace and no account has a slash.
const UNSEEN: &str = "/";

fn account(seed: u64, namespace: &str, name: &str) -> u64 {
    fingerprint(fingerprint(seed, namespace.as_bytes(), Folding::None), name.as_bytes(), Folding::None)
}

fn range(seed: u64, range: &IpNet) -> u64 {
    match range {
        IpNet::V4(range) => fingerprint(seed, &range.addr().octets(), Folding::None),
        IpNet::V6(range) => fingerprint(seed, &range.addr().octets(), Folding::None),
    }
}
