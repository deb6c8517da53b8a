//! Which of its values a rule is found by.

use std::cmp::max;

use ipnet::IpNet;

use super::key::{Key, Text};
use crate::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};

/// What a rule is found by, and by what else it is told from the others that are found with it: parts of the rule that
/// have to hold for it to match, each by one of its values.
#[derive(Debug)]
pub(crate) struct Selection<T> {
    /// The part that is likely to let the fewest pass.
    pub(crate) filed: Option<T>,
    /// The next such part, if it is worth looking at.
    pub(crate) guard: Option<T>,
}

/// Parts of a rule on their way to a [`Selection`].
#[derive(Debug)]
pub(crate) struct Candidates<T> {
    best: Option<(T, Cost)>,
    second: Option<(T, Cost)>,
}

impl<T> Candidates<T> {
    pub(crate) fn new() -> Self {
        Self { best: None, second: None }
    }

    /// Of equal cost, what is offered first is kept.
    pub(crate) fn offer(&mut self, part: T, cost: Cost) {
        let rest = match &self.best {
            Some((_, least)) if *least <= cost => Some((part, cost)),
            _ => self.best.replace((part, cost)),
        };
        let Some((part, cost)) = rest else { return };
        if self.second.as_ref().is_none_or(|(_, least)| cost < *least) {
            self.second = Some((part, cost));
        }
    }

    pub(crate) fn select(self) -> Selection<T> {
        let tells = |(_, cost): &(T, Cost)| cost.breadth < Breadth::All && cost.keys <= MOST_GUARD_KEYS;
        Selection {
            filed: self.best.map(|(part, _)| part),
            guard: self.second.filter(tells).map(|(part, _)| part),
        }
    }
}

/// With more values, hardly anything has none of their bits.
const MOST_GUARD_KEYS: usize = 16;

