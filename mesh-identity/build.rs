//! Generates the clients of certificate authorities from `proto/`, without a system `protoc`.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(any(feature = "istio-ca", feature = "workload-api"))]
    generate();
}

/// Only what the features ask for, so that a build with one of them has no dead code.
#[cfg(any(feature = "istio-ca", feature = "workload-api"))]
fn generate() {
    let mut files = Vec::new();
    if cfg!(feature = "istio-ca") {
        files.push("istio_ca.proto");
    }
    if cfg!(feature = "workload-api") {
        files.extend(["workload_api.proto", "delegated_identity.proto"]);
    }
    let descriptors = protox::compile(files, ["proto"]).unwrap_or_else(|error| panic!("{error:?}"));
    let builder = tonic_prost_build::configure()
        .build_server(cfg!(feature = "__server"))
        .build_transport(false)
        // Some contain private keys, which must not be printed by accident.
        .skip_debug(["."]);
    builder.compile_fds(descriptors).expect("the files in `proto` are valid");
}
