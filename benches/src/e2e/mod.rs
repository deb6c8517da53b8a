//! The end-to-end harness: proxies as they are deployed, on hosts that are network namespaces, under load.
//!
//! A `Contender` is what carries the connections: nothing, a plain relay, a node proxy. A `Bed` is
//! two hosts with a contender between their applications. A `Row` is one kind of load. The run measures
//! every row on every bed in interleaved rounds, so that a slow minute of the machine falls on all of them, and the
//! report shows medians with their spread.

mod bed;
mod contender;
mod hop;
mod machine;
mod negotiated;
mod options;
mod proxy;
mod relay;
mod report;
mod row;
mod run;
mod sample;
mod summary;
mod usage;

use std::{ffi::OsString, process::ExitCode};

use examples::lab::{self, Envoy};

use contender::Contender;
use options::{Command, Options};

/// Runs the program with these arguments (without its name) and environment variables.
///
/// Call it first in `main`: it enters namespaces, which a process with threads cannot.
pub fn main(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    lab::exec_if_asked();
    match Options::parse(arguments) {
        Ok(Command::Help) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Measure(options)) => measure(options, environment),
        Ok(Command::Proxy) => proxy::main(environment.into_iter().collect()),
        Ok(Command::Relay { workers }) => relay::main(workers),
        Err(error) => {
            eprintln!("e2e: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(mut options: Options, environment: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    if options.envoy {
        let Some(program) = Envoy::find(environment) else {
            eprintln!("e2e: there is no Envoy; .ci/install brings it, or MESH_ENVOY names it");
            return ExitCode::FAILURE;
        };
        options.contenders.push(Contender::Envoy { program });
    }
    machine::raise_file_limit();
    let workspace = match lab::enter() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("e2e: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run::run(&workspace, &options) {
        Ok(outcome) => {
            let text = if options.json { report::json(&outcome) } else { report::table(&outcome) };
            println!("{text}");
            if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("e2e: {}", report::chain(&error));
            ExitCode::FAILURE
        }
    }
}
