//! Who a token is about.

use std::fmt;

use crate::StringMatch;

/// A pattern for the issuer and the subject of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPrincipal {
    text: Box<str>,
    pub(crate) issuer: StringMatch,
    pub(crate) subject: StringMatch,
}

impl RequestPrincipal {
    /// Reads the text as Istio does. Issuers are URLs, so the last slash parts issuer and subject.
    pub(crate) fn new(text: &str) -> Self {
        let exact = |text: &str| StringMatch::Exact(text.into());
        let parts = text.rsplit_once('/');
        let (issuer, subject) = match (text.strip_prefix('*'), text.strip_suffix('*'), parts) {
            _ if text == "*" => (StringMatch::Presence, StringMatch::Presence),
            (Some(_), _, Some((issuer, subject))) => {
                let issuer = match issuer.strip_prefix('*').unwrap_or(issuer) {
                    "" => StringMatch::Presence,
                    issuer => StringMatch::Suffix(issuer.into()),
                };
                (issuer, exact(subject))
            }
            (Some(subject), _, None) => (StringMatch::Presence, StringMatch::Suffix(subject.into())),
            (None, Some(_), Some((issuer, subject))) => {
                let subject = match subject.strip_suffix('*').unwrap_or(subject) {
                    "" => StringMatch::Presence,
                    subject => StringMatch::Prefix(subject.into()),
                };
                (exact(issuer), subject)
            }
            (None, Some(issuer), None) => (StringMatch::Prefix(issuer.into()), StringMatch::Presence),
            (None, None, Some((issuer, subject))) => (exact(issuer), exact(subject)),
            (None, None, None) => (exact(text), exact("")),
        };
        Self { text: text.into(), issuer, subject }
    }

    /// Whether no token matches that the text seems to mean: it has no subject, a wildcard that is read
    /// literally, or is cut within the `//` of a URL.
    pub(crate) fn is_trap(&self) -> bool {
        let literal = |pattern: &StringMatch| match pattern {
            StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text) => {
                text.contains('*') || text.ends_with(":/")
            }
            StringMatch::Presence => false,
        };
        let is_empty = matches!(&self.subject, StringMatch::Exact(subject) if subject.is_empty());
        is_empty || literal(&self.issuer) || literal(&self.subject)
    }

    pub(crate) fn matches(&self, issuer: &str, subject: &str) -> bool {
        self.issuer.matches(issuer) && self.subject.matches(subject)
    }
}

impl fmt::Display for RequestPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // policy#82, policy#83, policy#106, and part D 5
    #[test]
    fn is_cut_at_the_last_slash() {
        for (text, issuer, subject, is_trap) in [
            ("*", "*", "*", false),
            ("*/sub", "*", "sub", false),
            ("*.example.org/sub", "*.example.org", "sub", false),
            ("https://iss.example.org/sub", "https://iss.example.org", "sub", false),
            ("https://iss.example.org/*", "https://iss.example.org", "*", false),
            ("https://iss.example.org/s*", "https://iss.example.org", "s*", false),
            ("*sub", "*", "*sub", false),
            ("iss*", "iss*", "*", false),
            ("https://iss*", "https:/", "iss*", true),
            ("plain", "plain", "", true),
            ("iss/", "iss", "", true),
        ] {
            let principal = RequestPrincipal::new(text);
            let found = (principal.issuer.to_string(), principal.subject.to_string());
            assert_eq!(found, (issuer.to_owned(), subject.to_owned()), "{text}");
            assert_eq!(principal.is_trap(), is_trap, "{text}");
        }
        let literal = RequestPrincipal::new("*/*");
        assert_eq!(literal.subject, StringMatch::Exact("*".into()));
        assert!(literal.is_trap());
        assert!(literal.matches("any", "*") && !literal.matches("any", "sub"));
    }
}
