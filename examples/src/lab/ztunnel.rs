use std::{
    env,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    access_log::AccessRecord,
    host::Host,
    mesh_file::Pod,
    metric::Metric,
    process::{Output, Process},
};

const READINESS_PORT: u16 = 15021;
const METRICS_PORT: u16 = 15020;
const ADMIN_PORT: u16 = 15000;
/// Bound on getting ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between questions for readiness; the end of the process cuts it short.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// Bound on waiting for a log line.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

/// A node proxy on a host, in dedicated mode for one pod. Dropping it kills it.
#[derive(Debug)]
pub struct Ztunnel {
    host: Host,
    process: Process,
}

impl Ztunnel {
    /// Starts a proxy and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or is not ready within 20 s.
    pub fn start(host: &Host, spec: &ZtunnelSpec) -> Result<Self, StartError> {
        let mut proxy = Self::launch(host, spec).map_err(StartError::Launch)?;
        let deadline = Instant::now() + START_PATIENCE;
        while !proxy.is_ready() {
            match proxy.process.wait(PROBE_INTERVAL) {
                Ok(status) => {
                    return Err(StartError::Ended { status, output: proxy.process.output().lines() });
                }
                Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                    return Err(StartError::Launch(error));
                }
                Err(_) if Instant::now() > deadline => {
                    return Err(StartError::NotReady { output: proxy.process.output().lines() });
                }
                Err(_) => {}
            }
        }
        Ok(proxy)
    }

    /// Starts a proxy without waiting for anything.
    ///
    /// # Errors
    ///
    /// As [`std::process::Command::spawn`].
    pub fn launch(host: &Host, spec: &ZtunnelSpec) -> io::Result<Self> {
        let mut command = host.command(&spec.program.path)?;
        command.args(&spec.program.arguments).env_clear().envs(spec.environment.iter().cloned());
        Ok(Self { host: host.clone(), process: host.spawn(command)? })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has written.
    pub fn output(&self) -> &Output {
        self.process.output()
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.host.get(loopback(READINESS_PORT), "/healthz/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// The samples of its metrics page.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub fn metrics(&self) -> io::Result<Vec<Metric>> {
        Ok(Metric::parse_page(&self.host.get(loopback(METRICS_PORT), "/metrics")?.body))
    }

    /// Sum of a metric over the series that have these labels; 0 if there is none.
    ///
    /// # Errors
    ///
    /// As [`metrics`](Self::metrics).
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> io::Result<f64> {
        let samples = self.metrics()?.into_iter();
        Ok(samples
            .filter(|sample| sample.name == name && sample.matches(labels))
            .map(|sample| sample.value)
            .sum())
    }

    /// Its state as it tells it.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub fn config_dump(&self) -> io::Result<String> {
        Ok(self.host.get(loopback(ADMIN_PORT), "/config_dump")?.body)
    }

    /// The access log so far.
    pub fn access_log(&self) -> Vec<AccessRecord> {
        self.process.output().lines().iter().filter_map(|line| AccessRecord::parse(line)).collect()
    }

    /// Waits up to 10 s for an access record.
    pub fn wait_for_access(&self, mut wanted: impl FnMut(&AccessRecord) -> bool) -> Option<AccessRecord> {
        self.process.output().wait_for(LOG_PATIENCE, |line| AccessRecord::parse(line).filter(&mut wanted))
    }
}

/// How to run a node proxy.
#[derive(Clone, Debug)]
pub struct ZtunnelSpec {
    program: Program,
    environment: Vec<(OsString, OsString)>,
}

impl ZtunnelSpec {
    /// A proxy for a pod, with the mesh described by a file and identities from the development root.
    pub fn new(program: &Program, pod: &Pod, mesh: &Path) -> Self {
        let fixed = [
            ("PROXY_MODE", "dedicated"),
            ("FAKE_CA", "true"),
            ("XDS_ADDRESS", ""),
            ("CA_ADDRESS", ""),
            ("ISTIO_META_DNS_CAPTURE", "false"),
            // The redirection rules know the proxy's packets by it.
            ("PACKET_MARK", "1337"),
            ("ENABLE_ORIG_SRC", "true"),
            ("CLUSTER_ID", "cluster1"),
            ("ZTUNNEL_WORKER_THREADS", "1"),
        ];
        let environment = fixed.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { program: program.clone(), environment }
            .variable("PROXY_WORKLOAD_INFO", pod.proxy_workload_info())
            .variable("NODE_NAME", format!("node-{}", pod.name))
            .variable("LOCAL_XDS_PATH", mesh)
    }

    /// Adds an environment variable, or changes one.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(existing, _)| existing != name);
        self.environment.push((name.into(), value.into()));
        self
    }
}

/// A program that is a node proxy when it runs with these arguments.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// A program of its own.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new() }
    }

    /// The program that runs now, which shall become a proxy when it sees `argument`.
    ///
    /// # Errors
    ///
    /// As [`env::current_exe`].
    pub fn this(argument: &str) -> io::Result<Self> {
        Ok(Self { path: env::current_exe()?, arguments: vec![argument.into()] })
    }
}

/// Why a proxy did not get ready.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// It ended.
    #[error("the proxy ended with {status}: {}", output.join("; "))]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it wrote.
        output: Vec<String>,
    },
    /// It could not be started.
    #[error("the proxy could not be started")]
    Launch(#[source] io::Error),
    /// It took too long.
    #[error("the proxy is not ready after 20 s: {}", output.join("; "))]
    NotReady {
        /// What it wrote.
        output: Vec<String>,
    },
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
