use std::{
    fmt::{self, Debug, Display},
    io,
    net::{IpAddr, SocketAddr},
};

use mesh_identity::SpiffeId;

use super::{Direction, HboneFailure};

/// A connection that ended before it was known well enough to be counted as one.
#[derive(Clone, Copy)]
pub struct EarlyDenial<'a> {
    /// Who connected.
    pub source: SocketAddr,
    /// What was connected to.
    pub destination: SocketAddr,
    /// Which way, seen from the local workload.
    pub direction: Direction,
    /// Why it ended.
    pub error: &'a dyn Display,
}

impl Debug for EarlyDenial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyDenial")
            .field("source", &self.source)
            .field("destination", &self.destination)
            .field("direction", &self.direction)
            .field("error", &format_args!("{}", self.error))
            .finish()
    }
}

/// Something that happened to the proxy rather than to one connection.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener could not take a connection.
    AcceptFailed {
        /// What the listener is for.
        direction: Direction,
        /// What the system said.
        error: &'a io::Error,
    },
    /// A policy in dry-run mode would have denied a connection.
    DryRunDenied {
        /// Who connected.
        source: SocketAddr,
        /// What was connected to.
        destination: SocketAddr,
        /// The policy, as `namespace/name`.
        policy: &'a dyn Display,
    },
    /// A connection from a peer to the HBONE port, and with it all tunnels in it, ended other than in good order.
    HboneConnectionFailed {
        /// Who connected.
        source: SocketAddr,
        /// What kind of end it was.
        failure: HboneFailure,
        /// What happened.
        error: &'a dyn Display,
    },
    /// A changed local configuration is in force.
    LocalConfigApplied,
    /// A changed local configuration is not usable; the one before stays in force.
    LocalConfigRejected {
        /// What is wrong with it.
        error: &'a dyn Display,
    },
    /// A revocation list names the certificate that is shown to peers, who refuse it if they have the list.
    OwnCertificateRevoked {
        /// Whose it is.
        identity: &'a SpiffeId,
        /// Which certificate of the chain, and why.
        error: &'a dyn Display,
    },
    /// A connection was denied because a policy that its workload lists never arrived.
    PolicyMissing {
        /// The policy, as `namespace/name`.
        policy: &'a dyn Display,
    },
    /// An application sees an address of ours instead of its client's.
    SourceAddressNotPreserved {
        /// The client's address.
        source: IpAddr,
        /// Why it could not be kept.
        error: &'a io::Error,
    },
}

impl Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcceptFailed { direction, error } => write!(f, "AcceptFailed({direction:?}: {error})"),
            Self::DryRunDenied { source, destination, policy } => {
                write!(f, "DryRunDenied({source} -> {destination}: {policy})")
            }
            Self::HboneConnectionFailed { source, failure, error } => {
                write!(f, "HboneConnectionFailed({source}: {failure:?}: {error})")
            }
            Self::LocalConfigApplied => f.write_str("LocalConfigApplied"),
            Self::LocalConfigRejected { error } => write!(f, "LocalConfigRejected({error})"),
            Self::OwnCertificateRevoked { identity, error } => {
                write!(f, "OwnCertificateRevoked({identity}: {error})")
            }
            Self::PolicyMissing { policy } => write!(f, "PolicyMissing({policy})"),
            Self::SourceAddressNotPreserved { source, error } => {
                write!(f, "SourceAddressNotPreserved({source}: {error})")
            }
        }
    }
}
