//! Ctrl-C and SIGTERM.
//!
//! There is little to clean up: namespaces, files and proxies belong to this process and end with it. What remains is to
//! leave the terminal tidy and to end with the usual exit code.

use std::{io, process, thread};

use nix::sys::signal::{SigSet, Signal};

/// Keeps the signals waiting; call it before any thread is started.
pub(super) fn hold() -> io::Result<()> {
    Ok(signals().thread_block()?)
}

/// Ends the process at the first signal, also at one that came since [`hold`].
pub(super) fn obey() -> io::Result<()> {
    thread::Builder::new().name("signals".to_owned()).spawn(|| {
        let Ok(signal) = signals().wait() else { return };
        eprintln!("\ndemo: ended by {signal}; nothing is left behind");
        process::exit(128 + signal as i32)
    })?;
    Ok(())
}

fn signals() -> SigSet {
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM])
}
