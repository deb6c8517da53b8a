//! One spelling for each path.

use std::{borrow::Cow, fmt};

use crate::Semantics;

/// How paths are normalised before policies see them and before they are forwarded (Istio's
/// `pathNormalization`).
///
/// What is normalised is also what has to be forwarded: a path that a policy saw in one spelling and the
/// application in another is a way around the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathNormalization {
    /// As RFC 3986 §6.2.2: dot segments are resolved, with their parameters, `\` becomes `/`, characters that
    /// need no escape are unescaped, and those that need one get it.
    #[default]
    Base,
    /// Escaped slashes are unescaped, then as [`MergeSlashes`](Self::MergeSlashes).
    DecodeAndMergeSlashes,
    /// As [`Base`](Self::Base), then slashes in a row become one.
    MergeSlashes,
    /// Paths are left as they are.
    None,
}

/// The path of a request, with its query, as policies see it and as it has to be forwarded.
///
/// Only [`PathNormalization::normalize`] makes one, so that nobody forgets to: a policy on `/admin` means nothing for a path
/// that is still `/x/../admin`. Where paths are to stay as they are, [`PathNormalization::None`] says so. Borrows what was
/// normal already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalizedPath<'a> {
    text: Cow<'a, str>,
    /// Where the query begins.
    end: usize,
}

impl<'a> NormalizedPath<'a> {
    /// All of it: what is forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What policies on paths are compared with.
    pub fn without_query(&self) -> &str {
        self.text.get(..self.end).unwrap_or_default()
    }

    /// What follows the first question mark.
    pub fn query(&self) -> Option<&str> {
        self.text.get(self.end..)?.strip_prefix('?')
    }

    /// All of it. Borrowed if nothing had to change.
    pub fn into_text(self) -> Cow<'a, str> {
        self.text
    }
}

impl AsRef<str> for NormalizedPath<'_> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for NormalizedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for NormalizedPath<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for NormalizedPath<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Why a path is refused, with the status 400 and before any policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It has a fragment, which no client sends, and which applications disagree about.
    #[error("path has a fragment")]
    Fragment,
    /// It is neither `*` nor begins with a slash.
    #[error("path does not begin with a slash")]
    NotAbsolute,
    /// Normalised twice it is another path than normalised once, so the next hop would see another one than policies do.
    #[error("path has another spelling once it is normalised")]
    Unstable,
    /// It has an escaped zero.
    #[error("path has an escaped zero byte")]
    Zero,
}

impl PathNormalization {
    /// Normalises a path with its query, which stays as it is.
    ///
    /// A path in which there is nothing to do is looked at once, and costs no allocation. Reads what is escaped
    /// once: `%252F` becomes `%2F` in no mode. Does to every path what Envoy 1.40 was seen to do, which is not all there
    /// is to do to some: `/a/%2e%2e;/admin` becomes `/a/..;/admin`, and that at the next hop `/admin`.
    /// [`Semantics::Strict`] refuses these.
    ///
    /// # Errors
    ///
    /// In every mode, if the path has a fragment; in those that normalise, also if it cannot be, or strictly not by one
    /// go.
    ///
    /// ```
    /// use mesh_policy::{Semantics, waypoint::PathNormalization};
    ///
    /// let paths = ["//a/../admin", "/%61dmin", "/a%2Fb?x=%61"];
    /// let normalize = |path| PathNormalization::MergeSlashes.normalize(path, Semantics::Strict).unwrap();
    /// assert_eq!(paths.map(normalize), ["/admin", "/admin", "/a%2Fb?x=%61"]);
    /// assert_eq!(normalize("/a%2Fb?x=%61").without_query(), "/a%2Fb");
    /// ```
    pub fn normalize(self, path: &str, semantics: Semantics) -> Result<NormalizedPath<'_>, PathError> {
        // One pass finds both; a fragment behind the query is one as well.
        let end = path.bytes().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len());
        let (written, query) = path.split_at(end);
        if query.contains('#') {
            return Err(PathError::Fragment);
        }
        let as_it_is = NormalizedPath { text: Cow::Borrowed(path), end };
        if self == Self::None || path == "*" {
            return Ok(as_it_is);
        }
        if !path.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if is_normal(written, self != Self::Base) {
            return Ok(as_it_is);
        }
        let mut normal = self.respell(written)?;
        if normal == written {
            return Ok(as_it_is);
        }
        if semantics == Semantics::Strict && self.respell(&normal)? != normal {
            return Err(PathError::Unstable);
        }
        let end = normal.len();
        normal.push_str(query);
        Ok(NormalizedPath { text: Cow::Owned(normal), end })
    }

    /// Normalises a path without a query, whether or not there is anything to do.
    fn respell(self, written: &str) -> Result<String, PathError> {
        let mut normal = match self {
            Self::DecodeAndMergeSlashes => unescape_slashes(written),
            Self::Base | Self::MergeSlashes | Self::None => written.to_owned(),
        };
        normal = resolve_dot_segments(&escape(&without_dot_parameters(&normal))?);
        if self != Self::Base {
            normal = merge_slashes(&normal);
        }
        Ok(normal)
    }
}

