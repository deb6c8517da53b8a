//! Changing what is logged, through the query of a request.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::answer;
use crate::telemetry::log::{LogHandle, LogOverrides};

pub(super) const USAGE: &str = "usage: POST /logging\t\t\t\t\t(to list the current levels)
usage: POST /logging?level=<level>\t\t\t(to change the level of everything)
usage: POST /logging?level=<target>=<level>,<level>,...\t(to change the level of some targets)
usage: POST /logging?reset\t\t\t\t(to go back to the levels at start-up)
levels: off, error, warn, info, debug, trace
";

/// Changes levels as the query asks, and answers with those in force.
pub(super) fn change(handle: &LogHandle, query: &str) -> Response<Bytes> {
    let parameters = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut level = String::new();
    let mut reset = false;
    for (name, value) in parameters {
        match name {
            "level" => level = decode(value),
            "reset" => reset = true,
            _ => {}
        }
    }
    match level.parse::<LogOverrides>() {
        Ok(overrides) if reset => handle.reset(&overrides),
        Ok(overrides) => handle.add(&overrides),
        Err(error) => {
            let body = format!("Invalid level provided: {}\n{USAGE}", error.clause());
            return answer::text(StatusCode::BAD_REQUEST, body);
        }
    }
    answer::text(StatusCode::OK, format!("current log level is {}\n", handle.levels()))
}

/// Undoes percent-encoding (RFC 3986 §2.1); what is not encoded well stays as it is.
fn decode(value: &str) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*first);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn encoded_separators_are_decoded_and_broken_encodings_kept() {
        for (encoded, decoded) in
            [("access%3Ddebug%2cinfo", "access=debug,info"), ("a%3", "a%3"), ("%zz%", "%zz%"), ("", "")]
        {
            assert_eq!(decode(encoded), decoded);
        }
    }
}
