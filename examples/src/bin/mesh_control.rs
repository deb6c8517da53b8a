//! A certificate authority for a mesh without a control plane.

use std::{env, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    examples::mesh_control::main(env::args_os().skip(1))
}
