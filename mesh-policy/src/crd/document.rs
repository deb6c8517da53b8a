//! The documents of a text.

use serde::Deserialize;
use serde_yaml_ng::Value;

/// One document of a text, or why it is none.
pub(super) struct Document {
    /// The line it starts on or, if it cannot be read, that of the error.
    pub(super) line: usize,
    pub(super) content: Result<Value, String>,
}

/// Every document of a text that holds one. A text that starts like a JSON object is read as JSON.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('{').then(|| json(text)).flatten();
    json.unwrap_or_else(|| yaml(text))
}

/// Nothing if the text is not JSON; YAML in braces starts alike.
fn json(text: &str) -> Option<Vec<Document>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    // Counted on from the last value: there may be many.
    let (mut start, mut line) = (0, 1);
    while let Some(value) = values.next() {
        let content = value.ok()?;
        let end = values.byte_offset();
        let read = text.get(start..end).unwrap_or_default();
        let (space, own) = read.split_at(read.len() - read.trim_start().len());
        line += lines_in(space);
        documents.push(Document { line, content: Ok(content) });
        line += lines_in(own);
        start = end;
    }
    Some(documents)
}

fn lines_in(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

/// Cuts a text of YAML documents at the marks between them and at their end, which YAML allows nowhere else (YAML 1.2
/// §9.1.2), so that a document that cannot be read does not hide those behind it. Directives stay with their document; a
/// part may hold no document. [`read`](super::read) does it by itself: this is for the other objects of the same text.
pub fn cut(text: &str) -> impl Iterator<Item = &str> {
    parts(text).into_iter().map(|part| part.text)
}

fn yaml(text: &str) -> Vec<Document> {
    parts(text).into_iter().filter_map(Part::read).collect()
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    // Where the part that is being read starts, in lines and bytes.
    let (mut line, mut start) = (1, 0);
    let mut at = 0;
    for (index, content) in text.split_inclusive('\n').enumerate() {
        let (before, after) = (at, at + content.len());
        at = after;
        let ends = if is_mark(content, "...") {
            // What follows needs no mark of its own.
            Some((before, index + 2, after))
        } else if is_mark(content, "---") && !is_directives(text.get(start..before).unwrap_or_default()) {
            Some((before, index + 1, before))
        } else {
            None
        };
        if let Some((end, next_line, next)) = ends {
            parts.extend(text.get(start..end).map(|text| Part { line, text }));
            (line, start) = (next_line, next);
        }
    }
    parts.extend(text.get(start..).map(|text| Part { line, text }));
    parts
}

fn is_mark(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether nothing but directives and comments came so far: they belong to the document that follows.
fn is_directives(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).peekable();
    lines.peek().is_some() && lines.all(|line| line.starts_with('%'))
}

/// What is between two marks, and the line it starts on.
struct Part<'a> {
    line: usize,
    text: &'a str,
}

impl Part<'_> {
    fn read(self) -> Option<Document> {
        match serde_yaml_ng::Deserializer::from_str(self.text).next().map(Value::deserialize) {
            None | Some(Ok(Value::Null)) => None,
            Some(Ok(mut value)) => {
                let content = value.apply_merge().map(|()| value).map_err(|error| error.to_string());
                let blank =
                    self.text.lines().take_while(|line| line.trim().is_empty() || line.starts_with('#'));
                Some(Document { line: self.line + blank.count(), content })
            }
            Some(Err(error)) => {
                let line = error.location().map_or(1, |location| location.line());
                Some(Document {
                    line: self.line + line.max(1) - 1,
                    content: Err(without_place(&error.to_string())),
                })
            }
        }
    }
}

/// The place that the parser names counts from the start of the part.
fn without_place(error: &str) -> String {
    error.split_once(" at line ").map_or(error, |(problem, _)| problem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, bool)> {
        documents(text).iter().map(|document| (document.line, document.content.is_ok())).collect()
    }

    #[test]
    fn finds_every_document_and_its_line() {
        assert_eq!(lines(""), []);
        assert_eq!(lines("# nothing\n---\n---\n\n"), []);
        assert_eq!(lines("a: 1\n---\nb: 2\n"), [(1, true), (2, true)]);
        assert_eq!(lines("---\n# c\na: 1\n--- {b: 2}\n...\n"), [(1, true), (4, true)]);
        assert_eq!(lines("%YAML 1.2\n---\na: 1\n"), [(1, true)]);
        assert_eq!(lines("a: 1\n...\nb: 2\n...\n---\nc: 3\n"), [(1, true), (3, true), (5, true)]);
        assert_eq!(lines("text: |\n  --- not a mark\n  ---\nb: 1\n"), [(1, true)]);
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        assert_eq!(lines("a: 1\n---\nb: [\n---\nc: 3\n"), [(1, true), (4, false), (4, true)]);
        assert_eq!(lines("a: 1\na: 2\n"), [(1, false)]);
    }

    #[test]
    fn parts_are_the_text_without_the_ends() {
        let parts = |text| cut(text).collect::<Vec<_>>();
        assert_eq!(parts("a: 1\n---\nb: [\n--- {c: 3}"), ["a: 1\n", "---\nb: [\n", "--- {c: 3}"]);
        assert_eq!(parts("%YAML 1.2\n---\na: 1\n...\nb: 2\n"), ["%YAML 1.2\n---\na: 1\n", "b: 2\n"]);
    }

    #[test]
    fn reads_json_with_tabs_and_yaml_in_braces() {
        assert_eq!(lines("{\n\t\"a\": 1\n}\n\n{\"b\": 2}"), [(1, true), (5, true)]);
        assert_eq!(lines("{a: 1}\n---\n{b: 2}\n"), [(1, true), (2, true)]);
        assert_eq!(lines("{\"a\": 1, \"a\": 2}"), [(1, false)]);
    }

    #[test]
    fn many_values_are_read_in_one_pass() {
        let documents = documents(&"{}\n".repeat(400_000));
        assert_eq!(documents.last().map(|document| document.line), Some(400_000));
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (name, last) in ("bcdefghi".chars()).zip("abcdefgh".chars()) {
            text += &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 9].join(", "));
        }
        assert_eq!(documents(&text).iter().filter(|document| document.content.is_ok()).count(), 0);
    }
}
