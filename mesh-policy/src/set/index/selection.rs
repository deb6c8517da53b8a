//! Which of its values a rule is found by.

use std::cmp::max;

use ipnet::IpNet;

use super::key::{Key, Text};
use crate::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};

impl Rule {
    /// Keys of which a connection has at least one if this rule matches it: those of the clause that is
    /// likely to let the fewest connections pass.
    ///
    /// Depends on nothing but the rule, so that a rule can be taken out of an index by what it says.
    pub(super) fn for_each_key<'a>(&'a self, mut found: impl FnMut(Key<'a>)) {
        let selective = self.clauses.iter().filter_map(|clause| Some((clause, clause.cost()?)));
        match selective.min_by_key(|(_, cost)| *cost) {
            Some((clause, _)) => clause.for_each_key(&mut found),
            None => found(Key::Always),
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
        let fields = [
            Values::Principals(&self.principals),
            Values::ServiceAccounts(&self.service_accounts),
            Values::SourceIps(&self.source_ips),
            Values::DestinationIps(&self.destination_ips),
            Values::Namespaces(&self.namespaces),
            Values::DestinationPorts(&self.destination_ports),
        ];
        let set = fields.into_iter().filter_map(|values| Some((values, values.cost()?)));
        set.min_by_key(|(_, cost)| *cost)
    }
}

/// The values of a positive field.
#[derive(Clone, Copy, Debug)]
enum Values<'a> {
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
        let rule = Rule { clauses: clauses.into_iter().map(|matches| Clause { matches }).collect() };
        let mut keys = Vec::new();
        rule.for_each_key(|key| keys.push(format!("{key:?}")));
        keys
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
