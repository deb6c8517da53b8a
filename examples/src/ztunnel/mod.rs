//! The node proxy as a program: Istio's environment variables in, a running proxy out.

mod build;
mod environment;
mod logging;
mod node;

use std::{
    collections::BTreeMap, ffi::OsString, fmt::Display, num::NonZeroUsize, process::ExitCode, sync::Arc,
    thread,
};

use mesh_identity::{IdentityManager, Revocation, RevocationFile};
use mesh_proxy::{Report, telemetry::Telemetry};
use rustix::process::{Resource, getrlimit, setrlimit};

use environment::Environment;
use node::Shown;

/// The scope of the program's own log lines.
const TARGET: &str = "ztunnel";

const HELP: &str = "\
usage: ztunnel [proxy | version | help]

  proxy     run the node proxy (the default), configured by environment variables
  version   print what this binary was built from
  help      print this text
";

/// Runs the program with these arguments (without its name) and environment variables.
pub fn main(
    arguments: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    // What is not text cannot be a value of ours.
    let environment = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match arguments.into_iter().next().as_deref() {
        // Further arguments, such as the `ztunnel` of Istio's chart, say nothing.
        None | Some("proxy") => run(&environment),
        Some("version") => {
            println!(
                "{}",
                build::line(environment.get("ISTIO_META_ISTIO_VERSION").map_or("unknown", String::as_str))
            );
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(unknown) => {
            print!("{HELP}");
            eprintln!("ztunnel: unknown command: {unknown}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a node proxy configured by `environment` until it is ended by a signal. Call it before any thread exists.
pub fn run(environment: &BTreeMap<String, String>) -> ExitCode {
    let cpus = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let environment = match Environment::parse(environment, cpus) {
        Ok(environment) => environment,
        Err(error) => return fail(&Report(&error)),
    };
    let logging = logging::install(environment.log_levels.clone(), environment.log_format);
    for warning in &environment.warnings {
        tracing::warn!(target: TARGET, "{warning}");
    }
    tracing::info!(target: TARGET, "version: {}", build::line(&environment.istio_version));
    raise_descriptor_limit();
    let shown = Arc::new(Shown::default());
    let lists = environment.security.lists.as_ref();
    let lists = lists.map(|lists| RevocationFile::open(&lists.path, Revocation::new(lists.policy)));
    let mut telemetry = Telemetry::builder()
        .identities({
            let shown = Arc::clone(&shown);
            move || shown.identities.get().map(Arc::clone)
        })
        .rotation({
            let shown = Arc::clone(&shown);
            move || shown.manager.get().map(IdentityManager::metrics)
        })
        .tunnels(&environment.settings)
        .version(environment.istio_version.clone())
        .counter(
            "mesh_log_lines_dropped",
            "Log lines dropped as nobody took those before them.",
            logging.dropped_lines(),
        );
    if let Some(file) = &lists {
        telemetry = telemetry.revocation(file.revocation().clone());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format_args!("cannot start a runtime: {error}")),
    };
    match runtime.block_on(node::serve(
        environment,
        logging.handle(),
        lists,
        Arc::new(telemetry.build()),
        &shown,
    )) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(logging);
            fail(&Report(&error))
        }
    }
}

fn fail(problem: &dyn Display) -> ExitCode {
    eprintln!("ztunnel: {problem}");
    ExitCode::FAILURE
}

/// Each connection takes two descriptors; the usual soft limit of 1,024 is for programs that use `select`.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(target: TARGET, %error, "the limit of open files stays as it is");
    }
}
