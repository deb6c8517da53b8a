use std::{
    io::{self, Write},
    time::Instant,
};

use super::paint::Paint;

/// Says on standard error what is being done, and how long it took.
#[derive(Debug)]
pub(super) struct Progress {
    paint: Paint,
    start: Instant,
}

impl Progress {
    pub(super) fn new(paint: Paint) -> Self {
        Self { paint, start: Instant::now() }
    }

    /// Does a step under a name.
    pub(super) fn step<R>(&self, name: &str, work: impl FnOnce() -> R) -> R {
        let mut terminal = io::stderr();
        // Progress is a courtesy: nothing depends on whether it can be written.
        if self.paint.is_enabled() {
            let _ = write!(terminal, "  {} {name} …", self.paint.accent("▸"));
            let _ = terminal.flush();
        }
        let result = work();
        let at = format!("{:5.2} s", self.start.elapsed().as_secs_f64());
        let _ = if self.paint.is_enabled() {
            writeln!(terminal, "\r\x1b[2K  {} {name}", self.paint.dim(at))
        } else {
            writeln!(terminal, "  {at}  {name}")
        };
        result
    }
}
