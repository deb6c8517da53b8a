//! Whether one rule matches all that another does, as far as their texts tell.

use crate::{
    object::{Condition, Operation, Rule, Source},
    waypoint::{PathTemplate, text},
};

/// Whether the first matches whatever the second does. Where that cannot be told, it does not.
pub(super) fn rule(wide: &Rule, narrow: &Rule) -> bool {
    let from = wide.from.is_empty()
        || (!narrow.from.is_empty()
            && narrow.from.iter().all(|one| wide.from.iter().any(|other| source(other, one))));
    let to = wide.to.is_empty()
        || (!narrow.to.is_empty()
            && narrow.to.iter().all(|one| wide.to.iter().any(|other| operation(other, one))));
    from && to && wide.when.iter().all(|one| narrow.when.iter().any(|other| condition(one, other)))
}

fn source(wide: &Source, narrow: &Source) -> bool {
    // Every field is named, so that a new one is not forgotten.
    let Source {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        trust_domains,
        not_trust_domains,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
    } = wide;
    positive(principals, &narrow.principals)
        && negative(not_principals, &narrow.not_principals)
        && positive(request_principals, &narrow.request_principals)
        && negative(not_request_principals, &narrow.not_request_principals)
        && positive(namespaces, &narrow.namespaces)
        && negative(not_namespaces, &narrow.not_namespaces)
        && positive(service_accounts, &narrow.service_accounts)
        && negative(not_service_accounts, &narrow.not_service_accounts)
        && positive(trust_domains, &narrow.trust_domains)
        && negative(not_trust_domains, &narrow.not_trust_domains)
        && positive(ip_blocks, &narrow.ip_blocks)
        && negative(not_ip_blocks, &narrow.not_ip_blocks)
        && positive(remote_ip_blocks, &narrow.remote_ip_blocks)
        && negative(not_remote_ip_blocks, &narrow.not_remote_ip_blocks)
}

fn operation(wide: &Operation, narrow: &Operation) -> bool {
    let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = wide;
    positive(hosts, &narrow.hosts)
        && negative(not_hosts, &narrow.not_hosts)
        && positive(ports, &narrow.ports)
        && negative(not_ports, &narrow.not_ports)
        && positive(methods, &narrow.methods)
        && negative(not_methods, &narrow.not_methods)
        && positive(paths, &narrow.paths)
        && negative(not_paths, &narrow.not_paths)
}

fn condition(wide: &Condition, narrow: &Condition) -> bool {
    wide.key == narrow.key
        && positive(&wide.values, &narrow.values)
        && negative(&wide.not_values, &narrow.not_values)
}

/// Whether a field lets pass all that another does.
fn positive(wide: &[String], narrow: &[String]) -> bool {
    wide.is_empty()
        || (!narrow.is_empty() && narrow.iter().all(|one| wide.iter().any(|other| covers(other, one))))
}

fn negative(wide: &[String], narrow: &[String]) -> bool {
    wide.iter().all(|one| narrow.iter().any(|other| covers(other, one)))
}

/// Whether a value matches all that another does; of templates, as far as it can be told segment by segment.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    if wide == narrow || (wide == "*" && !narrow.contains('{')) {
        return true;
    }
    if let (Some(wide), Some(narrow)) = (text::range(wide), text::range(narrow)) {
        return wide.contains(&narrow);
    }
    if PathTemplate::is_one(wide) || PathTemplate::is_one(narrow) {
        return template_covers(wide, narrow);
    }
    let plain = |text: &str| !text.contains(['*', '{']);
    if let Some(suffix) = wide.strip_prefix('*').filter(|suffix| plain(suffix)) {
        return !narrow.ends_with('*') && !narrow.contains('{') && narrow.ends_with(suffix);
    }
    if let Some(prefix) = wide.strip_suffix('*').filter(|prefix| plain(prefix)) {
        return !narrow.starts_with('*') && !narrow.contains('{') && narrow.starts_with(prefix);
    }
    false
}

/// Whether a path or a template matches all that another does.
fn template_covers(wide: &str, narrow: &str) -> bool {
    if wide == "*" {
        return true;
    }
    if let Some(prefix) = wide.strip_suffix('*').filter(|prefix| !prefix.contains(['*', '{'])) {
        // All that a template matches begins with what precedes its first operator.
        return narrow.split('{').next().is_some_and(|literal| literal.starts_with(prefix));
    }
    match (PathTemplate::new(wide), PathTemplate::is_one(narrow)) {
        // A text without wildcards is one path.
        (Some(wide), false) => !narrow.contains('*') && wide.matches(narrow),
        (Some(_), true) => {
            let is_taken =
                |wide: &str, narrow: &str| wide == narrow || wide == "{*}" && is_one_segment(narrow);
            let mut narrow = narrow.split('/');
            for segment in wide.split('/') {
                if segment == "{**}" {
                    // Whatever it takes ends where the path does; what follows it is not looked into.
                    return wide.ends_with("{**}") && narrow.next().is_some();
                }
                if !narrow.next().is_some_and(|narrow| is_taken(segment, narrow)) {
                    return false;
                }
            }
            narrow.next().is_none()
        }
        (None, _) => false,
    }
}

/// Whether a segment of a template is one of a path, whatever that is.
fn is_one_segment(segment: &str) -> bool {
    segment == "{*}" || !segment.is_empty() && !segment.contains(['{', '*'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_they_match() {
        for (wide, narrow, expected) in [
            ("*", "a", true),
            ("a*", "ab", true),
            ("a*", "ab*", true),
            ("a*", "*b", false),
            ("*b", "ab", true),
            ("*b", "*ab", true),
            ("*b", "b*", false),
            ("ab", "a*", false),
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/b/c", false),
            ("/a/{*}", "/a/b*", false),
            ("/a*", "/a/{*}", true),
            ("/a/b*", "/a/{*}", false),
            ("*", "/a/{*}", true),
            ("*b", "/a/{*}", false),
            ("/a/{**}", "/a/{*}", true),
            ("/a/{**}", "/a/b/{*}/c", true),
            ("/a/{**}", "/a", false),
            ("/{*}/b", "/a/b", true),
            ("/{*}/b", "/{*}/c", false),
            ("/{*}/b", "/a/{*}", false),
            ("/a/{**}/c", "/a/b/{*}", false),
            ("/a/{*}", "/a/{**}", false),
            ("/a/b", "/a/{*}", false),
            ("10.0.0.0/8", "10.0.0.1", true),
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.1/32", "10.0.0.1", true),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }
}
