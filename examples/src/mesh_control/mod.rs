//! A local control plane as a program: so far its certificate authority.

mod authority;
mod authority_files;
mod callers;
mod connection;
mod failure;
mod line;
mod options;
mod reread;
mod server;
mod service;
mod workloads;

use std::{error::Error, ffi::OsString, io, process::ExitCode, sync::Arc};

use mesh_proxy::Report;
use tokio::signal::unix::{SignalKind, signal};

pub use authority::AuthorityError;
pub use authority_files::AuthorityFilesError;
pub use callers::{CallersError, JwtError, TokensError};
pub use options::{ArgumentError, Options};
pub use server::{Server, ServerError};

use options::{HELP, Wish};

use crate::crypto;

/// Runs the program with these arguments (without its name) until it is ended by a signal.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(Wish::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Wish::Run(options)) => *options,
        Err(error) => {
            eprintln!("mesh-control: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).finish();
    // It fails only where somebody else logs for this process.
    let _ = tracing::subscriber::set_global_default(lines);
    let run = || -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(options))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-control: {}", Report(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::bind(options, Arc::new(crypto::provider())).await?;
    println!("listening on {}", server.address()?);
    tokio::select! {
        () = server.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
