//! Texts with any number of wildcards.

use std::fmt;

/// A text in which each `*` stands for any text, the empty one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    text: Box<str>,
    is_literal: bool,
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        Self { text: pattern.into(), is_literal: !pattern.contains('*') }
    }

    /// The text, if nothing in it is a wildcard.
    pub(crate) fn literal(&self) -> Option<&str> {
        self.is_literal.then_some(&*self.text)
    }

    /// Whether it is nothing but a wildcard.
    pub(crate) fn is_any(&self) -> bool {
        &*self.text == "*"
    }

    /// In time linear in the text for each piece between two wildcards.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.is_literal {
            return *self.text == *text;
        }
        let mut pieces = self.text.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        // Leftmost finds leave the most to those that follow.
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }

    /// Whether the text has the pattern as a path segment, or several, right after one that is called `ns`:
    /// `.*/ns/<pattern>/.*` with `.*` for each wildcard.
    pub(crate) fn matches_after_ns(&self, uri: &str) -> bool {
        let mut pieces = self.text.split('*');
        let first = pieces.next().unwrap_or_default();
        let mut starts = after_each(uri, "/ns/");
        let Some(last) = pieces.next_back() else {
            return starts.any(|rest| rest.strip_prefix(first).is_some_and(|rest| rest.starts_with('/')));
        };
        // The first place where it may begin leaves the most to what follows.
        let Some(mut rest) = starts.find_map(|rest| rest.strip_prefix(first)) else { return false };
        for piece in pieces {
            let Some((_, after)) = rest.split_once(piece) else { return false };
            rest = after;
        }
        after_each(rest, last).any(|rest| rest.starts_with('/'))
    }
}

/// What follows each occurrence of a piece; occurrences may overlap.
pub(crate) fn after_each<'a>(text: &'a str, piece: &str) -> impl Iterator<Item = &'a str> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.find(piece)?;
        // The next character boundary: a piece may be found again within itself.
        from = at + text.get(at..)?.chars().next().map_or(1, char::len_utf8);
        text.get(at + piece.len()..)
    })
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("shop", "shop", true),
            ("shop", "shops", false),
            ("shop", "ashop", false),
            ("*", "", true),
            ("*", "shop", true),
            ("sh*", "sh", true),
            ("*op", "shop", true),
            ("s*p", "shop", true),
            ("s*p", "s", false),
            ("sh*hop", "shop", false),
            ("*a*a*", "a", false),
            ("*a*a*", "xaxa", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_namespace_may_be_anywhere_in_a_uri() {
        for (pattern, uri, expected) in [
            ("shop", "spiffe://example.org/ns/shop/sa/cart", true),
            ("sho", "spiffe://example.org/ns/shop/sa/cart", false),
            ("shop", "spiffe://example.org/ns/shop", false),
            ("s.op", "spiffe://example.org/ns/shop/sa/cart", false),
            ("b", "spiffe://example.org/ns/a/ns/b/sa/c", true),
            ("a", "spiffe://example.org/ns/a/ns/b/sa/c", true),
            ("sa", "spiffe://example.org/ns/ns/sa/c", true),
            ("*", "spiffe://example.org/ns//sa", true),
            ("sh*", "spiffe://example.org/ns/shop/sa/cart", true),
            ("*op", "spiffe://example.org/ns/shop/sa/cart", true),
            ("s*p", "spiffe://example.org/ns/shop/sa/cart", true),
            ("s*t", "spiffe://example.org/ns/shop/sa/cart/x", true),
            ("*t", "spiffe://example.org/ns/shop/sa/cart", false),
            ("", "spiffe://example.org/ns//sa", true),
        ] {
            assert_eq!(Glob::new(pattern).matches_after_ns(uri), expected, "{pattern} {uri}");
        }
    }
}
