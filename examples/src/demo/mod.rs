//! The demo: a mesh between two pods, made, used and measured on this machine alone.
//!
//! In network namespaces where they are possible (`namespaces`), otherwise in one process on loopback addresses
//! (`one_process`). Both fill a `Report`, which `page` shows.

mod applications;
mod error;
mod interrupt;
mod namespaces;
mod node;
mod one_process;
mod options;
mod page;
mod paint;
mod progress;
mod report;
mod socks5;
mod story;
mod tap;
mod tour;

use std::{
    env,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use crate::{lab, ztunnel};
use error::DemoError;
use options::{Options, Wish};
use paint::Paint;
use progress::Progress;
use report::Report;

/// Hidden first argument with which the demo runs itself as a node proxy.
const ZTUNNEL: &str = "__ztunnel";

/// Runs the demo with the arguments and the environment of this process. Call it first in `main`.
pub fn main() -> ExitCode {
    lab::exec_if_asked();
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == ZTUNNEL) {
        return ztunnel::main(None, env::vars_os());
    }
    let options = match Options::parse(arguments) {
        Ok(Wish::Run(options)) => options,
        Ok(Wish::Help) => return print(options::HELP),
        Err(error) => {
            eprintln!("demo: {error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let progress = Progress::new(Paint::new(!plain && io::stderr().is_terminal()));
    match run(&options, &progress) {
        Ok(report) => {
            let shown = if options.json {
                report.to_json()
            } else {
                page::render(&report, Paint::new(!plain && io::stdout().is_terminal()))
            };
            let printed = print(&shown);
            if report.is_as_promised() { printed } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("demo: {}", mesh_proxy::Report(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, progress: &Progress) -> Result<Report, DemoError> {
    // Before the first thread: each inherits it.
    interrupt::hold().map_err(DemoError::Signals)?;
    // So is this.
    let ground = if options.one_process { None } else { Some(namespaces::prepare()) };
    interrupt::obey().map_err(DemoError::Signals)?;
    let obstacle = match ground {
        None => None,
        Some(Err(error)) => Some(error),
        Some(Ok(ground)) => match namespaces::run(&ground, progress) {
            Err(error @ DemoError::Ground(_)) => {
                ground.raise_loopback()?;
                Some(error)
            }
            outcome => return outcome,
        },
    };
    one_process::run(obstacle.as_ref(), progress)
}

/// Prints to a reader who may have gone away.
fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("demo: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
