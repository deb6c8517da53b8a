//! The real node proxy on hosts made of network namespaces, each case with IPv4 and with IPv6.
//!
//! A test binary of its own kind: user namespaces must be entered before the first thread, which the standard harness
//! does not allow. It takes the usual arguments: filters, `--exact`, `--skip`, `--list`.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test, though not one the lints recognise as such"
)]

mod addresses;
mod ca;
mod control;
mod endings;
mod exhaustion;
mod fixture;
mod guard;
mod lifecycle;
mod outside;
mod peers;
mod policy;
mod rules;
mod runner;
mod stream;
mod tproxy;
mod tunnel;
mod turmoil;

use std::{env, process::ExitCode};

use examples::lab;

fn main() -> ExitCode {
    lab::exec_if_asked();
    if env::args().nth(1).as_deref() == Some(rules::NESTED) {
        rules::nested();
    }
    let groups = [
        ("addresses", addresses::CASES),
        ("endings", endings::CASES),
        ("exhaustion", exhaustion::CASES),
        ("guard", guard::CASES),
        ("lifecycle", lifecycle::CASES),
        ("outside", outside::CASES),
        ("peers::envoy_client", peers::envoy_client::CASES),
        ("peers::envoy_server", peers::envoy_server::CASES),
        ("peers::http2", peers::http2::CASES),
        ("peers::openssl_client", peers::openssl_client::CASES),
        ("peers::openssl_server", peers::openssl_server::CASES),
        ("policy", policy::CASES),
        ("rules", rules::CASES),
        ("stream", stream::CASES),
        ("tproxy", tproxy::CASES),
        ("tunnel", tunnel::CASES),
        ("turmoil", turmoil::CASES),
    ];
    // Long ones, in which the kind of addresses makes no difference.
    let once = [("ca", ca::CASES), ("peers::rbac", peers::rbac::CASES)];
    runner::run(&groups, &once)
}
