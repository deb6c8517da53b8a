use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderValue};
use thiserror::Error;

use super::{header, random};

/// The `traceparent` of a connection (W3C Trace Context, version 00): ties together what different proxies log about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: TraceId,
    parent: u64,
    flags: u8,
}

/// The part of a [`TraceParent`] that all hops share. Displayed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceParent {
    /// Starts a trace: random ids, not sampled.
    ///
    /// The ids are unique for all practical purposes, not unpredictable: they are no secret.
    pub fn random() -> Self {
        // Neither id may be zero (§3.2.2.3, §3.2.2.4).
        Self {
            trace: TraceId((u128::from(random()) << 64 | u128::from(random())).max(1)),
            parent: random().max(1),
            flags: 0,
        }
    }

    /// Reads the `traceparent` of a request; `None` if it has none that is valid, or more than one.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::TRACEPARENT).iter();
        let line = lines.next()?;
        if lines.next().is_some() { None } else { line.to_str().ok()?.parse().ok() }
    }

    /// The trace's id.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// Whether the caller may have recorded its part of the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The value of the header.
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("hexadecimal digits and dashes are visible ASCII")
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    /// Accepts what §3.2 defines; of a version above 00 the part that version 00 has.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut fields = text.split('-');
        let mut field =
            |digits| fields.next().and_then(|field| hex(field, digits)).ok_or(TraceParentError(()));
        let version = field(2)?;
        let trace = field(32)?;
        let parent = field(16)?;
        let flags = field(2)?;
        let complete = version > 0 || fields.next().is_none();
        if version == 0xff || !complete || trace == 0 || parent == 0 {
            return Err(TraceParentError(()));
        }
        let (Ok(parent), Ok(flags)) = (u64::try_from(parent), u8::try_from(flags)) else {
            return Err(TraceParentError(()));
        };
        Ok(Self { trace: TraceId(trace), parent, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

/// A text is not a [`TraceParent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid traceparent")]
pub struct TraceParentError(());

fn hex(field: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if field.len() != digits || !field.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(field, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn round_trips() {
        let parent: TraceParent = VALID.parse().unwrap();
        assert_eq!(parent.to_string(), VALID);
        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(parent.is_sampled());
    }

    // hbone#28
    #[test]
    fn random_values_are_valid_and_differ() {
        let values: Vec<_> = (0..1000).map(|_| TraceParent::random()).collect();
        for value in &values {
            let text = value.to_string();
            assert_eq!(text.len(), 55);
            assert_eq!(text.parse(), Ok(*value));
            assert!(!value.is_sampled());
        }
        assert_eq!(values.iter().map(TraceParent::trace_id).collect::<HashSet<_>>().len(), values.len());
    }

    // hbone §12: a text of the right length with too few dashes
    #[test]
    fn malformed_values_are_refused() {
        let malformed = [
            "".to_owned(),
            format!("00-{}", "0".repeat(52)),
            VALID.to_uppercase(),
            VALID.replace("00-", "ff-"),
            format!("{VALID}-00"),
            format!("{VALID} "),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        ];
        for text in malformed {
            assert_eq!(text.parse::<TraceParent>(), Err(TraceParentError(())), "{text:?}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_known() {
        let later = format!("{}-and-more", VALID.replace("00-", "01-"));
        assert_eq!(later.parse::<TraceParent>(), VALID.parse());
    }
}
