use std::time::Duration;

use crate::{ChannelError, DialError, IssueError, IssueFault, ResponseError, TokenError, grpc};

/// Why Istio's certificate authority gave no certificate: the cause of an [`IssueError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IstioCaError {
    /// It was not reached, or lost during the call.
    #[error("no call got through")]
    Channel(#[from] ChannelError),
    /// It did not answer in time.
    #[error("no answer within {} ms", .after.as_millis())]
    Deadline {
        /// How long that was.
        after: Duration,
    },
    /// It said no.
    #[error("status {code}: {message}")]
    Refused {
        /// The name of the gRPC status.
        code: &'static str,
        /// Its message, shortened.
        message: String,
    },
    /// No key or signing request could be made.
    #[error("signing request cannot be made")]
    Request(#[source] rcgen::Error),
    /// Its answer is of no use.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// There is no token to call it with.
    #[error("no token to call the certificate authority with")]
    Token(#[from] TokenError),
}

impl From<tonic::Status> for IstioCaError {
    fn from(status: tonic::Status) -> Self {
        if let Some(error) = ChannelError::find(&status) {
            return error.clone().into();
        }
        Self::Refused { code: grpc::code_name(status.code()), message: grpc::message(&status) }
    }
}

impl From<IstioCaError> for IssueError {
    fn from(error: IstioCaError) -> Self {
        let fault = match &error {
            IstioCaError::Deadline { .. } => IssueFault::Deadline,
            // Without roots of its server there is nobody to dial.
            IstioCaError::Channel(ChannelError::Dial(DialError::Roots(_)))
            | IstioCaError::Request(_)
            | IstioCaError::Token(_) => IssueFault::Local,
            IstioCaError::Channel(ChannelError::Dial(DialError::Deadline { .. })) => IssueFault::Deadline,
            IstioCaError::Channel(_) => IssueFault::Unreachable,
            IstioCaError::Refused { .. } => IssueFault::Refused,
            IstioCaError::Response(_) => IssueFault::Answer,
        };
        // All of it may be better a moment later: a token is renewed, a pod becomes known to the authority.
        Self::new(fault, error)
    }
}
