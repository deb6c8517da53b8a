use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::{CommandExt, parent_id},
    process::{self, Command},
};

use nix::sys::signal::SigSet;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::probe;

/// The hidden first argument: `<this program> __lab-exec <parent> <program> <arguments…>`.
const ARGUMENT: &str = "__lab-exec";

/// Becomes another program if a [`Host`](super::Host) started this one for that, or tries namespaces if
/// [`enter`](super::enter) did; otherwise returns at once.
///
/// Call it first in `main`. The detour exists because only the new process itself can ask the kernel to be killed when
/// its parent dies, and asking between fork and exec would need unsafe code.
pub fn exec_if_asked() {
    let mut arguments = env::args_os().skip(1);
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some(ARGUMENT) => {}
        Some(probe::ARGUMENT) => probe::answer(),
        _ => return,
    }
    let parent = arguments.next().and_then(|parent| parent.to_str()?.parse::<u32>().ok());
    let (Some(parent), Some(program)) = (parent, arguments.next()) else {
        eprintln!("{ARGUMENT}: for internal use");
        process::exit(2);
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    let error = become_program(parent, &mut command);
    eprintln!("cannot run {}: {error}", program.display());
    process::exit(127);
}

/// A command that runs `program` so that it dies with the thread that spawns it.
pub(super) fn dying_with_parent(program: &OsStr) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg(ARGUMENT).arg(process::id().to_string()).arg(program);
    // A Ctrl-C at the terminal is for the parent alone, which then ends its children in order.
    command.process_group(0);
    Ok(command)
}

fn become_program(parent: u32, command: &mut Command) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // The parent may have died before the line above.
    if parent_id() != parent {
        process::exit(0);
    }
    // A parent that waits for its signals on one thread blocks them on all, and blocked signals are inherited.
    if let Err(errno) = SigSet::all().thread_unblock() {
        return errno.into();
    }
    command.exec()
}