/// Whether nothing of a path would change, for sure: most paths have neither escapes nor dots after a slash.
fn is_normal(path: &str, merges_slashes: bool) -> bool {
    let mut after_slash = false;
    path.bytes().all(|byte| {
        let stays = match byte {
            b'.' => !after_slash,
            b'/' => !(after_slash && merges_slashes),
            b'%' | b'\\' => false,
            _ => byte.is_ascii_graphic() && !needs_escape(byte),
        };
        after_slash = byte == b'/';
        stays
    })
}

/// `%2F` and `%5C`, in any case.
fn unescape_slashes(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let (byte, width) = match after.get(..2) {
            Some("2F" | "2f") => ('/', 2),
            Some("5C" | "5c") => ('\\', 2),
            _ => ('%', 0),
        };
        plain.push(byte);
        rest = after.get(width..).unwrap_or_default();
    }
    plain + rest
}

/// A segment such as `..;x` is one of `..` with a parameter.
fn without_dot_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Unescapes what needs no escape, escapes what needs one, and turns backslashes.
fn escape(path: &str) -> Result<String, PathError> {
    let mut plain = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.push('/'),
            b'%' => match escaped(bytes.clone()) {
                Some(0) => return Err(PathError::Zero),
                Some(byte) if is_unreserved(byte) => {
                    plain.push(char::from(byte));
                    bytes.nth(1);
                }
                // Stays as it is, with the case of its digits, or as little as there is of it.
                _ => plain.push('%'),
            },
            _ if byte.is_ascii_graphic() && !needs_escape(byte) => plain.push(char::from(byte)),
            _ => push_escaped(&mut plain, byte),
        }
    }
    Ok(plain)
}

