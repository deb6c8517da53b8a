//! Properties of every set of policies, checked against a second, naive reading of the rules.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;
use mesh_identity::SpiffeId;
use mesh_policy::{
    Action, Clause, Match, MissingPolicy, Policy, PolicyName, PolicySet, Reason, Rule, Scope,
    ServiceAccountMatch, StringMatch, Verdict,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use support::Call;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_the_naive_reading(
        policies in policies(),
        calls in vec(call(), 100),
        missing in missing(),
    ) {
        let set = build(&policies, missing);
        for call in &calls {
            let decision = call.decide(&set);
            prop_assert_eq!(decision.reason(), naive::decide(&policies, call, missing));
            let dry_run: BTreeSet<_> = decision.dry_run_denials().collect();
            prop_assert_eq!(dry_run, naive::dry_run_denials(&policies, call, decision.reason()));
        }
    }

    // Enough policies that the index spans pages and rules share keys.
    #[test]
    fn many_policies_agree_with_the_naive_reading(
        changes in vec((prop::bool::weighted(0.8), numbered_policy()), 0..250),
        calls in vec(call(), 1..8),
        missing in missing(),
    ) {
        let mut set = build(&[], missing);
        let mut model = BTreeMap::new();
        for (insert, policy) in changes {
            if insert {
                set.insert(policy.clone());
                model.insert(policy.name.clone(), policy);
            } else {
                set.remove(&policy.name);
                model.remove(&policy.name);
            }
        }
        let policies: Vec<_> = model.into_values().collect();
        for call in &calls {
            let decision = call.decide(&set);
            prop_assert_eq!(decision.reason(), naive::decide(&policies, call, missing));
            let dry_run: BTreeSet<_> = decision.dry_run_denials().collect();
            prop_assert_eq!(dry_run, naive::dry_run_denials(&policies, call, decision.reason()));
        }
    }

    // policy#13
    #[test]
    fn deny_wins(policies in policies(), call in call(), missing in missing()) {
        let denied = naive::applying(&policies, &call)
            .any(|policy| policy.action == Action::Deny && !policy.dry_run && naive::matches(policy, &call));
        if denied {
            prop_assert_eq!(call.decide(&build(&policies, missing)).verdict(), Verdict::Deny);
        }
    }

    // policy#47
    #[test]
    fn order_does_not_matter(
        (policies, shuffled) in policies().prop_flat_map(|all| shuffled(&all)),
        (call, names) in call().prop_flat_map(|call| (Just(call.clone()), shuffled(&call.policies))),
        missing in missing(),
    ) {
        let reordered = Call { policies: names.1, ..call.clone() };
        let (set, other) = (build(&policies, missing), build(&shuffled, missing));
        prop_assert_eq!(call.decide(&set).reason(), reordered.decide(&other).reason());
    }

    #[test]
    fn another_deny_never_widens(
        policies in policies(),
        call in call(),
        missing in missing(),
        rules in rules(),
    ) {
        let set = build(&policies, missing);
        let more = set.with(fresh(Action::Deny, rules));
        if call.decide(&set).verdict() == Verdict::Deny {
            prop_assert_eq!(call.decide(&more).verdict(), Verdict::Deny);
        }
    }

    #[test]
    fn another_allow_never_narrows_where_there_is_one(
        policies in policies(),
        call in call(),
        missing in missing(),
        rules in rules(),
    ) {
        let set = build(&policies, missing);
        let more = set.with(fresh(Action::Allow, rules));
        if matches!(call.decide(&set).reason(), Reason::AllowedBy { .. }) {
            prop_assert_eq!(call.decide(&more).verdict(), Verdict::Allow);
        }
    }

    // policy#16, policy#17
    #[test]
    fn a_policy_in_dry_run_never_decides(
        policies in policies(),
        call in call(),
        missing in missing(),
        rules in rules(),
    ) {
        let set = build(&policies, missing);
        for action in [Action::Allow, Action::Deny] {
            let more = set.with(Policy { dry_run: true, ..fresh(action, rules.clone()) });
            prop_assert_eq!(call.decide(&more).reason(), call.decide(&set).reason());
        }
    }

    #[test]
    fn changing_a_set_equals_building_it(
        policies in policies(),
        changes in vec((any::<bool>(), policy()), 0..12),
        call in call(),
        missing in missing(),
    ) {
        let mut set = build(&policies, missing);
        let mut model = by_name(policies);
        for (insert, policy) in changes {
            if insert {
                set.insert(policy.clone());
                model.insert(policy.name.clone(), policy);
            } else {
                set.remove(&policy.name);
                model.remove(&policy.name);
            }
        }
        let model: Vec<_> = model.into_values().collect();
        prop_assert!(set.iter().eq(&model));
        let built = build(&model, missing);
        let decision = call.decide(&set);
        prop_assert_eq!(decision.reason(), call.decide(&built).reason());
        prop_assert!(decision.dry_run_denials().eq(call.decide(&built).dry_run_denials()));
    }

    #[test]
    fn explanations_agree_with_decisions(policies in policies(), call in call(), missing in missing()) {
        let set = build(&policies, missing);
        let facts = call.facts();
        let explanation = set.explain(&facts);
        let reason = explanation.decision().reason();
        prop_assert_eq!(reason, call.decide(&set).reason());
        let traces = explanation.policies().iter();
        let considered: BTreeSet<_> = traces.map(|trace| &trace.policy().name).collect();
        let applying: BTreeSet<_> = naive::applying(&policies, &call).map(|policy| &policy.name).collect();
        prop_assert_eq!(considered, applying);
        if let Reason::AllowedBy { policy, .. } | Reason::DeniedBy { policy, .. } = reason {
            prop_assert_eq!(&explanation.policies()[0].policy().name, policy);
            prop_assert!(explanation.policies()[0].matches());
        }
        for trace in explanation.policies() {
            prop_assert_eq!(trace.matches(), naive::matches(trace.policy(), &call));
            prop_assert_eq!(trace.rules().len(), trace.policy().rules.len());
            for rule in trace.rules() {
                let clauses = &trace.policy().rules[rule.index()].clauses;
                let matching = clauses.iter().filter(|clause| naive::clause(clause, &call)).count();
                prop_assert_eq!(rule.matching_clauses(), matching);
                let first_miss = clauses.iter().position(|clause| !naive::clause(clause, &call));
                prop_assert_eq!(rule.miss().map(|miss| miss.index()), first_miss);
                if let Some(miss) = rule.miss() {
                    prop_assert_eq!(miss.matches().len(), clauses[miss.index()].matches.len());
                }
            }
        }
    }

    #[test]
    fn is_total(
        patterns in vec("\\PC{0,12}", 0..4),
        ranges in vec((any::<IpAddr>(), any::<u8>()), 0..4),
        (source, destination) in any::<(IpAddr, SocketAddr)>(),
        segments in option::of("[a-z0-9.]{1,8}(/[A-Za-z0-9_-]{1,8}){0,5}"),
        namespace in "\\PC{0,8}",
        port in any::<u16>(),
    ) {
        let strings: Vec<_> = patterns.iter().map(|text| StringMatch::Suffix(text.as_str().into())).collect();
        let ranges: Vec<_> = ranges
            .into_iter()
            .filter_map(|(address, length)| IpNet::new(address, length % 129).ok())
            .collect();
        let one = Match {
            namespaces: strings.clone(),
            not_principals: strings,
            source_ips: ranges.clone(),
            not_destination_ips: ranges,
            not_destination_ports: vec![port],
            ..Match::default()
        };
        let rules = vec![Rule { clauses: vec![Clause { matches: vec![one] }] }];
        let policies = [Action::Allow, Action::Deny].map(|action| Policy {
            name: PolicyName::new(namespace.as_str(), action.to_string()),
            ..fresh(action, rules.clone())
        });
        let set = build(&policies, MissingPolicy::Deny);
        let peer = segments.and_then(|rest| format!("spiffe://{rest}").parse().ok());
        let call = Call { source, peer, destination, namespace, policies: Vec::new() };
        let facts = call.facts();
        prop_assert!(!set.explain(&facts).to_string().is_empty());
    }

    #[test]
    fn names_print_back_what_they_read(text in "[a-z0-9.-]{1,8}/[a-zA-Z0-9_.-]{1,8}") {
        prop_assert_eq!(text.parse::<PolicyName>().unwrap().to_string(), text);
    }
}

