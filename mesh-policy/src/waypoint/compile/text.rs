//! From texts to what they mean.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    StringMatch,
    waypoint::{condition::PathMatch, value::PathTemplate},
};

/// Of two wildcards, the first counts.
pub(crate) fn text(value: &str) -> StringMatch {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => StringMatch::Presence,
        (_, Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (_, None, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        (exact, None, None) => StringMatch::Exact(exact.into()),
    }
}

/// Rust reads a sign before a number, Kubernetes does not.
pub(crate) fn port(value: &str) -> Option<u16> {
    value.parse().ok().filter(|_| value.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(crate) fn range(value: &str) -> Option<IpNet> {
    value.parse().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
}

pub(crate) fn path_match(value: &str) -> Option<PathMatch> {
    if PathTemplate::is_one(value) {
        return PathTemplate::new(value).map(PathMatch::Template);
    }
    Some(PathMatch::Text(text(value)))
}

/// Whether an asterisk would be read literally.
pub(crate) fn has_inner_wildcard(value: &str) -> bool {
    let rest = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
    rest.contains('*')
}

/// Whether a principal has more than one namespace or service account.
pub(crate) fn has_more_parts(value: &str) -> bool {
    let count = |name: &str| value.split('/').skip(1).step_by(2).filter(|part| *part == name).count();
    count("ns") > 1 || count("sa") > 1
}

/// A principal of the mesh's own trust domain, or of one of its aliases, is one of all of them; so is one of
/// `cluster.local`. What is not `<trust domain>/ns/<namespace>/sa/<account>` stays as it is.
pub(super) fn with_aliases<'a, D: Iterator<Item = &'a str>>(
    value: &str,
    domains: impl Fn() -> D,
) -> Vec<String> {
    let Some((domain, rest)) = value.split_once('/') else { return vec![value.to_owned()] };
    if domain == "*" || value.split('/').count() != 5 {
        return vec![value.to_owned()];
    }
    if domain != CLUSTER_LOCAL && !domains().any(|own| fits_either(domain, own)) {
        return vec![value.to_owned()];
    }
    let mut values = Vec::new();
    for own in domains() {
        let is_covered = domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix));
        let expanded = if is_covered { value.to_owned() } else { format!("{own}/{rest}") };
        if !values.contains(&expanded) {
            values.push(expanded);
        }
    }
    values
}

/// Whether a trust domain of a policy is one of the mesh: either may have a wildcard.
fn fits_either(written: &str, own: &str) -> bool {
    let fits = |pattern: &str, text: &str| {
        pattern.strip_prefix('*').is_some_and(|suffix| text.ends_with(suffix))
            || pattern.strip_suffix('*').is_some_and(|prefix| text.starts_with(prefix))
    };
    written == own || fits(written, own) || fits(own, written)
}

/// Stands for the mesh's own trust domain.
const CLUSTER_LOCAL: &str = "cluster.local";

#[cfg(test)]
mod tests {
    use super::*;

    // policy#55
    #[test]
    fn the_first_wildcard_counts() {
        for (value, expected) in [
            ("*", StringMatch::Presence),
            ("a*", StringMatch::Prefix("a".into())),
            ("*a", StringMatch::Suffix("a".into())),
            ("*a*", StringMatch::Suffix("a*".into())),
            ("a*b", StringMatch::Exact("a*b".into())),
            ("a", StringMatch::Exact("a".into())),
        ] {
            assert_eq!(text(value), expected, "{value}");
            assert_eq!(has_inner_wildcard(value), ["*a*", "a*b"].contains(&value), "{value}");
        }
    }

    #[test]
    fn ports_and_ranges_are_whole_numbers_and_networks() {
        for (value, expected) in [("0", Some(0)), ("080", Some(80)), ("65535", Some(65535)), ("65536", None)]
        {
            assert_eq!(port(value), expected, "{value}");
        }
        // policy#38
        for value in ["", "+80", "-1", "http", "80 ", "65616"] {
            assert_eq!(port(value), None, "{value}");
        }
        for (value, expected) in [
            ("192.0.2.1", Some("192.0.2.1/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("192.0.2.7/24", Some("192.0.2.7/24")),
            ("::ffff:192.0.2.1", Some("::ffff:192.0.2.1/128")),
            ("", None),
            ("192.0.2", None),
            ("192.0.2.1/33", None),
            ("192.0.2.0/", None),
            ("example.org", None),
            ("*", None),
        ] {
            assert_eq!(range(value).map(|range| range.to_string()).as_deref(), expected, "{value}");
        }
    }

    // policy#94, policy#95
    #[test]
    fn principals_of_the_mesh_are_those_of_all_its_trust_domains() {
        let domains = || ["example.org", "old.example.org"].into_iter();
        let expanded = |value: &str| with_aliases(value, domains);
        let both = ["example.org/ns/shop/sa/cart", "old.example.org/ns/shop/sa/cart"];
        for domain in ["example.org", "old.example.org", "cluster.local", "exam*"] {
            assert_eq!(expanded(&format!("{domain}/ns/shop/sa/cart")), both, "{domain}");
        }
        assert_eq!(expanded("*.org/ns/shop/sa/cart"), ["*.org/ns/shop/sa/cart"]);
        assert_eq!(
            expanded("*old.example.org/ns/shop/sa/cart"),
            ["example.org/ns/shop/sa/cart", "*old.example.org/ns/shop/sa/cart"]
        );
        for same in
            ["*", "*/ns/shop/sa/cart", "example.net/ns/shop/sa/cart", "example.org/ns/shop", "example.org/*"]
        {
            assert_eq!(expanded(same), [same]);
        }
    }

    #[test]
    fn a_principal_has_one_namespace() {
        for value in ["example.org/ns/a/ns/b/sa/c", "example.org/ns/a/sa/b/sa/c"] {
            assert!(has_more_parts(value), "{value}");
        }
        for value in ["example.org/ns/ns/sa/sa", "*", "*/ns/a/sa/b", "example.org/*"] {
            assert!(!has_more_parts(value), "{value}");
        }
    }
}
