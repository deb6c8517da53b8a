//! Envoy as an end of HBONE: the one implementation besides Istio's that everybody can install.

mod config;

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use thiserror::Error;

use super::{enter::Workspace, host::Host, process::Process};
use config::ADMIN_PORT;
pub use config::EnvoyConfig;

/// Bound on getting ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// What it logs when its listeners are open.
const STARTED: &str = "all dependencies initialized. starting workers";

/// Envoy on a host, as one end of HBONE. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    host: Host,
    process: Process,
}

impl Envoy {
    /// Looks for the program: at `MESH_ENVOY`, where `.ci/install` puts it, then along `PATH`.
    pub fn find(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
        let environment: Vec<_> = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        if let Some(named) = variable("MESH_ENVOY") {
            return Some(named.into());
        }
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(variable("HOME")?).join(".cache")));
        let installed = cache.map(|cache| cache.join("mesh-peers/envoy"));
        let path = variable("PATH").map(OsString::as_os_str).unwrap_or_default();
        installed.into_iter().chain(candidates(path)).find(|candidate| candidate.is_file())
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it cannot be started, does not like its configuration, or does not listen within 20 s.
    pub fn start(
        program: &Path,
        host: &Host,
        config: &EnvoyConfig,
        workspace: &Workspace,
    ) -> Result<Self, EnvoyError> {
        let process = Self::launch(program, host, config, workspace).map_err(EnvoyError::Launch)?;
        let started = process.output().wait_for(START_PATIENCE, |line| line.contains(STARTED).then_some(()));
        if started.is_none() {
            return Err(EnvoyError::NotReady { output: process.output().lines() });
        }
        Ok(Self { host: host.clone(), process })
    }

    fn launch(
        program: &Path,
        host: &Host,
        config: &EnvoyConfig,
        workspace: &Workspace,
    ) -> io::Result<Process> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = workspace.scratch().join(format!("envoy-{number}.json"));
        fs::write(&file, config.to_json().to_string())?;
        let mut command = host.command(program)?;
        command.args(["--disable-hot-restart", "--log-format", "%L %v", "--concurrency"]);
        command.arg(config.workers.to_string()).arg("-c").arg(file);
        host.spawn(command)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The value of a counter or gauge; 0 for one that it does not have, as those are that nothing has touched yet.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn statistic(&self, name: &str) -> io::Result<u64> {
        let mut stream = self.host.connect((Ipv4Addr::LOCALHOST, ADMIN_PORT).into())?;
        write!(stream, "GET /stats HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(find_statistic(&answer, name).unwrap_or(0))
    }
}

/// Why Envoy did not get ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvoyError {
    /// It could not be started.
    #[error("envoy could not be started")]
    Launch(#[source] io::Error),
    /// It does not listen.
    #[error("envoy does not listen: {}", output.join("; "))]
    NotReady {
        /// What it wrote.
        output: Vec<String>,
    },
}

fn candidates(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join("envoy"))
}

fn find_statistic(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_where_the_variables_say() {
        let find = |variables: &[(&str, &str)]| {
            Envoy::find(variables.iter().map(|(name, value)| (name.into(), value.into())))
        };
        assert_eq!(find(&[("MESH_ENVOY", "/opt/envoy"), ("PATH", "/bin")]), Some("/opt/envoy".into()));
        assert_eq!(find(&[("MESH_ENVOY", ""), ("HOME", "/nonexistent"), ("PATH", "/nonexistent")]), None);
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn statistics_are_found_by_their_whole_name() {
        let page = "HTTP/1.1 200 OK\r\n\r\n4d\r\na.b: 3\na.b.c: 4\n\r\n0\r\n\r\n";
        assert_eq!(find_statistic(page, "a.b"), Some(3));
        assert_eq!(find_statistic(page, "a.b.c"), Some(4));
        assert_eq!(find_statistic(page, "a"), None);
    }
}
