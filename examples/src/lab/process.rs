use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use super::namespace::Namespace;

/// A program on a host, with everything it wrote. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Output,
    readers: Vec<JoinHandle<()>>,
    /// The program dies with the thread that spawned it, so the host must outlive it.
    _namespace: Arc<Namespace>,
}

impl Process {
    pub(super) fn start(namespace: Arc<Namespace>, mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(command)?;
        let output = Output::default();
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(output.follow(pipe)?);
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(output.follow(pipe)?);
        }
        Ok(Self { child, output, readers, _namespace: namespace })
    }

    /// What it has written.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, with `SIGTERM`.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(kill_process(self.pid()?, Signal::TERM)?)
    }

    /// Interrupts it, with `SIGINT`.
    ///
    /// # Errors
    ///
    /// If it has ended already.
    pub fn interrupt(&self) -> io::Result<()> {
        Ok(kill_process(self.pid()?, Signal::INT)?)
    }

    /// Waits for its end and for the last of what it writes.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] if it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        // Becomes readable when the process ends.
        let descriptor = pidfd_open(self.pid()?, PidfdFlags::empty())?;
        let patience = Timespec::try_from(patience).map_err(|_| io::ErrorKind::InvalidInput)?;
        if poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let status = self.child.wait()?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(status)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn pid(&self) -> io::Result<Pid> {
        Ok(Pid::from_child(&self.child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that a program wrote on its standard output and standard error, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Output {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Waits until `choose` finds what it looks for in one of the lines, or returns `None` after `patience`.
    pub fn wait_for<R>(&self, patience: Duration, mut choose: impl FnMut(&str) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + patience;
        let mut seen = 0;
        let mut lines = self.lock();
        loop {
            if let Some(found) = lines.iter().skip(seen).find_map(|line| choose(line)) {
                return Some(found);
            }
            seen = lines.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.shared.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Adds a line.
    pub fn push(&self, line: String) {
        self.lock().push(line);
        self.shared.grown.notify_all();
    }

    fn follow(&self, pipe: impl Read + Send + 'static) -> io::Result<JoinHandle<()>> {
        let output = self.clone();
        thread::Builder::new().spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                output.push(line);
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_waited_for_and_kept() {
        let output = Output::default();
        let reader = output.follow(&b"one\ntwo 2\nthree\n"[..]).unwrap();
        let found =
            output.wait_for(Duration::from_secs(10), |line| line.strip_prefix("two ").map(str::to_owned));
        assert_eq!(found.as_deref(), Some("2"));
        reader.join().unwrap();
        assert_eq!(output.lines(), ["one", "two 2", "three"]);
    }

    #[test]
    fn what_never_comes_is_none() {
        let output = Output::default();
        assert_eq!(output.wait_for(Duration::ZERO, |line| Some(line.len())), None);
    }
}
