//! This program as a node proxy: ours, or another that it becomes.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::process::CommandExt,
    process::{self, ExitCode},
};

use rustix::stdio::{dup2_stderr, dup2_stdout};

/// Environment variable with the file for what the proxy writes. A pipe would make the harness pay for reading it.
pub(super) const LOG: &str = "E2E_LOG";
/// Environment variable with the program to become; without it, this one is the proxy.
pub(super) const PROGRAM: &str = "E2E_PROGRAM";

/// Runs the proxy.
pub(super) fn main(mut environment: BTreeMap<OsString, OsString>) -> ExitCode {
    if let Some(path) = environment.remove(OsStr::new(LOG))
        && let Err(error) = write_to(&path)
    {
        eprintln!("e2e: cannot write to {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let Some(program) = environment.remove(OsStr::new(PROGRAM)) else {
        return examples::ztunnel::main([], environment);
    };
    let error = process::Command::new(&program).env_clear().envs(environment).exec();
    eprintln!("e2e: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}

fn write_to(path: &OsStr) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    dup2_stdout(&file)?;
    Ok(dup2_stderr(&file)?)
}
