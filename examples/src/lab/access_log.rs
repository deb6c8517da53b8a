use std::str::Chars;

/// One line of a proxy's access log in the plain format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessRecord {
    level: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl AccessRecord {
    /// Reads a line; anything but an access event is `None`.
    pub fn parse(line: &str) -> Option<Self> {
        let [_time, level, "access", message, fields] = *line.split('\t').collect::<Vec<_>>() else {
            return None;
        };
        Some(Self { level: level.to_owned(), message: message.to_owned(), fields: parse_fields(fields)? })
    }

    /// How serious it is: `info`, `warn`, `error` or `debug`.
    pub fn level(&self) -> &str {
        &self.level
    }

    /// What happened, such as `connection complete`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All fields, in their order.
    pub fn fields(&self) -> &[(String, String)] {
        &self.fields
    }
}

fn parse_fields(text: &str) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => parse_quoted(quoted)?,
            None => {
                let (value, after) = after.split_once(' ').unwrap_or((after, ""));
                (value.to_owned(), after)
            }
        };
        fields.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Some(fields)
}

/// Reads to the closing quote; returns what follows it as well.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters: Chars<'_> = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_and_without_quotes() {
        let line = "2026-01-01T00:00:00.000000Z\terror\taccess\tconnection complete\tsrc.addr=192.0.2.10:5 \
                    src.workload=\"client\" bytes_sent=11 error=\"http status: 401 \\\"x\\\"\"";
        let record = AccessRecord::parse(line).unwrap();
        assert_eq!((record.level(), record.message()), ("error", "connection complete"));
        assert_eq!(record.field("src.addr"), Some("192.0.2.10:5"));
        assert_eq!(record.field("src.workload"), Some("client"));
        assert_eq!(record.field("bytes_sent"), Some("11"));
        assert_eq!(record.field("error"), Some("http status: 401 \"x\""));
        assert_eq!(record.field("dst.addr"), None);
    }

    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "2026-01-01T00:00:00Z\tinfo\tproxy\tready\t",
            "2026-01-01T00:00:00Z\tinfo\taccess\tx\ty=\"cut",
        ] {
            assert_eq!(AccessRecord::parse(line), None, "{line}");
        }
    }
}
