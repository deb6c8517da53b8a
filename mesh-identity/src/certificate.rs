//! A certificate of a chain, as errors name it.

use std::fmt::{self, Write};

use rustls::pki_types::CertificateDer;

use crate::leaf::parse_certificate;

/// Which certificate of a chain is meant: where it stands, and what is written in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCertificate {
    place: Place,
    subject: Box<str>,
    serial: Box<str>,
}

/// Where a certificate stands in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The first: the peer's own.
    Leaf,
    /// One of those sent after the leaf.
    Intermediate(
        /// Its place after the leaf, from zero.
        usize,
    ),
    /// A root of the trust domain's bundle.
    Root(
        /// Its place in the bundle, from zero.
        usize,
    ),
}

impl ChainCertificate {
    pub(crate) fn new(place: Place, der: &CertificateDer<'_>) -> Self {
        let (subject, serial) = match parse_certificate(der) {
            Some(certificate) => (certificate.subject().to_string(), certificate.serial.to_string()),
            None => (String::new(), String::new()),
        };
        Self { place, subject: printable(&subject), serial: printable(&serial) }
    }

    /// Finds out where a certificate stands by its bytes.
    pub(crate) fn among(
        der: &CertificateDer<'_>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let place = match intermediates.iter().position(|intermediate| **intermediate == **der) {
            Some(index) if **der != **leaf => Place::Intermediate(index),
            _ => Place::Leaf,
        };
        Self::new(place, der)
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The name of its subject, shortened and with control characters replaced: whoever made the certificate chose it.
    /// Empty for most leaves, and if the certificate is malformed.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The serial number in decimal; empty if the certificate is malformed.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

impl fmt::Display for ChainCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Leaf => f.write_str("leaf certificate")?,
            Place::Intermediate(index) => write!(f, "intermediate certificate {index}")?,
            Place::Root(index) => write!(f, "root certificate {index}")?,
        }
        if !self.subject.is_empty() {
            write!(f, " \"{}\"", self.subject)?;
        }
        if self.serial.is_empty() { Ok(()) } else { write!(f, " with serial {}", self.serial) }
    }
}

fn printable(text: &str) -> Box<str> {
    let mut clean = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == MAX_TEXT {
            clean.push('…');
            break;
        }
        if character.is_control() || character == '"' {
            clean.extend(character.escape_default());
        } else {
            // Writing to a string cannot fail.
            _ = clean.write_char(character);
        }
    }
    clean.into()
}

/// Characters of a subject that are kept.
const MAX_TEXT: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_forge_a_log_line() {
        let text = printable("CN=a\nlevel=info \"b\"");
        assert_eq!(&*text, "CN=a\\nlevel=info \\\"b\\\"");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), MAX_TEXT + 1);
    }
}
