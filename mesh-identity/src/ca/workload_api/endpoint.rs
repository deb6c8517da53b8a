//! Where an agent listens.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use crate::grpc::Dialer;

/// The endpoint of a SPIFFE agent: `unix:///absolute/path` or `tcp://address:port`, as in the variable
/// `SPIFFE_ENDPOINT_SOCKET` (SPIFFE Workload Endpoint §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEndpoint(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl AgentEndpoint {
    /// A Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Place::Unix(path.into()))
    }

    pub(super) fn dialer(self) -> Dialer {
        match self.0 {
            Place::Tcp(address) => Dialer::Tcp(address),
            Place::Unix(path) => Dialer::Unix(path),
        }
    }
}

impl FromStr for AgentEndpoint {
    type Err = AgentEndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self(Place::Unix(path)))
            } else {
                Err(AgentEndpointError::Path)
            };
        }
        let address = text.strip_prefix("tcp://").ok_or(AgentEndpointError::Scheme)?;
        address.parse().map(|address| Self(Place::Tcp(address))).map_err(|_| AgentEndpointError::Address)
    }
}

/// Why a text is not the endpoint of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgentEndpointError {
    /// What follows `tcp://` has to be an IP address and a port, and nothing else.
    #[error("endpoint has no ip address and port after tcp://")]
    Address,
    /// The path of a Unix socket has to be absolute.
    #[error("endpoint has no absolute path after unix://")]
    Path,
    /// It begins with something else.
    #[error("endpoint begins with neither unix:// nor tcp://")]
    Scheme,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_forms_of_the_standard_are_taken() {
        let unix = "unix:///run/agent.sock".parse();
        assert_eq!(unix, Ok(AgentEndpoint::unix("/run/agent.sock")));
        let tcp = "tcp://127.0.0.1:8081".parse();
        assert_eq!(tcp, Ok(AgentEndpoint(Place::Tcp("127.0.0.1:8081".parse().unwrap()))));
        for (text, error) in [
            ("unix://run/agent.sock", AgentEndpointError::Path),
            ("unix:/run/agent.sock", AgentEndpointError::Scheme),
            ("tcp://localhost:8081", AgentEndpointError::Address),
            ("tcp://127.0.0.1:8081/path", AgentEndpointError::Address),
            ("tcp://127.0.0.1", AgentEndpointError::Address),
            ("http://127.0.0.1:8081", AgentEndpointError::Scheme),
            ("", AgentEndpointError::Scheme),
        ] {
            assert_eq!(text.parse::<AgentEndpoint>(), Err(error), "{text:?}");
        }
    }
}
