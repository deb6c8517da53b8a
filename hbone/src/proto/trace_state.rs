use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue};

use super::{TraceParent, header};

/// What tracing systems add to a [`TraceParent`]: the `tracestate` header (W3C Trace Context §3.3).
///
/// A proxy that takes no part in the trace passes it on as it came, which is all there is to do with it here.
///
/// ```
/// # use hbone::TraceState;
/// let state = TraceState::from_lines(["rojo=00f067aa0ba902b7", " congo=t61rcWkgMzE"]).unwrap();
/// assert_eq!(state.to_string(), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
/// assert_eq!(state.get("congo"), Some("t61rcWkgMzE"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceState(Arc<str>);

impl TraceState {
    /// Reads the `tracestate` of a request; `None` if it has none, or none that may be passed on.
    ///
    /// Without a valid `traceparent` it means nothing and is not read (§3.3.1). One malformed member, a key that occurs
    /// twice, or more than 32 members discard all of it, as §3.3.1.1 says; so do more than 4096 bytes, eight times what
    /// everyone has to pass on (§3.3.1.5).
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        TraceParent::from_headers(headers)?;
        let lines: Option<Vec<_>> =
            headers.get_all(header::TRACESTATE).iter().map(|line| line.to_str().ok()).collect();
        Self::from_lines(lines?)
    }

    /// Reads header lines, with the rules of [`from_headers`](Self::from_headers).
    pub fn from_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let (mut state, mut keys) = (String::new(), Vec::new());
        // Empty members are allowed, since removing a member may leave one.
        let members =
            lines.into_iter().flat_map(|line| line.split(',')).map(|member| member.trim_matches(OWS));
        for member in members.filter(|member| !member.is_empty()) {
            let (key, value) = member.split_once('=')?;
            let fits = keys.len() < MAX_MEMBERS && state.len() + member.len() < MAX_BYTES;
            if !fits || !is_key(key) || !is_value(value) || keys.contains(&key) {
                return None;
            }
            keys.push(key);
            if !state.is_empty() {
                state.push(',');
            }
            state.push_str(member);
        }
        if state.is_empty() { None } else { Some(Self(state.into())) }
    }

    /// The value of a vendor's member.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.split(',').find_map(|member| member.strip_prefix(key)?.strip_prefix('='))
    }

    /// The value of the header.
    pub fn to_header_value(&self) -> HeaderValue {
        HeaderValue::try_from(&*self.0).expect("members are printable ASCII")
    }
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceState({self})")
    }
}

/// §3.3.1.3.1: lower case, at most 256 bytes, or `tenant@system` with at most 241 and 14.
fn is_key(key: &str) -> bool {
    let is_part = |part: &str, longest, may_begin_with_digit: bool| {
        let begins_well = part
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || (may_begin_with_digit && byte.is_ascii_digit()));
        let is_char = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'*' | b'/')
        };
        begins_well && part.len() <= longest && part.bytes().all(is_char)
    };
    match key.split_once('@') {
        Some((tenant, system)) => is_part(tenant, 241, true) && is_part(system, 14, false),
        None => is_part(key, 256, false),
    }
}

/// §3.3.1.3.2: printable, no comma, no equals sign, no blank at its end.
fn is_value(value: &str) -> bool {
    let is_char = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && !value.ends_with(' ') && value.bytes().all(is_char)
}

const OWS: [char; 2] = [' ', '\t'];
/// §3.3.1.1.
const MAX_MEMBERS: usize = 32;
const MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<String> {
        TraceState::from_lines([line]).map(|state| state.to_string())
    }

    #[test]
    fn members_keep_their_order_over_several_lines() {
        let state = TraceState::from_lines(["b=2 ,, a=1\t", "", "t1@sys=x y"]).unwrap();
        assert_eq!(state.to_string(), "b=2,a=1,t1@sys=x y");
        assert_eq!(state.to_header_value(), "b=2,a=1,t1@sys=x y");
        assert_eq!((state.get("a"), state.get("t1@sys"), state.get("c")), (Some("1"), Some("x y"), None));
    }

    // W3C Trace Context §3.3.1
    #[test]
    fn malformed_member_discards_all() {
        let too_many: String = (0..33).map(|index| format!("k{index}=v,")).collect();
        let too_long = "v".repeat(257);
        let longest: Vec<_> = (0..17).map(|index| format!("k{index}={}", "v".repeat(250))).collect();
        for line in [
            "",
            ",",
            "a",
            "a=",
            "=1",
            "A=1",
            "1a=1",
            "a=1,a=2",
            "a=b=c",
            "a=\u{7f}",
            "a@=1",
            "@b=1",
            "a@1b=1",
            "a@bcdefghijklmnop=1",
            "ok=1,no",
            "a b=1",
        ] {
            assert_eq!(read(line), None, "{line:?}");
        }
        assert_eq!(read(&too_many), None);
        assert_eq!(read(&format!("a={too_long}")), None);
        assert_eq!(read(&longest.join(",")), None);
        assert!(read(too_many.trim_end_matches("k32=v,")).is_some());
        assert!(read("1a@b=1").is_some());
    }

    #[test]
    fn without_a_valid_traceparent_it_means_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(header::TRACESTATE, HeaderValue::from_static("a=1"));
        assert_eq!(TraceState::from_headers(&headers), None);
        headers.insert(header::TRACEPARENT, HeaderValue::from_static("00-x"));
        assert_eq!(TraceState::from_headers(&headers), None);
        headers.insert(header::TRACEPARENT, TraceParent::random().to_header_value());
        assert_eq!(TraceState::from_headers(&headers).unwrap().to_string(), "a=1");
        headers.append(header::TRACESTATE, HeaderValue::from_bytes(b"b=\xff").unwrap());
        assert_eq!(TraceState::from_headers(&headers), None);
    }
}
