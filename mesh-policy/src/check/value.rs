//! Whether a value can mean anything.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