fn build(policies: &[Policy], missing: MissingPolicy) -> PolicySet {
    PolicySet::builder().missing(missing).policies(policies.iter().cloned()).build().unwrap()
}

/// A policy for every destination, whose name no other has.
fn fresh(action: Action, rules: Vec<Rule>) -> Policy {
    let name = PolicyName::new("fresh", "policy");
    Policy { name, scope: Scope::Global, action, dry_run: false, rules }
}

/// A list, and the same in any order.
fn shuffled<T: Clone + std::fmt::Debug>(all: &[T]) -> impl Strategy<Value = (Vec<T>, Vec<T>)> + use<T> {
    (Just(all.to_vec()), Just(all.to_vec()).prop_shuffle())
}

fn missing() -> impl Strategy<Value = MissingPolicy> {
    select(vec![MissingPolicy::Deny, MissingPolicy::Skip])
}

/// Policies of distinct names.
fn policies() -> impl Strategy<Value = Vec<Policy>> {
    vec(policy(), 0..8).prop_map(|policies| by_name(policies).into_values().collect())
}

fn by_name(policies: Vec<Policy>) -> BTreeMap<PolicyName, Policy> {
    policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect()
}

fn policy() -> impl Strategy<Value = Policy> {
    let scope = select(vec![Scope::Global, Scope::Namespace, Scope::WorkloadSelector]);
    let action = select(vec![Action::Allow, Action::Deny]);
    (name(), scope, action, prop::bool::weighted(0.25), rules())
        .prop_map(|(name, scope, action, dry_run, rules)| Policy { name, scope, action, dry_run, rules })
}

