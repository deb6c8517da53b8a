//! A node proxy configured by the environment variables of Istio's ztunnel.

use std::{env, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    examples::ztunnel::main(env::args().skip(1), env::vars_os())
}
