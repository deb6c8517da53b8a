//! What a mesh connection uses of a cryptography provider.

use std::sync::Arc;

use rustls::{
    CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use super::{ConfigError, KeyExchange, TlsSettings};

/// The provider with the suites and the order of key exchange groups that a mesh uses.
///
/// Only AES-GCM suites, the stronger first, as all ambient peers have them. The hybrid post-quantum group is moved to the
/// front whatever the provider prefers by default: which features other crates switch on must not change what we offer.
pub(crate) fn narrowed(
    provider: &CryptoProvider,
    settings: &TlsSettings,
) -> Result<Arc<CryptoProvider>, ConfigError> {
    let mut provider = provider.clone();
    let suites = if settings.tls12 { &SUITES[..] } else { &SUITES_TLS13[..] };
    let rank = |suite| suites.iter().position(|wanted| *wanted == suite);
    provider.cipher_suites.retain(|suite| rank(suite.suite()).is_some());
    provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
    if !provider.cipher_suites.iter().any(|suite| matches!(suite, SupportedCipherSuite::Tls13(_))) {
        return Err(ConfigError::NoCipherSuite);
    }
    match settings.key_exchange {
        // A stable sort: the others keep the provider's order.
        KeyExchange::PreferHybrid => provider.kx_groups.sort_by_key(|group| group.name() != HYBRID),
        KeyExchange::RequireHybrid if settings.tls12 => return Err(ConfigError::HybridWithTls12),
        KeyExchange::RequireHybrid => provider.kx_groups.retain(|group| group.name() == HYBRID),
    }
    if provider.kx_groups.is_empty() {
        return Err(ConfigError::NoKeyExchange);
    }
    if settings.fips && !provider.fips() {
        return Err(ConfigError::NotFips);
    }
    Ok(Arc::new(provider))
}

pub(crate) fn versions(settings: &TlsSettings) -> &'static [&'static SupportedProtocolVersion] {
    if settings.tls12 { &WITH_TLS12 } else { &ONLY_TLS13 }
}

static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];
static WITH_TLS12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const HYBRID: NamedGroup = NamedGroup::X25519MLKEM768;

const SUITES_TLS13: [CipherSuite; 2] =
    [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256];

const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::{self, kx_group};

    use super::*;

    fn suites(settings: &TlsSettings) -> Vec<CipherSuite> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.reverse();
        let narrowed = narrowed(&provider, settings).unwrap();
        narrowed.cipher_suites.iter().map(|suite| suite.suite()).collect()
    }

    fn groups(settings: &TlsSettings) -> Vec<NamedGroup> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::SECP256R1, kx_group::X25519, kx_group::X25519MLKEM768];
        let narrowed = narrowed(&provider, settings).unwrap();
        narrowed.kx_groups.iter().map(|group| group.name()).collect()
    }

    // hbone#2
    #[test]
    fn only_the_suites_of_a_mesh_remain_in_its_order() {
        assert_eq!(suites(&TlsSettings::default()), SUITES_TLS13);
        assert_eq!(suites(&TlsSettings::default().allow_tls12()), SUITES);
    }

    #[test]
    fn a_provider_without_them_is_refused() {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| !SUITES_TLS13.contains(&suite.suite()));
        for settings in [TlsSettings::default(), TlsSettings::default().allow_tls12()] {
            assert_eq!(narrowed(&provider, &settings).unwrap_err(), ConfigError::NoCipherSuite);
        }
    }

    #[test]
    fn the_hybrid_group_comes_first_and_the_rest_keep_their_order() {
        let preferred = groups(&TlsSettings::default());
        assert_eq!(preferred, [HYBRID, NamedGroup::secp256r1, NamedGroup::X25519]);
    }

    // hbone#9
    #[test]
    fn a_required_hybrid_group_is_the_only_one_or_an_error() {
        let required = TlsSettings::default().key_exchange(KeyExchange::RequireHybrid);
        assert_eq!(groups(&required), [HYBRID]);
        let mut classical = aws_lc_rs::default_provider();
        classical.kx_groups = vec![kx_group::X25519];
        assert_eq!(narrowed(&classical, &required).unwrap_err(), ConfigError::NoKeyExchange);
        let provider = aws_lc_rs::default_provider();
        let contradiction = narrowed(&provider, &required.allow_tls12());
        assert_eq!(contradiction.unwrap_err(), ConfigError::HybridWithTls12);
    }

    #[test]
    fn fips_where_it_is_required_is_the_providers_word() {
        let provider = aws_lc_rs::default_provider();
        let narrowed = narrowed(&provider, &TlsSettings::default().require_fips());
        assert_eq!(narrowed.map(drop), if provider.fips() { Ok(()) } else { Err(ConfigError::NotFips) });
    }
}