/// Of many names, two of which lists name.
fn numbered_policy() -> impl Strategy<Value = Policy> {
    let namespace = select(vec!["bank", "bank", "bank", "shop"]);
    (policy(), namespace, 0..200_usize).prop_map(|(policy, namespace, number)| {
        let name = ["a", "b"].get(number).map_or_else(|| number.to_string(), |name| (*name).to_owned());
        Policy { name: PolicyName::new(namespace, name), ..policy }
    })
}

/// Few names, so that lists and policies meet.
fn name() -> impl Strategy<Value = PolicyName> {
    (select(vec!["bank", "shop"]), select(vec!["a", "b", "c", "d", "e"]))
        .prop_map(|(namespace, name)| PolicyName::new(namespace, name))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let clause = vec(one_match(), 0..3).prop_map(|matches| Clause { matches });
    vec(vec(clause, 0..3).prop_map(|clauses| Rule { clauses }), 0..3)
}

/// Mostly one or two fields: more hardly ever match.
fn one_match() -> impl Strategy<Value = Match> {
    vec(field(), 0..3).prop_map(|fields| {
        let mut one = Match::default();
        fields.into_iter().for_each(|set| set.apply(&mut one));
        one
    })
}

#[derive(Clone, Debug)]
enum SetField {
    Namespaces(bool, Vec<StringMatch>),
    Principals(bool, Vec<StringMatch>),
    ServiceAccounts(bool, Vec<ServiceAccountMatch>),
    SourceIps(bool, Vec<IpNet>),
    DestinationIps(bool, Vec<IpNet>),
    DestinationPorts(bool, Vec<u16>),
}

impl SetField {
    fn apply(self, one: &mut Match) {
        match self {
            Self::Namespaces(false, values) => one.namespaces = values,
            Self::Namespaces(true, values) => one.not_namespaces = values,
            Self::Principals(false, values) => one.principals = values,
            Self::Principals(true, values) => one.not_principals = values,
            Self::ServiceAccounts(false, values) => one.service_accounts = values,
            Self::ServiceAccounts(true, values) => one.not_service_accounts = values,
            Self::SourceIps(false, values) => one.source_ips = values,
            Self::SourceIps(true, values) => one.not_source_ips = values,
            Self::DestinationIps(false, values) => one.destination_ips = values,
            Self::DestinationIps(true, values) => one.not_destination_ips = values,
            Self::DestinationPorts(false, values) => one.destination_ports = values,
            Self::DestinationPorts(true, values) => one.not_destination_ports = values,
        }
    }
}

