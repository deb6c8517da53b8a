//! Facts in, decisions out, a line of JSON each.

mod answer;
mod line;
mod policies;

use std::{
    collections::HashMap,
    io::{self, BufRead, Read, Write},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{Outcome, options::Options, world::World};
use line::Line;
use policies::{Source, Used};

/// Answers each line. A line that makes no sense gets a line that says why, and the others are answered.
pub(super) fn run(
    world: &World,
    options: &Options,
    mut input: impl BufRead,
    output: &mut impl Write,
) -> io::Result<Outcome> {
    let mut batch = Batch { world, options, used: HashMap::new() };
    let mut outcome = Outcome::Fine;
    let mut bytes = Vec::new();
    for number in 1_usize.. {
        bytes.clear();
        let mut limited = input.by_ref().take(MOST_BYTES);
        if limited.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let whole = bytes.ends_with(b"\n") || limited.limit() > 0;
        if !whole {
            skip_line(&mut input)?;
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let answer = if whole {
            batch.answer(text)
        } else {
            Err(Fault::new(format!("the line is longer than {MOST_BYTES} bytes")))
        };
        let mut shown = answer.unwrap_or_else(|fault| {
            outcome = Outcome::BadInput;
            fault.into_value(text)
        });
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("line".into(), number.into());
        }
        writeln!(output, "{shown}")?;
        // Whoever waits for the answer before the next question gets it.
        output.flush()?;
    }
    Ok(outcome)
}

/// Reads past the end of the line.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (used, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        input.consume(used);
        if done {
            return Ok(());
        }
    }
}

struct Batch<'a> {
    world: &'a World,
    options: &'a Options,
    /// What was compiled for lines before: most lines of a batch have the policies of another.
    used: HashMap<Source, Arc<Used>>,
}

impl Batch<'_> {
    fn answer(&mut self, text: &str) -> Result<Value, Fault> {
        // serde would read the fields of a list by their order.
        if !text.starts_with('{') {
            return Err(Fault::new("the line is not a JSON object"));
        }
        // Unlike a text of YAML, JSON may hold a name twice, and which was meant is unknown; serde refuses it for
        // all names that are known here.
        let line: Line = serde_json::from_str(text).map_err(|error| Fault::new(error.to_string()))?;
        let id = line.id.clone();
        let semantics = line.semantics()?.unwrap_or(self.options.semantics);
        let fail_closed = line.fail_closed.unwrap_or(self.options.fail_closed);
        let source = Source::new(&line, semantics, fail_closed)?;
        let used = match self.used.get(&source) {
            Some(used) => Arc::clone(used),
            None => {
                if self.used.len() >= MOST_SETS {
                    self.used.clear();
                }
                let used = Arc::new(Used::new(self.world, &source, &line)?);
                self.used.insert(source, Arc::clone(&used));
                used
            }
        };
        let mut answer = answer::decide(self.world, &used, &line)?;
        if let Some(fields) = answer.as_object_mut() {
            if let Some(id) = id {
                fields.insert("id".into(), id);
            }
            if !used.problems.is_empty() {
                fields.insert("problems".into(), used.problems.clone().into());
            }
            if !used.stand_ins.is_empty() {
                fields.insert("standIns".into(), used.stand_ins.clone().into());
            }
        }
        Ok(answer)
    }
}

/// Why a line is not answered.
#[derive(Debug)]
struct Fault {
    error: String,
    /// What is wrong with policies, for a machine.
    problems: Vec<Value>,
}

impl Fault {
    fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), problems: Vec::new() }
    }

    fn into_value(self, text: &str) -> Value {
        // The identifier helps to find the line, whatever else is wrong with it.
        let id = serde_json::from_str::<Value>(text).ok().and_then(|value| value.get("id").cloned());
        let mut value = json!({ "verdict": "error", "error": self.error });
        if let Some(fields) = value.as_object_mut() {
            if let Some(id) = id {
                fields.insert("id".into(), id);
            }
            if !self.problems.is_empty() {
                fields.insert("problems".into(), self.problems.into());
            }
        }
        value
    }
}

/// More than any set of policies that is sent with facts takes.
const MOST_BYTES: u64 = 64 << 20;
/// How many sets are kept compiled.
const MOST_SETS: usize = 64;
