use std::{error::Error, io};

use mesh_proxy::config::local::LocalConfigError;
use thiserror::Error;

use crate::lab::{CaptureError, EnterError, NetworkError, StartError, ToolError};

/// Why there is nothing to show.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum DemoError {
    /// A host cannot capture its traffic, for want of a program.
    #[error(transparent)]
    Capture(CaptureError),
    /// This process cannot have namespaces of its own.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The namespaces are there, but not what has to be in them.
    #[error("the kernel or a tool does not do what network namespaces need")]
    Ground(#[source] GroundError),
    /// A step that works everywhere did not work here.
    #[error("{doing} failed")]
    Io {
        /// The step.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The demo's own description of the mesh.
    #[error("the state of the mesh cannot be read")]
    Mesh(#[source] LocalConfigError),
    /// A proxy in this process.
    #[error("the proxy of {pod} does not run")]
    Proxy {
        /// Its pod.
        pod: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Signals cannot be received.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// A proxy as a process.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A tool.
    #[error(transparent)]
    Tool(ToolError),
}

impl DemoError {
    /// What the user can do about it.
    pub(super) fn remedy(&self) -> Option<String> {
        match self {
            Self::Enter(error) => Some(error.refusal().remedy().to_owned()),
            Self::Tool(ToolError::NotInstalled { tool }) => {
                Some(format!("apt-get install {}", tool.package()))
            }
            Self::Capture(CaptureError::NoBackend) => Some("apt-get install nftables".to_owned()),
            _ => None,
        }
    }
}

/// What is missing inside the namespaces.
#[derive(Debug, Error)]
pub(super) enum GroundError {
    /// Rules that capture traffic.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Hosts and the switch between them.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl<E: Into<GroundError>> From<E> for DemoError {
    fn from(error: E) -> Self {
        Self::Ground(error.into())
    }
}

/// Names the step at which the system refused.
pub(super) fn during(doing: &'static str) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::Io { doing, source }
}
