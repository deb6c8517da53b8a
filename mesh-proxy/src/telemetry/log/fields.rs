use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::fmt::format::Writer;

/// The field that `tracing` gives the words of an event.
pub(super) const MESSAGE: &str = "message";

/// Collects the words of an event.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE {
            self.0 = format!("{value:?}");
        }
    }
}

/// Writes all fields but the message as `name=value`, separated by spaces; texts are quoted.
#[derive(Debug)]
pub(super) struct PlainFields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    separate: bool,
    result: fmt::Result,
}

impl<'a, 'w> PlainFields<'a, 'w> {
    /// Continues after other fields if `separate`.
    pub(super) fn new(writer: &'a mut Writer<'w>, separate: bool) -> Self {
        Self { writer, separate, result: Ok(()) }
    }

    pub(super) fn finish(self) -> fmt::Result {
        self.result
    }

    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if field.name() == MESSAGE || self.result.is_err() {
            return;
        }
        let separator = if self.separate { " " } else { "" };
        self.separate = true;
        // A value may span lines, a log entry must not.
        self.result = write!(self.writer, "{separator}{}=", field.name())
            .and_then(|()| write!(OneLine(self.writer), "{value}"));
    }
}

impl Visit for PlainFields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, format_args!("{value:?}"));
    }
}

/// Escapes what would end a line or change a terminal's state.
pub(super) struct OneLine<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.chars().next_back() {
                Some(last) if last.is_control() => {
                    let visible = part.len() - last.len_utf8();
                    self.0.write_str(part.get(..visible).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Writes all fields but the message as members of a JSON object; numbers and booleans stay what they are.
#[derive(Debug)]
pub(super) struct JsonFields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    separate: bool,
    result: fmt::Result,
}

impl<'a, 'w> JsonFields<'a, 'w> {
    /// Continues after other members if `separate`.
    pub(super) fn new(writer: &'a mut Writer<'w>, separate: bool) -> Self {
        Self { writer, separate, result: Ok(()) }
    }

    pub(super) fn finish(self) -> fmt::Result {
        self.result
    }

    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'w>) -> fmt::Result) {
        if field.name() == MESSAGE || self.result.is_err() {
            return;
        }
        let separator = if self.separate { "," } else { "" };
        self.separate = true;
        self.result = self
            .writer
            .write_str(separator)
            .and_then(|()| write_json_string(self.writer, format_args!("{}", field.name())))
            .and_then(|()| self.writer.write_char(':'))
            .and_then(|()| value(self.writer));
    }
}

impl Visit for JsonFields<'_, '_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no way to write a number that is none.
        if value.is_finite() {
            self.write(field, |writer| write!(writer, "{value}"));
        } else {
            self.write(field, |writer| writer.write_str("null"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |writer| write_json_string(writer, format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, |writer| write_json_string(writer, format_args!("{value:?}")));
    }
}

/// Writes a JSON string (RFC 8259 §7).
pub(super) fn write_json_string(writer: &mut Writer<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writer.write_char('"')?;
    JsonEscaped(writer).write_fmt(text)?;
    writer.write_char('"')
}

struct JsonEscaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for JsonEscaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '"' | '\\' => write!(self.0, "\\{char}")?,
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                control if control < ' ' => write!(self.0, "\\u{:04x}", u32::from(control))?,
                _ => self.0.write_char(char)?,
            }
        }
        Ok(())
    }
}
