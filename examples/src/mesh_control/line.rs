//! Texts from outside, for logs.

use std::fmt::Display;

/// The beginning of a text, on one line.
pub(super) fn line(text: &impl Display) -> String {
    let text = text.to_string();
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = characters.by_ref().take(MAX).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

const MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_forge_a_line_or_fill_a_log() {
        assert_eq!(line(&"a\nINFO b\u{1b}[1m"), "a INFO b [1m");
        assert_eq!(line(&"x".repeat(10_000)).chars().count(), MAX + 1);
    }
}
