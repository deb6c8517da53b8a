//! Which cryptography the binaries use.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// aws-lc, with the record ciphers of *ring* where those are faster.
///
/// Both encrypt 16 or 32 bytes of AES per instruction on processors with vector AES; aws-lc needs AVX-512 for that,
/// *ring* only AVX2. Where a processor, or the hypervisor above it, has the one without the other, AES-256-GCM takes
/// 0.14 s/GB instead of 0.26 (`benches/README.md`). Key exchange and signatures are aws-lc's everywhere.
pub fn provider() -> CryptoProvider {
    let provider = aws_lc_rs::default_provider();
    if has_vector_aes_without_avx512() { with_ring_ciphers(provider) } else { provider }
}

fn with_ring_ciphers(mut provider: CryptoProvider) -> CryptoProvider {
    for suite in &mut provider.cipher_suites {
        let same =
            rustls::crypto::ring::ALL_CIPHER_SUITES.iter().find(|other| other.suite() == suite.suite());
        *suite = same.copied().unwrap_or(*suite);
    }
    provider
}

#[cfg(target_arch = "x86_64")]
fn has_vector_aes_without_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("vaes") && has!("vpclmulqdq") && has!("avx2") && !(has!("avx512f") && has!("avx512bw"))
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vector_aes_without_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_changes_neither_suites_nor_their_order() {
        let names = |provider: &CryptoProvider| {
            provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        let before = aws_lc_rs::default_provider();
        assert_eq!(names(&with_ring_ciphers(before.clone())), names(&before));
    }
}
