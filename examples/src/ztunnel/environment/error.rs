use thiserror::Error;

/// Why a node proxy cannot start with these variables. Always one line, whatever the values contain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum EnvironmentError {
    /// Two variables exclude each other.
    #[error("{first} and {second} are both set: set only one of them")]
    Both {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A value is not among those accepted.
    #[error("{variable} is {value:?}: accepted is {accepted}")]
    Invalid {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What is accepted.
        accepted: &'static str,
    },
    /// A variable that has no usable default is not set.
    #[error("{variable} is not set: {wanted}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A value is good, but what it asks for is not to be had.
    #[error("{variable} is {value:?}: {instead}")]
    Unavailable {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// Why, or what to set instead.
        instead: &'static str,
    },
}

impl EnvironmentError {
    pub(super) fn invalid(variable: &'static str, value: &str, accepted: &'static str) -> Self {
        Self::Invalid { variable, value: value.to_owned(), accepted }
    }

    pub(super) fn missing(variable: &'static str, wanted: &'static str) -> Self {
        Self::Missing { variable, wanted }
    }

    pub(super) fn unavailable(variable: &'static str, value: &str, instead: &'static str) -> Self {
        Self::Unavailable { variable, value: value.to_owned(), instead }
    }
}
