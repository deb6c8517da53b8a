//! The administrative domain that vouches for an identity.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The name of a SPIFFE trust domain, such as `example.org`.
///
/// A value is always valid: 1 to 255 bytes of `a-z 0-9 . - _` (SPIFFE-ID §2.1). Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The name as text, without a scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks the grammar without making a value.
    pub(crate) fn check(name: &str) -> Result<(), TrustDomainError> {
        if name.is_empty() {
            return Err(TrustDomainError::Empty);
        }
        if name.len() > Self::MAX_LENGTH {
            return Err(TrustDomainError::TooLong { length: name.len() });
        }
        let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
        match name.char_indices().find(|(_, c)| !allowed(c)) {
            Some((position, character)) => Err(TrustDomainError::Character { character, position }),
            None => Ok(()),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }
}

impl TryFrom<&str> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = TrustDomainError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::check(&name)?;
        Ok(Self(name.into()))
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why a text is not the name of a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    /// A character outside `a-z 0-9 . - _`: upper case, a port, user information, percent-encoding.
    #[error("trust domain has the character {character:?} at byte {position}, allowed are a-z 0-9 . - _")]
    Character {
        /// The first such character.
        character: char,
        /// Where it begins in the trust domain, in bytes from zero.
        position: usize,
    },
    /// No character at all.
    #[error("trust domain is empty")]
    Empty,
    /// More than [`TrustDomain::MAX_LENGTH`] bytes.
    #[error("trust domain has {length} bytes, allowed are {}", TrustDomain::MAX_LENGTH)]
    TooLong {
        /// How many bytes it has.
        length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_every_allowed_character() {
        for name in ["example.org", "a", "cluster.local", "with-dash_and_0.9", "192.0.2.1", &"a".repeat(255)]
        {
            assert_eq!(name.parse::<TrustDomain>().unwrap().as_str(), name);
        }
    }

    // identity#4
    #[test]
    fn refuses_what_the_grammar_does_not_name() {
        let character = |character, position| TrustDomainError::Character { character, position };
        for (name, error) in [
            ("", TrustDomainError::Empty),
            ("Example.org", character('E', 0)),
            ("example.org:443", character(':', 11)),
            ("user@example.org", character('@', 4)),
            ("example%2eorg", character('%', 7)),
            ("example.org/", character('/', 11)),
            ("b\u{fc}cher.example.org", character('\u{fc}', 1)),
            ("nul\0", character('\0', 3)),
        ] {
            assert_eq!(name.parse::<TrustDomain>().unwrap_err(), error, "{name:?}");
            assert_eq!(TrustDomain::try_from(name.to_owned()).unwrap_err(), error, "{name:?}");
        }
        assert_eq!(
            "a".repeat(256).parse::<TrustDomain>().unwrap_err(),
            TrustDomainError::TooLong { length: 256 }
        );
    }
}
