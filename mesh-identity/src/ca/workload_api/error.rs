use std::{sync::Arc, time::Duration};

use tonic::Code;

use crate::ChannelError;

/// What an agent last said instead of an identity.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// It was not reached, or lost.
    #[error("agent is unreachable")]
    Channel(#[from] ChannelError),
    /// It was called and said nothing.
    #[error("agent gave no answer within {} ms", .after.as_millis())]
    Deadline {
        /// How long was waited for it.
        after: Duration,
    },
    /// It ended the stream, which is tried again.
    #[error("agent ended the stream")]
    Ended,
    /// It has no identity for this process, or no registration for this workload.
    #[error("agent has no identity for it")]
    NoIdentity,
    /// It said no.
    #[error("agent refused with {code}: {message}")]
    Refused {
        /// The name of the gRPC status.
        code: &'static str,
        /// Its message, shortened.
        message: Arc<str>,
        /// Whether asking again is of no use.
        is_final: bool,
    },
    /// It gave an identity that cannot be used, and none that could before.
    #[error("agent gave an identity that cannot be used: {reason}")]
    Unusable {
        /// What is wrong with it.
        reason: Arc<str>,
    },
}

impl AgentError {
    /// Whether the same call will fail in the same way for ever: the agent does not speak this API, or does
    /// not take what it is sent (SPIFFE Workload API §3).
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { is_final: true, .. })
    }
}

impl From<tonic::Status> for AgentError {
    fn from(status: tonic::Status) -> Self {
        if let Some(error) = ChannelError::find(&status) {
            return error.clone().into();
        }
        Self::Refused {
            code: crate::grpc::code_name(status.code()),
            message: crate::grpc::message(&status).into(),
            is_final: matches!(status.code(), Code::InvalidArgument | Code::Unimplemented),
        }
    }
}