fn field() -> impl Strategy<Value = SetField> {
    let range = || vec(range(), 1..3);
    prop_oneof![
        (any::<bool>(), vec(string_match(&["", "shop", "bank", "sh", "nk"]), 1..3))
            .prop_map(|(not, values)| SetField::Namespaces(not, values)),
        (any::<bool>(), vec(string_match(&["", "example.org/ns/shop/sa/cart", "example.org", "cart"]), 1..3))
            .prop_map(|(not, values)| SetField::Principals(not, values)),
        (any::<bool>(), vec(service_account(), 1..3))
            .prop_map(|(not, values)| SetField::ServiceAccounts(not, values)),
        (any::<bool>(), range()).prop_map(|(not, values)| SetField::SourceIps(not, values)),
        (any::<bool>(), range()).prop_map(|(not, values)| SetField::DestinationIps(not, values)),
        (any::<bool>(), vec(port(), 1..3)).prop_map(|(not, values)| SetField::DestinationPorts(not, values)),
    ]
}

fn string_match(texts: &'static [&'static str]) -> impl Strategy<Value = StringMatch> {
    (select(texts), 0..4).prop_map(|(text, kind)| match kind {
        0 => StringMatch::Exact(text.into()),
        1 => StringMatch::Prefix(text.into()),
        2 => StringMatch::Suffix(text.into()),
        _ => StringMatch::Presence,
    })
}

fn service_account() -> impl Strategy<Value = ServiceAccountMatch> {
    (select(vec!["shop", "bank"]), select(vec!["cart", "till"]))
        .prop_map(|(namespace, name)| ServiceAccountMatch { namespace: namespace.into(), name: name.into() })
}

fn range() -> impl Strategy<Value = IpNet> {
    (address(), select(vec![0, 8, 24, 31, 32, 64, 128]))
        .prop_filter_map("length fits the family", |(address, length)| IpNet::new(address, length).ok())
}

fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = (0..4_u8).prop_map(|last| Ipv4Addr::new(192, 0, 2, last));
    let v6 = (0..4_u16).prop_map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    prop_oneof![
        v4.clone().prop_map(IpAddr::V4),
        v6.prop_map(IpAddr::V6),
        v4.prop_map(|address| address.to_ipv6_mapped().into()),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![80, 8080])
}

fn call() -> impl Strategy<Value = Call> {
    let peer = select(vec![
        "spiffe://example.org/ns/shop/sa/cart",
        "spiffe://example.org/ns/bank/sa/till",
        "spiffe://other.example/ns/shop/sa/cart",
        "spiffe://example.org/cart",
    ]);
    let peer = option::of(peer.prop_map(|id| id.parse::<SpiffeId>().unwrap()));
    let destination = (address(), port()).prop_map(SocketAddr::from);
    let namespace = select(vec!["bank", "shop", "void"]);
    (address(), peer, destination, namespace, vec(name(), 0..3)).prop_map(
        |(source, peer, destination, namespace, policies)| Call {
            source,
            peer,
            destination,
            namespace: namespace.to_owned(),
            policies,
        },
    )
}

/// The rules read once more, with text and sets, sharing nothing with the crate.
mod naive {
    use super::*;

    pub(crate) fn decide<'a>(policies: &'a [Policy], call: &'a Call, missing: MissingPolicy) -> Reason<'a> {
        let enforced: BTreeMap<_, _> = applying(policies, call)
            .filter(|policy| !policy.dry_run)
            .map(|policy| (&policy.name, policy))
            .collect();
        let hit = |action: Action| {
            enforced.values().filter(move |policy| policy.action == action).find_map(|policy| {
                let rule = policy.rules.iter().position(|one| rule(one, call))?;
                Some((&policy.name, rule))
            })
        };
        let absent =
            call.policies.iter().filter(|name| policies.iter().all(|policy| policy.name != **name)).min();
        match (hit(Action::Deny), absent.filter(|_| missing == MissingPolicy::Deny), hit(Action::Allow)) {
            (Some((policy, rule)), _, _) => Reason::DeniedBy { policy, rule },
            (None, Some(policy), _) => Reason::Missing { policy },
            (None, None, Some((policy, rule))) => Reason::AllowedBy { policy, rule },
            _ if enforced.values().any(|policy| policy.action == Action::Allow) => Reason::NoneAllowed,
            _ => Reason::NoAllowPolicies,
        }
    }

