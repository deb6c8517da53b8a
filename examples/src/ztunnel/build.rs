//! What this binary was built from.

use mesh_proxy::admin::BuildInfo;

/// Describes the build; `istio_version` is what the installation says it is part of.
pub(super) fn info(istio_version: &str) -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: option_env!("GIT_REVISION").unwrap_or("unknown").to_owned(),
        rust_version: concat!("at least ", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
        build_profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        build_status: option_env!("BUILD_STATUS").unwrap_or("unknown").to_owned(),
        istio_version: istio_version.to_owned(),
        crypto_provider: "aws-lc-rs".to_owned(),
    }
}

/// The same as one line, as Istio's tools print it.
pub(super) fn line(istio_version: &str) -> String {
    let BuildInfo {
        version,
        git_revision,
        rust_version,
        build_profile,
        build_status,
        istio_version,
        crypto_provider,
    } = info(istio_version);
    format!(
        "version.BuildInfo{{Version:\"{version}\", GitRevision:\"{git_revision}\", RustVersion:\"{rust_version}\", \
         BuildProfile:\"{build_profile}\", BuildStatus:\"{build_status}\", IstioVersion:\"{istio_version}\", \
         CryptoProvider:\"{crypto_provider}\"}}"
    )
}
