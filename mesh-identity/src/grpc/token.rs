//! The token a caller proves itself with.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::HeaderValue;
use tokio::{fs::File, io::AsyncReadExt};

/// Where the token comes from that a caller proves itself with to a certificate authority.
#[derive(Clone)]
pub struct TokenSource(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Fixed(Arc<str>),
}

impl TokenSource {
    /// A file, read for each call: Kubernetes replaces projected tokens within their lifetime.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The token itself, which nobody renews.
    pub fn fixed(token: impl Into<Arc<str>>) -> Self {
        Self(Source::Fixed(token.into()))
    }

    /// The value of the `authorization` header, marked as a secret.
    pub(crate) async fn header(&self) -> Result<HeaderValue, TokenError> {
        match &self.0 {
            Source::File(path) => {
                let text = read_bounded(path, MAX_SIZE).await;
                let text = text.map_err(|source| TokenError::Read { path: path.clone(), source })?;
                bearer(str::from_utf8(&text).map_err(|_| TokenError::Malformed)?)
            }
            Source::Fixed(token) => bearer(token),
        }
    }
}

/// Prints where a token is, not what it is.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => f.debug_tuple("TokenSource").field(path).finish(),
            Source::Fixed(_) => f.debug_tuple("TokenSource").finish_non_exhaustive(),
        }
    }
}

/// Editors and shells end files with a line feed, which a header cannot contain.
fn bearer(token: &str) -> Result<HeaderValue, TokenError> {
    let token = token.trim();
    if token.is_empty() {
        return Err(TokenError::Empty);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| TokenError::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there is no token to send.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is empty.
    #[error("token is empty")]
    Empty,
    /// It has characters that no token has.
    #[error("token is malformed")]
    Malformed,
    /// The file cannot be read.
    #[error("cannot read the token from {}", .path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a file that should be small.
pub(super) async fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path).await?.take(most + 1).read_to_end(&mut contents).await?;
    if contents.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(contents)
}

/// Tokens are a few KiB; a server takes no longer header.
const MAX_SIZE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    // identity#29
    #[test]
    fn white_space_around_a_token_is_none_of_it() {
        for text in ["abc.def", "abc.def\n", "  abc.def\r\n\t"] {
            let value = bearer(text).unwrap();
            assert_eq!(value, "Bearer abc.def", "{text:?}");
            assert!(value.is_sensitive());
        }
        for text in ["", "\n", "  \t\r\n"] {
            assert!(matches!(bearer(text), Err(TokenError::Empty)), "{text:?}");
        }
        assert!(matches!(bearer("abc\ndef"), Err(TokenError::Malformed)));
    }

    // identity#84
    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", TokenSource::fixed("secret")).contains("secret"));
        assert!(!format!("{:?}", bearer("secret").unwrap()).contains("secret"));
    }
}