    pub(crate) fn dry_run_denials<'a>(
        policies: &'a [Policy],
        call: &Call,
        reason: Reason<'_>,
    ) -> BTreeSet<&'a PolicyName> {
        let (allows, denies): (Vec<_>, Vec<_>) = applying(policies, call)
            .filter(|policy| policy.dry_run)
            .partition(|policy| policy.action == Action::Allow);
        let mut names: BTreeSet<_> =
            denies.iter().filter(|policy| matches(policy, call)).map(|policy| &policy.name).collect();
        if reason == Reason::NoAllowPolicies && !allows.iter().any(|policy| matches(policy, call)) {
            names.extend(allows.iter().map(|policy| &policy.name));
        }
        names
    }

    pub(crate) fn applying<'a>(policies: &'a [Policy], call: &Call) -> impl Iterator<Item = &'a Policy> {
        policies.iter().filter(|policy| {
            policy.scope == Scope::Global
                || policy.scope == Scope::Namespace && policy.name.namespace() == call.namespace
                || call.policies.contains(&policy.name)
        })
    }

    pub(crate) fn matches(policy: &Policy, call: &Call) -> bool {
        policy.rules.iter().any(|one| rule(one, call))
    }

    fn rule(rule: &Rule, call: &Call) -> bool {
        rule.clauses.iter().all(|one| clause(one, call))
    }

    pub(crate) fn clause(clause: &Clause, call: &Call) -> bool {
        clause.matches.is_empty()
            || clause.matches.iter().any(|one| *one != Match::default() && fields(one, call))
    }

    fn fields(one: &Match, call: &Call) -> bool {
        let id = call.peer.as_ref().map(ToString::to_string);
        let parts: Vec<_> = id.iter().flat_map(|id| id.split('/')).collect();
        let identity = match *parts.as_slice() {
            ["spiffe:", "", domain, "ns", namespace, "sa", name] => {
                Some((format!("{domain}/ns/{namespace}/sa/{name}"), namespace, name))
            }
            _ => None,
        };
        let namespace = identity.as_ref().map_or("", |(_, namespace, _)| namespace);
        let is_principal =
            |pattern: &StringMatch| identity.as_ref().is_some_and(|(principal, ..)| fits(pattern, principal));
        let is_account = |account: &ServiceAccountMatch| {
            identity.as_ref().is_some_and(|(_, namespace, name)| {
                (*namespace, *name) == (&*account.namespace, &*account.name)
            })
        };
        holds(&one.namespaces, &one.not_namespaces, |pattern| fits(pattern, namespace))
            && holds(&one.principals, &one.not_principals, is_principal)
            && holds(&one.service_accounts, &one.not_service_accounts, is_account)
            && holds(&one.source_ips, &one.not_source_ips, |range| contains(range, call.source))
            && holds(&one.destination_ips, &one.not_destination_ips, |range| {
                contains(range, call.destination.ip())
            })
            && holds(&one.destination_ports, &one.not_destination_ports, |port| {
                *port == call.destination.port()
            })
    }

    fn holds<T>(values: &[T], not_values: &[T], fits: impl Fn(&T) -> bool) -> bool {
        (values.is_empty() || values.iter().any(&fits)) && !not_values.iter().any(&fits)
    }

    fn fits(pattern: &StringMatch, text: &str) -> bool {
        match pattern {
            StringMatch::Exact(exact) => **exact == *text,
            StringMatch::Prefix(prefix) => text.get(..prefix.len()) == Some(prefix),
            StringMatch::Suffix(suffix) => {
                text.len().checked_sub(suffix.len()).and_then(|at| text.get(at..)) == Some(suffix)
            }
            StringMatch::Presence => !text.is_empty(),
        }
    }

    fn contains(range: &IpNet, address: IpAddr) -> bool {
        let same_bits = |a: u128, b: u128, width: u32| {
            let ignored = width - u32::from(range.prefix_len());
            a.checked_shr(ignored).unwrap_or(0) == b.checked_shr(ignored).unwrap_or(0)
        };
        match (range.addr(), address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same_bits(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same_bits(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}
