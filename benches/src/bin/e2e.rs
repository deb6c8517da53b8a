//! Measures node proxies end to end; `--help` says how.

use std::{env, process::ExitCode};

// The proxies are this program too, and a proxy spends twice the CPU per byte with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    benches::e2e::main(env::args().skip(1), env::vars_os())
}
