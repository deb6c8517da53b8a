//! Ways to match a string.

use std::{fmt, sync::Arc};

/// A way to match a string. Compares bytes: case matters, and nothing in the text is special.
///
/// Displayed as users write it in policies: `text`, `text*`, `*text`, `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The same text.
    Exact(Arc<str>),
    /// Any text that starts so; the empty prefix starts every text.
    Prefix(Arc<str>),
    /// Any text that ends so; the empty suffix ends every text.
    Suffix(Arc<str>),
    /// Any text that is not empty.
    Presence,
}

impl StringMatch {
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Presence => !text.is_empty(),
        }
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Presence => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // policy#24, policy#30
    #[test]
    fn every_way_to_match() {
        let exact = |text: &str| StringMatch::Exact(text.into());
        let prefix = |text: &str| StringMatch::Prefix(text.into());
        let suffix = |text: &str| StringMatch::Suffix(text.into());
        for (pattern, text, expected) in [
            (exact("shop"), "shop", true),
            (exact("shop"), "Shop", false),
            (exact("shop"), "shop ", false),
            (exact("s.op"), "shop", false),
            (exact("*"), "shop", false),
            (exact(""), "", true),
            (prefix("sh"), "shop", true),
            (prefix("shop"), "shop", true),
            (prefix("shops"), "shop", false),
            (prefix("SH"), "shop", false),
            (prefix(""), "shop", true),
            (prefix(""), "", true),
            (suffix("op"), "shop", true),
            (suffix("shop"), "shop", true),
            (suffix("ashop"), "shop", false),
            (suffix(""), "", true),
            (StringMatch::Presence, "shop", true),
            (StringMatch::Presence, "", false),
        ] {
            assert_eq!(pattern.matches(text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn prints_as_users_write_it() {
        let text = [
            StringMatch::Exact("a".into()),
            StringMatch::Prefix("a".into()),
            StringMatch::Suffix("a".into()),
            StringMatch::Presence,
        ]
        .map(|pattern| pattern.to_string());
        assert_eq!(text, ["a", "a*", "*a", "*"]);
    }
}
