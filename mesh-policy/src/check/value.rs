//! Whether a value can mean anything.

use std::net::IpAddr;

use ipnet::IpNet;

pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok()
}

pub(crate) fn is_port(text: &str) -> bool {
    // Rust reads a sign, Kubernetes does not.
    !text.starts_with('+') && text.parse::<u16>().is_ok()
}

/// As Go reads it, since an annotation says what Istio's controller makes of it.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn is_service_account(text: &str) -> bool {
    let mut parts = text.split('/');
    let named = parts.by_ref().take(2).all(|part| !part.is_empty());
    named && parts.next().is_none() && !text.contains('*') && text.len() <= 320
}

pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether a path is compared as a template rather than as a text.
pub(super) fn is_template(path: &str) -> bool {
    path.contains("{*}") || path.contains("{**}")
}

pub(super) fn is_valid_template(path: &str) -> bool {
    let mut rest_taken = false;
    path.trim_matches('/').split('/').all(|segment| match segment {
        "{*}" => !rest_taken,
        "{**}" => !std::mem::replace(&mut rest_taken, true),
        _ => !segment.is_empty() && segment.bytes().all(is_literal),
    })
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    // policy#74
    #[test]
    fn templates_are_whole_segments_and_end_with_the_rest() {
        for path in
            ["/foo/{*}", "/foo/{**}/", "/foo/{*}/bar/{**}", "/{**}/end", "/{*}", "{**}", "/a/{*}/b/{**}/c"]
        {
            assert!(is_template(path) && is_valid_template(path), "{path}");
        }
        for path in
            ["/{**}/a/{*}", "/foo/{*}.txt", "/*/x/{*}", "/{**}/{**}", "/a//{*}", "/{x}/{*}", "/a b/{*}"]
        {
            assert!(is_template(path) && !is_valid_template(path), "{path}");
        }
    }

    #[test]
    fn service_accounts_have_one_or_two_parts() {
        for (text, valid) in [
            ("a", true),
            ("ns/a", true),
            ("a.b", true),
            ("", false),
            ("/a", false),
            ("a/", false),
            ("a/b/c", false),
            ("a*", false),
        ] {
            assert_eq!(is_service_account(text), valid, "{text}");
        }
    }

    // policy#38
    #[test]
    fn ports_and_addresses_are_exact() {
        for (text, valid) in [
            ("80", true),
            ("0", true),
            ("65535", true),
            ("65616", false),
            ("+80", false),
            ("http", false),
            ("", false),
            (" 80", false),
        ] {
            assert_eq!(is_port(text), valid, "{text}");
        }
        for (text, valid) in [
            ("192.0.2.1", true),
            ("192.0.2.1/8", true),
            ("2001:db8::/32", true),
            ("192.0.2", false),
            ("192.0.2.0/33", false),
            ("*", false),
        ] {
            assert_eq!(is_address(text), valid, "{text}");
        }
    }
}
