//! What a mesh connection uses of a cryptography provider.

use std::sync::Arc;

use rustls::{CipherSuite, NamedGroup, crypto::CryptoProvider};

use super::ConfigError;

/// The provider with the suites and the order of key exchange groups that a mesh uses.
///
/// Only AES-GCM suites of TLS 1.3, the stronger first, as all ambient peers have them. The hybrid
/// post-quantum group is moved to the front whatever the provider prefers by default: which features other
/// crates switch on must not change what we offer.
pub(crate) fn narrowed(provider: &CryptoProvider) -> Result<Arc<CryptoProvider>, ConfigError> {
    let mut provider = provider.clone();
    let rank = |suite| SUITES.iter().position(|wanted| *wanted == suite);
    provider.cipher_suites.retain(|suite| rank(suite.suite()).is_some());
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
    if provider.cipher_suites.is_empty() {
        return Err(ConfigError::NoCipherSuite);
    }
    // A stable sort: the others keep the provider's order.
    provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519MLKEM768);
    Ok(Arc::new(provider))
}

const SUITES: [CipherSuite; 2] =
    [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256];

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::*;

    // hbone#2
    #[test]
    fn only_the_suites_of_a_mesh_remain_in_its_order() {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.reverse();
        let narrowed = narrowed(&provider).unwrap();
        let names: Vec<_> = narrowed.cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(names, SUITES);
    }

    #[test]
    fn a_provider_without_them_is_refused() {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| !SUITES.contains(&suite.suite()));
        assert_eq!(narrowed(&provider).unwrap_err(), ConfigError::NoCipherSuite);
    }

    #[test]
    fn the_hybrid_group_comes_first_and_the_rest_keep_their_order() {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::X25519MLKEM768,
        ];
        let narrowed = narrowed(&provider).unwrap();
        let names: Vec<_> = narrowed.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, [NamedGroup::X25519MLKEM768, NamedGroup::secp256r1, NamedGroup::X25519]);
    }
}
