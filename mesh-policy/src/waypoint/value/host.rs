//! Hosts, where a restriction must not be dodged.

use std::fmt;

use crate::{StringMatch, set::Text, waypoint::condition::fits_folded};

/// A host that a request is kept from, whichever of the ways to write it the request takes: with a port or without, with
/// a dot behind the name, in any case. Matches whatever its text does, and more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptHost {
    /// In lower case.
    pattern: StringMatch,
    /// The name in the pattern, or the end or beginning of one.
    name: Box<str>,
    port: Option<Box<str>>,
}

impl KeptHost {
    pub(crate) fn new(pattern: StringMatch) -> Self {
        let (name, port) = match &pattern {
            StringMatch::Exact(text) | StringMatch::Suffix(text) => {
                let Authority { name, port } = Authority::of(text);
                (name.into(), port.map(Box::from))
            }
            StringMatch::Prefix(text) => (Box::from(&**text), None),
            StringMatch::Presence => (Box::default(), None),
        };
        Self { pattern, name, port }
    }

    pub(crate) fn matches(&self, authority: &str) -> bool {
        if self.pattern == StringMatch::Presence || fits_folded(&self.pattern, authority) {
            return true;
        }
        let Authority { name, port } = Authority::of(authority);
        let ports = match &port {
            Some(port) => std::slice::from_ref(port),
            None => &DEFAULT_PORTS,
        };
        let (own, text) = (self.name.as_bytes(), name.as_bytes());
        let name_fits = match &self.pattern {
            StringMatch::Exact(_) => text.eq_ignore_ascii_case(own),
            StringMatch::Suffix(_) => {
                let start = text.len().checked_sub(own.len());
                start.and_then(|start| text.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(own))
            }
            // With a colon in it, it goes on into the port.
            StringMatch::Prefix(prefix) => {
                return ports.iter().any(|port| begins_with(prefix, [name, ":", port]));
            }
            StringMatch::Presence => true,
        };
        name_fits && self.port.as_deref().is_none_or(|own| ports.contains(&own))
    }

    /// What the name in every authority that it matches is, ends or begins with; nothing if there is nothing to say.
    pub(crate) fn of_name(&self) -> Option<Text<'_>> {
        // What ends in any of these may be the end of a port.
        let may_be_port = |text: &str| text.ends_with(|end: char| matches!(end, ':' | '.' | '0'..='9'));
        match &self.pattern {
            StringMatch::Exact(_) => Some(Text::Exact(&self.name)),
            StringMatch::Suffix(text) if !may_be_port(text) => Some(Text::Suffix(&self.name)),
            StringMatch::Prefix(text) if !text.contains([':', '[']) && !text.ends_with('.') => {
                Some(Text::Prefix(&self.name))
            }
            StringMatch::Prefix(_) | StringMatch::Suffix(_) | StringMatch::Presence => None,
        }
    }
}

/// As it is written.
impl fmt::Display for KeptHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pattern.fmt(f)
    }
}

/// The parts of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// Without the dot that ends a name in full.
    pub(crate) name: &'a str,
    /// Without zeros before it.
    port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    /// What follows the last colon is a port if it is a number or nothing, and what precedes it has no colon but in
    /// brackets; else all of it is the name.
    pub(crate) fn of(text: &'a str) -> Self {
        let is_name = |name: &str| !name.contains(':') || name.starts_with('[') && name.ends_with(']');
        let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.rsplit_once(':').filter(|(name, port)| is_name(name) && is_number(port));
        let (name, port) = parts.unwrap_or((text, ""));
        let number = port.trim_start_matches('0');
        let port = if number.is_empty() { port.get(..1) } else { Some(number) };
        Self { name: name.trim_end_matches('.'), port }
    }
}

/// Whether the parts in a row begin with a text in lower case.
fn begins_with(prefix: &str, parts: [&str; 3]) -> bool {
    let mut bytes = parts.into_iter().flat_map(str::bytes).map(|byte| byte.to_ascii_lowercase());
    prefix.bytes().all(|byte| bytes.next() == Some(byte))
}

/// The ports of an authority that names none (RFC 9110 §4.2): which of them, the scheme says.
const DEFAULT_PORTS: [&str; 2] = ["80", "443"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waypoint::text::text;

    fn matches(value: &str, authority: &str) -> bool {
        KeptHost::new(text(&value.to_ascii_lowercase())).matches(authority)
    }

    #[test]
    fn no_way_to_write_a_host_leads_around_it() {
        for (value, authorities) in [
            (
                "Example.com",
                &[
                    "example.com",
                    "EXAMPLE.COM",
                    "example.com.",
                    "example.com:80",
                    "example.com.:8080",
                    "example.com:",
                ][..],
            ),
            ("example.com.", &["example.com", "example.com.", "example.com:1"]),
            ("example.com:443", &["example.com", "example.com.", "example.com:443", "example.com.:0443"]),
            ("*.example.com", &["a.example.com", "A.example.com.:80", "a.example.com:443"]),
            ("*:8080", &["example.com:8080", "[::1]:8080", "example.com.:08080"]),
            ("example.com:*", &["example.com", "example.com.", "example.com:7", "example.com.:7"]),
            ("exam*", &["example.com:80", "example.com."]),
            ("[2001:db8::1]", &["[2001:DB8::1]", "[2001:db8::1]:80"]),
            ("*", &["", "x"]),
        ] {
            for authority in authorities {
                assert!(matches(value, authority), "{value} {authority}");
            }
        }
    }

    #[test]
    fn other_hosts_and_ports_stay_out() {
        for (value, authorities) in [
            (
                "example.com",
                &["example.com.evil.org", "example.org", "www.example.com", "", "example.com:x"][..],
            ),
            ("example.com:8080", &["example.com", "example.com:80", "example.com:80801"]),
            ("example.com:80", &["example.com:443", "example.com:8080"]),
            ("*.example.com", &["example.com", "a.example.com.evil.org:80"]),
            ("*:8080", &["example.com", "example.com:80"]),
            ("www.*", &["www", "www:80", "ww.example.com"]),
            ("[2001:db8::1]:80", &["[2001:db8::1]:81", "[2001:db8::2]:80"]),
        ] {
            for authority in authorities {
                assert!(!matches(value, authority), "{value} {authority}");
            }
        }
    }

    #[test]
    fn a_port_is_a_number_behind_a_name() {
        for (text, name, port) in [
            ("a", "a", None),
            ("a:80", "a", Some("80")),
            ("a.:080", "a", Some("80")),
            ("a:00", "a", Some("0")),
            ("a:", "a", None),
            ("a:80:90", "a:80:90", None),
            ("a:http", "a:http", None),
            ("::1", "::1", None),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some("80")),
            (":8080", "", Some("8080")),
            ("", "", None),
        ] {
            assert_eq!(Authority::of(text), Authority { name, port }, "{text}");
        }
    }
}