/// A part of a rule that has values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part<'a> {
    /// The most selective field of each match.
    Clause(&'a Clause),
    /// A field of the only match of a clause.
    Field(Values<'a>),
}

impl Rule {
    /// The parts by whose keys it is found: a connection that the rule matches has at least one key of each.
    ///
    /// Depends on nothing but the rule, so that a rule can be taken out of an index by what it says.
    pub(super) fn selection(&self) -> Selection<Part<'_>> {
        let mut candidates = Candidates::new();
        for clause in &self.clauses {
            let mut possible = clause.possible_matches();
            match (possible.next(), possible.next()) {
                (Some(one), None) => {
                    for (values, cost) in one.set_fields() {
                        candidates.offer(Part::Field(values), cost);
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
}

impl<'a> Part<'a> {
    pub(super) fn for_each_key(self, mut found: impl FnMut(Key<'a>)) {
        match self {
            Self::Clause(clause) => clause.for_each_key(&mut found),
            Self::Field(values) => values.for_each_key(&mut found),
        }
    }
}

/// What finding by some values costs. Few connections that have one of them come first, few values second:
/// each takes room in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    pub(crate) breadth: Breadth,
    pub(crate) keys: usize,
}

/// How many connections have a value: a guess that does not look at other policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breadth {
    /// Those of one identity.
    One,
    Few,
    Some,
    Many,
    All,
}

impl Clause {
    /// Nothing if the clause may match a connection that has no value of it.
    fn cost(&self) -> Option<Cost> {
        if self.matches.is_empty() {
            return None;
        }
        let mut total = Cost { breadth: Breadth::One, keys: 0 };
        for one in self.possible_matches() {
            let (_, cost) = one.most_selective_field()?;
            total = Cost { breadth: max(total.breadth, cost.breadth), keys: total.keys + cost.keys };
        }
        Some(total)
    }

    fn for_each_key<'a>(&'a self, found: &mut impl FnMut(Key<'a>)) {
        let fields = self.possible_matches().filter_map(Match::most_selective_field);
        fields.for_each(|(values, _)| values.for_each_key(found));
    }

    /// A match without fields never matches, so nothing has to be found by it.
    fn possible_matches(&self) -> impl Iterator<Item = &Match> {
        self.matches.iter().filter(|one| !one.is_empty())
    }
}

impl Match {
    fn most_selective_field(&self) -> Option<(Values<'_>, Cost)> {
        // Of equal cost, the first is taken.
        self.set_fields().min_by_key(|(_, cost)| *cost)
    }

    /// The positive fields that list something.
    fn set_fields(&self) -> impl Iterator<Item = (Values<'_>, Cost)> {
        let fields = [
            Values::Principals(&self.principals),
            Values::ServiceAccounts(&self.service_accounts),
            Values::SourceIps(&self.source_ips),
            Values::DestinationIps(&self.destination_ips),
            Values::Namespaces(&self.namespaces),
            Values::DestinationPorts(&self.destination_ports),
        ];
        fields.into_iter().filter_map(|values| Some((values, values.cost()?)))
    }
}

/// The values of a positive field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values<'a> {
    DestinationIps(&'a [IpNet]),
    DestinationPorts(&'a [u16]),
    Namespaces(&'a [StringMatch]),
    Principals(&'a [StringMatch]),
    ServiceAccounts(&'a [ServiceAccountMatch]),
    SourceIps(&'a [IpNet]),
}

impl<'a> Values<'a> {
    /// Nothing if the field is not set.
    fn cost(self) -> Option<Cost> {
        let mut cost = None;
        self.for_each_key(&mut |key| {
            let Cost { breadth, keys } = cost.unwrap_or(Cost { breadth: Breadth::One, keys: 0 });
            cost = Some(Cost { breadth: max(breadth, Breadth::of(&key)), keys: keys + 1 });
        });
        cost
    }

    fn for_each_key(self, found: &mut impl FnMut(Key<'a>)) {
        match self {
            Self::DestinationIps(ranges) => {
                ranges.iter().for_each(|range| found(Key::DestinationIp(range.trunc())));
            }
            Self::DestinationPorts(ports) => ports.iter().for_each(|port| found(Key::DestinationPort(*port))),
            Self::Namespaces(patterns) => {
                patterns.iter().for_each(|pattern| found(Key::Namespace(pattern.into())));
            }
            Self::Principals(patterns) => {
                patterns.iter().for_each(|pattern| found(Key::Principal(pattern.into())));
            }
            Self::ServiceAccounts(accounts) => accounts.iter().for_each(|account| found(account.into())),
            Self::SourceIps(ranges) => ranges.iter().for_each(|range| found(Key::SourceIp(range.trunc()))),
        }
    }
}

impl Breadth {
    fn of(key: &Key<'_>) -> Self {
        match key {
            Key::Always => Self::All,
            // Rules of one workload share its address.
            Key::DestinationIp(range) => max(Self::Some, Self::of_range(range)),
            Key::SourceIp(range) => Self::of_range(range),
            Key::DestinationPort(_) | Key::Namespace(Text::Exact(_)) => Self::Some,
            Key::Principal(Text::Exact(_)) | Key::ServiceAccount { .. } => Self::One,
            Key::Namespace(text) | Key::Principal(text) => match text {
                Text::Prefix("") | Text::Suffix("") | Text::Presence => Self::All,
                Text::Exact(_) | Text::Prefix(_) | Text::Suffix(_) => Self::Many,
            },
        }
    }

    /// An IPv4 range of 256 addresses is few.
    pub(crate) fn of_range(range: &IpNet) -> Self {
        match range.prefix_len() {
            0 => Self::All,
            len if len >= range.max_prefix_len() / 4 * 3 => Self::Few,
            len if len >= range.max_prefix_len() / 4 => Self::Some,
            _ => Self::Many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.into())
    }

    fn range(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn keys(clauses: Vec<Vec<Match>>) -> Vec<String> {
        selected(clauses).0
    }

    /// What a rule is found by, and what guards it.
    fn selected(clauses: Vec<Vec<Match>>) -> (Vec<String>, Vec<String>) {
        let rule = Rule { clauses: clauses.into_iter().map(|matches| Clause { matches }).collect() };
        let Selection { filed, guard } = rule.selection();
        let keys = |part: Option<Part<'_>>| {
            let mut keys = Vec::new();
            part.unwrap().for_each_key(|key| keys.push(format!("{key:?}")));
            keys
        };
        (
            filed.map_or_else(|| key(Key::Always), |part| keys(Some(part))),
            guard.map_or_else(Vec::new, |part| keys(Some(part))),
        )
    }

    fn key(key: Key<'_>) -> Vec<String> {
        vec![format!("{key:?}")]
    }

    #[test]
    fn the_most_selective_field_of_the_most_selective_clause_is_taken() {
        let port = || Match { destination_ports: vec![8080], ..Match::default() };
        let principal = || Match { principals: vec![exact("a")], ..port() };
        assert_eq!(keys(vec![vec![port()], vec![principal()]]), key(Key::Principal(Text::Exact("a"))));
        // Any of the matches will do, so each has to be found.
        assert_eq!(keys(vec![vec![principal(), port()]]).len(), 2);
        assert_eq!(
            keys(vec![vec![principal(), port()], vec![port()]]),
            key(Key::DestinationPort(8080)),
            "as broad, and fewer"
        );
        let wide = Match {
            source_ips: vec![range("192.0.2.0/24")],
            principals: vec![exact("a"), exact("b")],
            ..port()
        };
        assert_eq!(keys(vec![vec![wide]]).len(), 2, "identities, though there are more of them");
        let addresses = Match {
            source_ips: vec![range("192.0.2.0/24")],
            destination_ips: vec![range("192.0.2.2/32")],
            ..port()
        };
        assert_eq!(keys(vec![vec![addresses]]), key(Key::SourceIp(range("192.0.2.0/24"))));
        let anyone = Match { principals: vec![exact("a"), StringMatch::Presence], ..port() };
        assert_eq!(keys(vec![vec![anyone]]), key(Key::DestinationPort(8080)));
    }

    #[test]
    fn the_next_part_that_has_to_hold_is_the_guard() {
        let port = || Match { destination_ports: vec![8080], ..Match::default() };
        let principal = || Match { principals: vec![exact("a")], ..Match::default() };
        let both = || Match { principals: vec![exact("a")], ..port() };
        let (by_principal, by_port) =
            (key(Key::Principal(Text::Exact("a"))), key(Key::DestinationPort(8080)));
        let expected = (by_principal.clone(), by_port.clone());
        assert_eq!(selected(vec![vec![port()], vec![principal()]]), expected);
        assert_eq!(selected(vec![vec![both()]]), expected, "a field of the same match");
        assert_eq!(selected(vec![vec![both(), Match::default()]]), expected, "the only match that may hold");
        assert_eq!(selected(vec![vec![both(), both()]]).1, Vec::<String>::new(), "either of two may hold");
        assert_eq!(selected(vec![vec![principal()]]).1, Vec::<String>::new());
        let anyone = Match { principals: vec![StringMatch::Presence], ..Match::default() };
        assert_eq!(selected(vec![vec![port()], vec![anyone]]), (by_port, vec![]), "everybody passes");
        let many = Match { destination_ports: (0..17).collect(), ..Match::default() };
        assert_eq!(selected(vec![vec![many], vec![principal()]]), (by_principal, vec![]), "too many to tell");
    }

    #[test]
    fn host_bits_do_not_hide_a_range() {
        let one = Match { destination_ips: vec![range("192.0.2.77/24")], ..Match::default() };
        assert_eq!(keys(vec![vec![one]]), key(Key::DestinationIp(range("192.0.2.0/24"))));
    }

    #[test]
    fn what_may_match_without_a_value_is_always_asked() {
        let negative = || Match { not_destination_ports: vec![8080], ..Match::default() };
        let positive = || Match { destination_ports: vec![8080], ..Match::default() };
        assert_eq!(keys(vec![]), key(Key::Always));
        assert_eq!(keys(vec![vec![]]), key(Key::Always));
        assert_eq!(keys(vec![vec![negative()]]), key(Key::Always));
        assert_eq!(keys(vec![vec![positive(), negative()]]), key(Key::Always));
        assert_eq!(keys(vec![vec![negative()], vec![positive()]]), key(Key::DestinationPort(8080)));
    }

    #[test]
    fn what_never_matches_is_never_asked() {
        assert!(keys(vec![vec![Match::default()]]).is_empty());
        let positive = Match { destination_ports: vec![8080], ..Match::default() };
        assert!(keys(vec![vec![positive.clone()], vec![Match::default()]]).is_empty());
        assert_eq!(keys(vec![vec![Match::default(), positive]]).len(), 1);
    }
}
