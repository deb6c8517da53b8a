//! Answers who may reach what, and why, from a folder of manifests.

mod batch;
mod manifests;
mod options;
mod query;
mod reach;
mod simulate;
mod world;

use std::{
    fmt::Display,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use options::{HELP, Job, Options, Wish};

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Wish::Help) => return finish(write!(io::stdout(), "{HELP}").map(|()| Outcome::Fine)),
        Ok(Wish::Run(options)) => options,
        Err(error) => return usage(&error),
    };
    let world = match manifests::load(&options) {
        Ok(world) => world,
        Err(error) => return bad(&error),
    };
    let output = &mut BufWriter::new(io::stdout().lock());
    let done = match &options.job {
        Job::Batch => batch::run(&world, &options, io::stdin().lock(), output),
        Job::Lint => query::list(&world, &options, output),
        Job::Matrix(request) => match query::matrix(&world, &options, request, output) {
            Err(query::QueryError::Output(error)) => Err(error),
            Err(error) => return bad(&error),
            Ok(done) => Ok(done),
        },
        Job::Simulate(path) => match simulate::run(&world, &options, path, io::stdin().lock(), output) {
            Err(simulate::SimulateError::Output(error)) => Err(error),
            Err(error) => return bad(&error),
            Ok(done) => Ok(done),
        },
        Job::Query(query) => match query::answer(&world, &options, query, output) {
            Err(query::QueryError::Output(error)) => Err(error),
            Err(error) => return bad(&error),
            Ok(done) => Ok(done),
        },
    };
    finish(done.and_then(|outcome| output.flush().map(|()| outcome)))
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Allowed, clean, or every line answered: 0.
    Fine,
    /// Denied, or something found: 1.
    Found,
    /// Some input made no sense: 2.
    BadInput,
}

fn finish(done: io::Result<Outcome>) -> ExitCode {
    match done {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(1),
        Ok(Outcome::BadInput) => ExitCode::from(2),
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => bad(&error),
    }
}

fn usage(error: &dyn Display) -> ExitCode {
    eprintln!("explain: {error}\n\n{HELP}");
    ExitCode::from(2)
}

fn bad(error: &dyn Display) -> ExitCode {
    eprintln!("explain: {error}");
    ExitCode::from(2)
}
