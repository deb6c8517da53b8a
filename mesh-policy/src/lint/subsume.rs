//! Whether one rule matches all that another does, as far as their texts tell.

use crate::object::{Condition, Operation, Rule, Source};

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

/// Whether a value matches all that another does. Templates, and ranges of addresses, only if they are equal.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    if wide == narrow || (wide == "*" && !narrow.contains('{')) {
        return true;
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
            ("/a/{*}", "/a/b", false),
            ("/a*", "/a/{*}", false),
            ("10.0.0.0/8", "10.0.0.1", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }
}
