//! Paths with operators for segments.

use std::fmt;

/// A path in which `{*}` stands for one segment that is not empty, and `{**}` for any number of them.
///
/// An operator takes the characters of RFC 3986 `pchar` and `*`; `{**}` takes slashes too. So neither takes
/// brackets, nor what is not ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Segment,
    Segments,
}

impl PathTemplate {
    /// Whether a text is meant to be one.
    pub(crate) fn is_one(text: &str) -> bool {
        text.contains("{*}") || text.contains("{**}")
    }

    /// Nothing if it breaks the rules: operators are whole segments, `{**}` is the last of them, and other
    /// segments are literal and not empty.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let path = text.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut pieces = Vec::new();
        let mut literal = String::from("/");
        for (index, segment) in path.split('/').enumerate() {
            if index > 0 {
                literal.push('/');
            }
            let operator = match segment {
                "{*}" => Piece::Segment,
                "{**}" => Piece::Segments,
                _ if !segment.is_empty() && segment.bytes().all(is_pchar) => {
                    literal.push_str(segment);
                    continue;
                }
                _ => return None,
            };
            if pieces.contains(&Piece::Segments) {
                return None;
            }
            pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            pieces.push(operator);
        }
        if text.len() > 1 && text.ends_with('/') {
            literal.push('/');
        }
        pieces.push(Piece::Literal(literal.into()));
        Some(Self { text: text.into(), pieces: pieces.into() })
    }

    /// What every path that matches begins with.
    pub(crate) fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// In one pass: what follows `{*}` begins with a slash, which it does not take, and what follows `{**}` is
    /// the end.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        let mut pieces = self.pieces.iter();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Literal(literal) => match rest.strip_prefix(&**literal) {
                    Some(after) => rest = after,
                    None => return false,
                },
                Piece::Segment => {
                    let end = rest.bytes().position(|byte| !is_taken(byte)).unwrap_or(rest.len());
                    if end == 0 {
                        return false;
                    }
                    rest = rest.get(end..).unwrap_or_default();
                }
                Piece::Segments => {
                    let Some(Piece::Literal(end)) = pieces.next() else { return false };
                    let Some(taken) = rest.strip_suffix(&**end) else { return false };
                    return taken.bytes().all(|byte| byte == b'/' || is_taken(byte));
                }
            }
        }
        rest.is_empty()
    }
}

/// What literal segments consist of.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// What an operator takes.
fn is_taken(byte: u8) -> bool {
    is_pchar(byte) || byte == b'*'
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // policy#71, policy#72, policy#73, and part D 6
    #[test]
    fn operators_take_whole_segments() {
        for (template, path, expected) in [
            ("/foo/{*}", "/foo/a", true),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{*}", "/foo/a/b", false),
            ("/foo/{*}", "/foo/a/", false),
            ("/foo/{*}/", "/foo/a/", true),
            ("/foo/{*}", "/foo/*", true),
            ("/foo/{*}", "/foo/a%2Fb", true),
            ("/foo/{*}", "/foo/a;v=1", true),
            ("/foo/{*}", "/foo/%22%7C", true),
            ("/foo/{*}", "/foo/[a]", false),
            ("/foo/{**}/", "/foo//", true),
            ("/foo/{**}/", "/foo/a/b/", true),
            ("/foo/{**}/", "/foo/a/", true),
            ("/foo/{**}/", "/foo/", false),
            ("/foo/{**}/", "/foo/a", false),
            ("/foo/{**}/", "/foo/bar/baz.txt", false),
            ("/foo/{**}", "/foo/", true),
            ("/foo/{**}", "/foo", false),
            ("/foo/{**}", "/foo/a/b", true),
            ("/foo/{**}", "/foo/a[b", false),
            ("/{**}/end", "//end", true),
            ("/{**}/end", "/end", false),
            ("/{**}/end", "/a/b/end", true),
            ("/{**}/end", "/a/end/b", false),
            ("/foo/{*}/bar/{**}", "/foo/x/bar/", true),
            ("/foo/{*}/bar/{**}", "/foo/x/bar/y", true),
            ("/foo/{*}/bar/{**}", "/foo//bar/y", false),
            ("/{*}/{*}", "/a/b", true),
            ("/{*}/{*}", "/a", false),
        ] {
            assert_eq!(PathTemplate::new(template).unwrap().matches(path), expected, "{template} {path}");
        }
    }

    // policy#74
    #[test]
    fn breaking_the_rules_is_refused() {
        for template in [
            "/{**}/a/{*}",
            "/{**}/{**}",
            "/foo/{*}.txt",
            "/foo/a{*}",
            "/*/x/{*}",
            "/a//{*}",
            "//a/{*}",
            "/a/{*}//",
            "/{x}/{*}",
            "/a b/{*}",
            "/\u{e9}/{*}",
            "{*}",
        ] {
            assert_eq!(PathTemplate::new(template), None, "{template}");
        }
    }

    #[test]
    fn the_prefix_is_what_precedes_the_first_operator() {
        assert_eq!(PathTemplate::new("/foo/{*}/bar").unwrap().prefix(), "/foo/");
        assert_eq!(PathTemplate::new("/{**}").unwrap().prefix(), "/");
    }
}