/// Characters that are printable and have to be escaped nevertheless.
fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// The byte that the next two digits stand for.
fn escaped(mut digits: impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(digits.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

fn push_escaped(plain: &mut String, byte: u8) {
    plain.push('%');
    for digit in [byte >> 4, byte & 15] {
        plain.extend(char::from_digit(digit.into(), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn resolve_dot_segments(path: &str) -> String {
    let mut resolved = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => resolved.truncate(resolved.rfind('/').unwrap_or(0)),
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            resolved.push('/');
        }
    }
    resolved
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // What Envoy 1.40 forwards: policy#75 to policy#78, and part D 11.
    #[test]
    fn paths_are_spelled_as_envoy_spells_them() {
        for (path, base, merged, decoded) in [
            ("/a", "/a", "/a", "/a"),
            ("//admin", "//admin", "/admin", "/admin"),
            ("/a/../b", "/b", "/b", "/b"),
            ("/a/./b", "/a/b", "/a/b", "/a/b"),
            ("/a/..", "/", "/", "/"),
            ("/a/.", "/a/", "/a/", "/a/"),
            ("/..", "/", "/", "/"),
            ("/.", "/", "/", "/"),
            ("/../../x", "/x", "/x", "/x"),
            ("/a/%2e%2E/b", "/b", "/b", "/b"),
            ("/a/.%2e/b", "/b", "/b", "/b"),
            ("/%2e", "/", "/", "/"),
            ("/%61", "/a", "/a", "/a"),
            ("/%2Fadmin", "/%2Fadmin", "/%2Fadmin", "/admin"),
            ("/%2fa", "/%2fa", "/%2fa", "/a"),
            ("/%5Ca", "/%5Ca", "/%5Ca", "/a"),
            ("/a\\b", "/a/b", "/a/b", "/a/b"),
            ("/a%zz", "/a%zz", "/a%zz", "/a%zz"),
            ("/a%", "/a%", "/a%", "/a%"),
            ("/a%4", "/a%4", "/a%4", "/a%4"),
            ("/a%252Fb", "/a%252Fb", "/a%252Fb", "/a%252Fb"),
            (
                "/\"|<>^`{}",
                "/%22%7C%3C%3E%5E%60%7B%7D",
                "/%22%7C%3C%3E%5E%60%7B%7D",
                "/%22%7C%3C%3E%5E%60%7B%7D",
            ),
            ("/[]~!$&'()*+,;:@=-._", "/[]~!$&'()*+,;:@=-._", "/[]~!$&'()*+,;:@=-._", "/[]~!$&'()*+,;:@=-._"),
            ("/a?x=%61//..", "/a?x=%61//..", "/a?x=%61//..", "/a?x=%61//.."),
            ("/%c3%a9", "/%c3%a9", "/%c3%a9", "/%c3%a9"),
            ("/a//../b", "/a/b", "/a/b", "/a/b"),
            ("/a//b//", "/a//b//", "/a/b/", "/a/b/"),
            ("/a/b/..//c", "/a//c", "/a/c", "/a/c"),
            ("/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/b"),
            ("/a%5c..%5cb", "/a%5c..%5cb", "/a%5c..%5cb", "/b"),
            ("/a/%2e%2e%2fb", "/a/..%2fb", "/a/..%2fb", "/b"),
            ("/a/...", "/a/...", "/a/...", "/a/..."),
            ("/a;x/../b", "/b", "/b", "/b"),
            ("/%7E%7e%2D", "/~~-", "/~~-", "/~~-"),
            ("/%2F%2Fa//b", "/%2F%2Fa//b", "/%2F%2Fa/b", "/a/b"),
            ("/a%20b", "/a%20b", "/a%20b", "/a%20b"),
            ("/a/..;/b", "/b", "/b", "/b"),
            ("/a/.;x/b", "/a/b", "/a/b", "/a/b"),
            ("/a/..;?q", "/?q", "/?q", "/?q"),
            ("/a/..%3B/b", "/a/..%3B/b", "/a/..%3B/b", "/a/..%3B/b"),
            ("/a/%2e%2e;/b", "/a/..;/b", "/a/..;/b", "/a/..;/b"),
            ("/a/...;/b", "/a/...;/b", "/a/...;/b", "/a/...;/b"),
            ("/a/;x/../b", "/a/b", "/a/b", "/a/b"),
            ("/a/..;a\\b", "/", "/", "/"),
            ("/a/..;%2fb/c", "/c", "/c", "/b/c"),
            ("/a%2f..;%2fb", "/a%2f..;%2fb", "/a%2f..;%2fb", "/b"),
            (
                "/%41%5a%30%2d%2e%5f%7e%3b%2c%40",
                "/AZ0-._~%3b%2c%40",
                "/AZ0-._~%3b%2c%40",
                "/AZ0-._~%3b%2c%40",
            ),
        ] {
            for (mode, expected) in [
                (PathNormalization::None, path),
                (PathNormalization::Base, base),
                (PathNormalization::MergeSlashes, merged),
                (PathNormalization::DecodeAndMergeSlashes, decoded),
            ] {
                assert_eq!(
                    mode.normalize(path, Semantics::Istio).as_ref().map(NormalizedPath::as_str),
                    Ok(expected),
                    "{mode:?} {path}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_looks_normal_is(rest in "[a./;%2F5c\\\\|é -]{0,12}") {
            use PathNormalization::*;
            let path = format!("/{rest}");
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                let once = mode.normalize(&path, Semantics::Istio).map(|path| path.into_text().into_owned());
                prop_assert_eq!(&once, &mode.respell(&path));
                let Ok(once) = once else { continue };
                prop_assert!(once.starts_with('/'), "{}", once);
                // Strictly it is the same, or refused because it would go on changing.
                let again = mode.respell(&once);
                match mode.normalize(&path, Semantics::Strict) {
                    Ok(strict) => {
                        prop_assert!(strict == *once && again == Ok(once), "{}", strict);
                        prop_assert_eq!(strict.without_query(), strict.as_str());
                    }
                    Err(error) => prop_assert!(error == PathError::Unstable && again != Ok(once), "{}", error),
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_normalised_is_refused() {
        use PathNormalization::*;
        for semantics in [Semantics::Istio, Semantics::Strict] {
            let normalize = |mode: PathNormalization, path| mode.normalize(path, semantics);
            for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes] {
                assert_eq!(normalize(mode, "/a#b"), Err(PathError::Fragment));
                assert!(normalize(mode, "*").is_ok_and(|path| path == "*"));
            }
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                assert_eq!(normalize(mode, "/a%00b"), Err(PathError::Zero));
                assert_eq!(normalize(mode, "\\a"), Err(PathError::NotAbsolute));
                assert_eq!(normalize(mode, ""), Err(PathError::NotAbsolute));
            }
            assert!(normalize(Base, "/\u{e9}\u{7f}").is_ok_and(|path| path == "/%C3%A9%7F"));
        }
    }

    // Envoy passes them on, and whoever normalises them again is led elsewhere.
    #[test]
    fn strictly_a_path_that_goes_on_changing_is_refused() {
        for path in
            ["/items/%2e%2e;/admin", "/items/.%2e;/admin", "/items/%2e.;x/admin?q", "/items\\..;/admin"]
        {
            let strict = PathNormalization::Base.normalize(path, Semantics::Strict);
            assert_eq!(strict, Err(PathError::Unstable), "{path}");
        }
        // Written plainly, it is resolved at once.
        let plain = PathNormalization::Base.normalize("/items/..;/admin", Semantics::Strict);
        assert!(plain.is_ok_and(|path| path == "/admin"));
    }

    // policy#69
    #[test]
    fn a_query_begins_at_the_first_question_mark() {
        use PathNormalization::*;
        for (path, all, own) in [
            ("/a?b=/../c", "/a?b=/../c", "/a"),
            ("/x/../a?b?c", "/a?b?c", "/a"),
            ("/a", "/a", "/a"),
            ("/%3F", "/%3F", "/%3F"),
            ("?", "?", ""),
        ] {
            let mode = if path == "?" { None } else { Base };
            let normal = mode.normalize(path, Semantics::Strict).unwrap();
            assert_eq!((normal.as_str(), normal.without_query()), (all, own), "{path}");
            let whole = normal.query().map_or_else(|| own.to_owned(), |query| format!("{own}?{query}"));
            assert_eq!(whole, all);
        }
        for path in ["/a?b#c", "/a#b?c", "#"] {
            assert_eq!(None.normalize(path, Semantics::Istio), Err(PathError::Fragment), "{path}");
        }
    }
}
