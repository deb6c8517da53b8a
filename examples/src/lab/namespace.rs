use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic,
    process::{self, Child, Command},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace without a name: it lives as long as this value and the sockets and processes made in it.
///
/// A keeper thread lives in it. It spawns the processes, because the kernel ends a process bound to its parent's life
/// when the *thread* that spawned it ends.
#[derive(Debug)]
pub struct Namespace {
    descriptor: OwnedFd,
    spawner: Option<mpsc::Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Namespace {
    /// Makes a namespace; `name` names its thread.
    ///
    /// # Errors
    ///
    /// If the process lacks the capabilities, see [`enter`](super::enter), or a namespace limit is reached.
    pub fn new(name: &str) -> io::Result<Self> {
        let (spawner, jobs) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::sync_channel(1);
        let keeper = thread::Builder::new().name(format!("lab-{name}")).spawn(move || {
            let namespace = make();
            let usable = namespace.is_ok();
            // The receiver waits below.
            let _ = ready.send(namespace);
            if usable {
                jobs.into_iter().for_each(|job| job());
            }
        })?;
        let descriptor = made.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Self { descriptor, spawner: Some(spawner), keeper: Some(keeper) })
    }

    /// Runs a closure on a thread inside the namespace and waits for it; sockets it makes stay inside for good.
    ///
    /// Costs a thread and a system call. A panic of the closure is passed on.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started or cannot enter the namespace.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> io::Result<R> {
        thread::scope(|scope| {
            let worker = thread::Builder::new().spawn_scoped(scope, || {
                move_into_link_name_space(self.descriptor.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            })?;
            worker.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        })
    }

    /// Spawns a process inside the namespace.
    pub(super) fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let (answer, spawned) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            // The receiver waits below.
            let _ = answer.send(command.spawn());
        });
        let spawner = self.spawner.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        spawner.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        spawned.recv().map_err(|_| io::ErrorKind::BrokenPipe)?
    }

    /// A path by which other programs can name the namespace, as `ip ... netns PATH`.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.descriptor.as_raw_fd())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The keeper ends with its queue.
        self.spawner.take();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn make() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}
