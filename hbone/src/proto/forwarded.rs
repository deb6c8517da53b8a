use std::{fmt, net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderValue};

use super::header::{self, is_token};

/// Whom the sender of a request speaks for: the `forwarded` header (RFC 7239).
///
/// It is metadata, chosen freely by the peer: never decide about access or routing by it.
///
/// ```
/// # use hbone::Forwarded;
/// let forwarded = Forwarded::new("[2001:db8::1]:4321".parse()?).with_host("cart.shop.svc.cluster.local");
/// assert_eq!(forwarded.to_string(), r#"for="[2001:db8::1]:4321";host=cart.shop.svc.cluster.local"#);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forwarded {
    source: Option<SocketAddr>,
    host: Option<Arc<str>>,
}

impl Forwarded {
    /// Names the client.
    pub fn new(source: SocketAddr) -> Self {
        Self { source: Some(source), host: None }
    }

    /// Adds what the client meant to reach, usually a service's host name.
    ///
    /// A host that is empty or not visible ASCII is left out.
    pub fn with_host(self, host: impl Into<Arc<str>>) -> Self {
        let is_visible =
            |host: &Arc<str>| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        Self { host: Some(host.into()).filter(is_visible), ..self }
    }

    /// Reads the `forwarded` header of a request; `None` if it has none.
    ///
    /// Where several proxies left their mark only the first counts, which speaks of the original client (RFC 7239 §4): what
    /// it does not say is not taken from another. Reading never fails: what is malformed or unknown is skipped.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(header::FORWARDED) {
            return None;
        }
        let lines = headers.get_all(header::FORWARDED).iter().filter_map(|line| line.to_str().ok());
        Some(Self::from_lines(lines))
    }

    /// Reads header lines, with the leniency of [`from_headers`](Self::from_headers).
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forwarded = Self::default();
        for line in lines {
            let mut rest = line;
            let mut has_said = false;
            while !rest.is_empty() {
                let (pair, separator, tail) = split_pair(rest);
                rest = tail;
                has_said |= !pair.trim_matches(OWS).is_empty();
                if separator == Some(',') && has_said {
                    rest = "";
                }
                let Some((name, value)) = pair.split_once('=') else { continue };
                let value = unquote(value.trim_matches(OWS));
                let name = name.trim_matches(OWS);
                if name.eq_ignore_ascii_case("for") && forwarded.source.is_none() {
                    // Also `unknown`, an obfuscated name, or an address without a port: no use to anyone here.
                    forwarded.source = value.parse().ok();
                } else if name.eq_ignore_ascii_case("host") && forwarded.host.is_none() {
                    forwarded = forwarded.with_host(value);
                }
            }
            if has_said {
                break;
            }
        }
        forwarded
    }

    /// The client's address, if given together with its port.
    pub fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// What the client meant to reach.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The value of the header.
    pub fn to_header_value(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("an address and a visible host are visible ASCII")
    }
}

impl fmt::Display for Forwarded {
    /// Writes the header's value as the reference does: the address always quoted, the host only where it must be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = self.source {
            write!(f, "for=\"{source}\"")?;
        }
        let Some(host) = self.host() else { return Ok(()) };
        if self.source.is_some() {
            f.write_str(";")?;
        }
        if host.bytes().all(is_token) {
            return write!(f, "host={host}");
        }
        f.write_str("host=\"")?;
        for char in host.chars() {
            if matches!(char, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{char}")?;
        }
        f.write_str("\"")
    }
}

/// Splits off the first pair, up to a separator that is not in a quoted string: which one, and what is behind it.
fn split_pair(text: &str) -> (&str, Option<char>, &str) {
    let (mut quoted, mut escaped) = (false, false);
    let end = text.find(|char| match char {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = quoted;
            false
        }
        '"' => {
            quoted = !quoted;
            false
        }
        ',' | ';' => !quoted,
        _ => false,
    });
    match end {
        Some(end) => {
            let (pair, tail) = text.split_at(end);
            // The separator is one byte.
            (pair, tail.chars().next(), tail.get(1..).unwrap_or_default())
        }
        None => (text, None, ""),
    }
}

