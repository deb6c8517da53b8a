use std::fmt::Display;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    enabled: bool,
}

impl Paint {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    /// Whether the output is for a terminal that wants colours.
    pub(super) fn is_enabled(self) -> bool {
        self.enabled
    }

    pub(super) fn bold(self, text: impl Display) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: impl Display) -> String {
        self.with("2", text)
    }

    pub(super) fn good(self, text: impl Display) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: impl Display) -> String {
        self.with("1;31", text)
    }

    pub(super) fn accent(self, text: impl Display) -> String {
        self.with("36", text)
    }

    fn with(self, code: &str, text: impl Display) -> String {
        if self.enabled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
