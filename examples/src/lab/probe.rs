//! Trying in a child process what cannot be undone.
//!
//! A process that got half-way, into a network namespace but not further, has lost its network without having gained
//! hosts. The child tries all steps and tells at which one it was stopped.

use std::{
    env, io, process,
    process::{Command, Stdio},
};

use nix::errno::Errno;

use super::enter::{EnterError, Step, enter_here};

/// The hidden first argument that makes this program the child.
pub(super) const ARGUMENT: &str = "__lab-probe";

/// Asks a child of this program whether the steps succeed.
pub(super) fn probe() -> Result<(), EnterError> {
    let lost = |source| EnterError::Probe { source };
    let program = env::current_exe().map_err(lost)?;
    let child = Command::new(program).arg(ARGUMENT).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let child = child.map_err(lost)?;
    if child.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&child.stdout);
    match parse(&told) {
        Some((step, errno)) => Err(EnterError::refused(step, errno)),
        None => Err(lost(io::Error::other(format!("the child ended with {}", child.status)))),
    }
}

/// What the child does: it tries, tells, and ends.
pub(super) fn answer() -> ! {
    match enter_here() {
        Ok(_) => process::exit(0),
        Err((step, errno)) => {
            println!("{} {}", step.name(), errno as i32);
            process::exit(1)
        }
    }
}

fn parse(told: &str) -> Option<(Step, Errno)> {
    let (step, errno) = told.trim().split_once(' ')?;
    let step = Step::ALL.into_iter().find(|candidate| candidate.name() == step)?;
    Some((step, Errno::from_raw(errno.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_told_and_understood() {
        for step in Step::ALL {
            let told = format!("{} {}\n", step.name(), Errno::EPERM as i32);
            assert_eq!(parse(&told), Some((step, Errno::EPERM)));
        }
    }

    #[test]
    fn anything_else_is_not_understood() {
        for told in ["", "mount", "mount x", "fly 1"] {
            assert_eq!(parse(told), None, "{told}");
        }
    }
}