/// Undoes a quoted string (RFC 9110 §5.6.4); anything else is taken as it stands.
fn unquote(value: &str) -> Arc<str> {
    let Some(quoted) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.into();
    };
    if !quoted.contains('\\') {
        return quoted.into();
    }
    let mut chars = quoted.chars();
    let unescaped: String = std::iter::from_fn(|| {
        chars.next().map(|char| if char == '\\' { chars.next().unwrap_or(char) } else { char })
    })
    .collect();
    unescaped.into()
}

const OWS: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    // hbone#27
    #[test]
    fn address_is_quoted_and_host_is_not() {
        let forwarded = Forwarded::new(source("192.0.2.1:4321"));
        assert_eq!(forwarded.to_header_value(), r#"for="192.0.2.1:4321""#);
        let forwarded = forwarded.with_host("cart.shop.svc.cluster.local");
        assert_eq!(forwarded.to_header_value(), r#"for="192.0.2.1:4321";host=cart.shop.svc.cluster.local"#);
        let forwarded = Forwarded::new(source("[2001:db8::1]:1"));
        assert_eq!(forwarded.to_header_value(), r#"for="[2001:db8::1]:1""#);
    }

    #[test]
    fn host_outside_the_token_grammar_is_quoted() {
        let forwarded = Forwarded::default().with_host(r#"a:1"\"#);
        assert_eq!(forwarded.to_string(), r#"host="a:1\"\\""#);
        assert_eq!(Forwarded::from_lines([&*forwarded.to_string()]), forwarded);
        assert_eq!(Forwarded::default().with_host("a b").host(), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let forwarded = Forwarded::new(source("[2001:db8::1]:4321")).with_host("example.org");
        assert_eq!(Forwarded::from_lines([&*forwarded.to_string()]), forwarded);
    }

    #[test]
    fn names_are_read_in_any_case_and_order() {
        let forwarded = Forwarded::from_lines([r#"Proto=h2; HOST="example.org" ;FOR="192.0.2.1:5""#]);
        assert_eq!(forwarded, Forwarded::new(source("192.0.2.1:5")).with_host("example.org"));
    }

    #[test]
    fn first_of_several_proxies_counts() {
        let lines = [r#" ,by=_x;for="192.0.2.1:5", for="192.0.2.2:5";host=second"#, "host=third"];
        assert_eq!(Forwarded::from_lines(lines), Forwarded::new(source("192.0.2.1:5")));
        let lines = ["", ",", "host=first", "for=\"192.0.2.2:5\""];
        assert_eq!(Forwarded::from_lines(lines), Forwarded::default().with_host("first"));
        let lines = [r#"for=unknown, for="192.0.2.2:5""#];
        assert_eq!(Forwarded::from_lines(lines), Forwarded::default());
    }

    #[test]
    fn separators_in_quotes_separate_nothing() {
        let forwarded = Forwarded::from_lines([r#"by="a;host=evil,host=\"evil";host=good"#]);
        assert_eq!(forwarded.host(), Some("good"));
    }

    // hbone#32
    #[test]
    fn malformed_values_are_skipped() {
        for text in
            ["", ";;,,=", "for", "for=", "for=unknown", "for=_hidden", "host=", "host=\"\"", "host=\"", "=x"]
        {
            let forwarded = Forwarded::from_lines([text]);
            assert_eq!(forwarded.source(), None, "{text:?}");
            assert!(forwarded.host().is_none_or(|host| host == "\""), "{text:?}");
        }
    }

    #[test]
    fn absence_differs_from_malformed() {
        let mut headers = HeaderMap::new();
        assert_eq!(Forwarded::from_headers(&headers), None);
        headers.insert(header::FORWARDED, HeaderValue::from_bytes(b"host=\xff").unwrap());
        assert_eq!(Forwarded::from_headers(&headers), Some(Forwarded::default()));
    }
}
