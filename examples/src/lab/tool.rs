use std::{
    env,
    ffi::OsStr,
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use thiserror::Error;

use super::namespace::Namespace;

/// Where administrators' tools live even if the user's search path leaves these out.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// A program of the system that the lab needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tool {
    /// `ip`, which makes interfaces, addresses and routes.
    Ip,
    /// `iptables-restore`, the older way to load redirection rules.
    Iptables,
    /// `ip6tables-restore`.
    Ip6tables,
    /// `nft`, which loads redirection rules.
    Nft,
}

impl Tool {
    /// The Debian package that brings it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Ip => "iproute2",
            Self::Iptables | Self::Ip6tables => "iptables",
            Self::Nft => "nftables",
        }
    }

    /// Where it is installed, if it is.
    pub fn find(self) -> Option<PathBuf> {
        let user = env::var_os("PATH").unwrap_or_default();
        let places = env::split_paths(&user).chain(env::split_paths(SYSTEM_PATH));
        places.map(|place| place.join(self.program())).find(|candidate| candidate.is_file())
    }

    /// Runs it inside a namespace with `input` as its standard input.
    ///
    /// # Errors
    ///
    /// If it is not installed, cannot be run, or reports a failure.
    pub(super) fn run<A: AsRef<OsStr>>(
        self,
        namespace: &Namespace,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<(), ToolError> {
        self.run_by(|command| namespace.spawn(command), arguments, input)
    }

    /// Runs it where this process is.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub(super) fn run_here<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<(), ToolError> {
        self.run_by(|mut command| command.spawn(), arguments, "")
    }

    fn run_by<A: AsRef<OsStr>>(
        self,
        spawn: impl FnOnce(Command) -> io::Result<Child>,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<(), ToolError> {
        let path = self.find().ok_or(ToolError::NotInstalled { tool: self })?;
        let run = |source| ToolError::Run { tool: self, source };
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn(command).map_err(run)?;
        // Closed at the end of the statement, so that the tool sees the end of its input.
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(run)?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            return Err(ToolError::Failed { tool: self, message });
        }
        written.map_err(run)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Iptables => "iptables-restore",
            Self::Ip6tables => "ip6tables-restore",
            Self::Nft => "nft",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// Why a tool did not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// It ran and reported a failure.
    #[error("`{tool}` failed: {message}")]
    Failed {
        /// Which one.
        tool: Tool,
        /// What it wrote about it.
        message: String,
    },
    /// It is not installed.
    #[error("`{tool}` is not installed")]
    NotInstalled {
        /// Which one.
        tool: Tool,
    },
    /// It could not be run.
    #[error("`{tool}` could not be run")]
    Run {
        /// Which one.
        tool: Tool,
        /// The system's answer.
        source: io::Error,
    },
}
