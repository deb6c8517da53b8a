use std::{
    fmt::{self, Write},
    str::FromStr,
    time::SystemTime,
};

use thiserror::Error;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use super::fields::{JsonFields, Message, OneLine, PlainFields, write_json_string};

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Columns separated by tabs.
    #[default]
    Plain,
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        match text {
            "json" => Ok(Self::Json),
            "plain" => Ok(Self::Plain),
            _ => Err(LogFormatError),
        }
    }
}

/// A text names no [`LogFormat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("neither json nor plain")]
pub struct LogFormatError;

/// Writes events and the fields of spans in a [`LogFormat`].
///
/// Give it to a `tracing_subscriber::fmt::Layer` both as event format and as format of fields, since a line contains
/// the fields of open spans.
#[derive(Clone, Copy, Debug)]
pub struct LogFormatter {
    format: LogFormat,
    now: fn() -> OffsetDateTime,
}

impl LogFormatter {
    /// Writes lines in a format.
    pub fn new(format: LogFormat) -> Self {
        Self { format, now: || SystemTime::now().into() }
    }

    #[cfg(test)]
    pub(super) fn at(format: LogFormat, now: fn() -> OffsetDateTime) -> Self {
        Self { format, now }
    }

    /// The time in UTC, to the microsecond.
    fn time(&self) -> String {
        const FORMAT: &[BorrowedFormatItem<'_>] =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
        // A year that does not fit the format is a broken clock, and the line matters more.
        (self.now)().format(FORMAT).unwrap_or_default()
    }

    fn write_plain<S, N>(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
        message: &str,
    ) -> fmt::Result
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let metadata = event.metadata();
        write!(writer, "{}\t{}\t{}", self.time(), lower_case(*metadata.level()), metadata.target())?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(writer, ":{}", span.name())?;
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, "{{{fields}}}")?;
            }
        }
        writer.write_char('\t')?;
        OneLine(&mut writer).write_str(message)?;
        writer.write_char('\t')?;
        let mut fields = PlainFields::new(&mut writer, false);
        event.record(&mut fields);
        fields.finish()?;
        writeln!(writer)
    }

    fn write_json<S, N>(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
        message: &str,
    ) -> fmt::Result
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let metadata = event.metadata();
        write!(writer, r#"{{"level":"{}","time":"{}","scope":"#, lower_case(*metadata.level()), self.time())?;
        write_json_string(&mut writer, format_args!("{}", metadata.target()))?;
        writer.write_str(r#","message":"#)?;
        write_json_string(&mut writer, format_args!("{message}"))?;
        let mut fields = JsonFields::new(&mut writer, true);
        event.record(&mut fields);
        fields.finish()?;
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            writer.write_char(',')?;
            write_json_string(&mut writer, format_args!("{}", span.name()))?;
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.as_str());
            write!(writer, ":{{{fields}}}")?;
        }
        writeln!(writer, "}}")
    }
}

impl<S, N> FormatEvent<S, N> for LogFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = Message::default();
        event.record(&mut message);
        match self.format {
            LogFormat::Json => self.write_json(context, writer, event, &message.0),
            LogFormat::Plain => self.write_plain(context, writer, event, &message.0),
        }
    }
}

impl<'w> FormatFields<'w> for LogFormatter {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        self.append(writer, false, fields)
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        let separate = !current.fields.is_empty();
        self.append(current.as_writer(), separate, fields)
    }
}

impl LogFormatter {
    fn append<R: RecordFields>(&self, mut writer: Writer<'_>, separate: bool, fields: R) -> fmt::Result {
        match self.format {
            LogFormat::Json => {
                let mut visitor = JsonFields::new(&mut writer, separate);
                fields.record(&mut visitor);
                visitor.finish()
            }
            LogFormat::Plain => {
                let mut visitor = PlainFields::new(&mut writer, separate);
                fields.record(&mut visitor);
                visitor.finish()
            }
        }
    }
}

fn lower_case(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
