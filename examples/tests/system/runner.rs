use std::{
    env, io,
    io::Write,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Instant,
};

use examples::lab::{self, Workspace};

/// A name and what it proves, by panicking if it is not so.
pub(crate) type Case = (&'static str, fn(&Workspace, Family));

/// Collects functions as cases, under their names.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::runner::Case] = &[$((stringify!($case), $case)),*];
    };
}
pub(crate) use cases;

/// The kind of addresses a case uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [(Self, &str); 2] = [(Self::V4, "ipv4"), (Self::V6, "ipv6")];
}

/// Runs the cases that the command line asks for and reports as the standard harness does: those of `groups` with each
/// kind of addresses, those of `once` with IPv4.
pub(crate) fn run(groups: &[(&str, &[Case])], once: &[(&str, &[Case])]) -> ExitCode {
    let selection = match Selection::parse(env::args().skip(1)) {
        Ok(selection) => selection,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let mut selected = Vec::new();
    let mut all = 0;
    let groups = groups.iter().map(|group| (group, Family::ALL.as_slice()));
    let once = once.iter().map(|group| (group, &Family::ALL[..1]));
    for ((group, cases), families) in groups.chain(once) {
        for (case, body) in *cases {
            for &(family, suffix) in families {
                all += 1;
                let name = format!("{group}::{case}::{suffix}");
                if selection.includes(&name) {
                    selected.push((name, *body, family));
                }
            }
        }
    }
    if selection.list {
        selected.iter().for_each(|(name, ..)| println!("{name}: test"));
        println!("\n{} tests, 0 benchmarks", selected.len());
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", selected.len());
    if selected.is_empty() {
        return finish(0, &[], 0, all, Instant::now());
    }
    let start = Instant::now();
    let workspace = match lab::enter() {
        Ok(workspace) => workspace,
        Err(error) => {
            let reason = format!("{error}; to change that: {}", error.refusal().remedy());
            return skip(&reason, selected.len(), all - selected.len());
        }
    };
    let mut failed = Vec::new();
    let count = selected.len();
    for (name, body, family) in selected {
        print!("test {name} ... ");
        // A test that hangs shall be named.
        let _ = io::stdout().flush();
        let case_start = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| body(&workspace, family)));
        println!(
            "{} ({:.2}s)",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            case_start.elapsed().as_secs_f64()
        );
        if outcome.is_err() {
            failed.push(name);
        }
    }
    finish(count - failed.len(), &failed, 0, all - count, start)
}

/// Whether the environment says that this must not be missing.
pub(crate) fn is_required(what: &str) -> bool {
    env::vars().any(|(name, value)| name == "MESH_REQUIRE" && value.split(',').any(|it| it == what))
}

fn skip(reason: &str, selected: usize, filtered: usize) -> ExitCode {
    let line = "!".repeat(100);
    eprintln!("{line}\nSYSTEM TESTS DID NOT RUN: {reason}\n{line}");
    if is_required("netns") {
        eprintln!("MESH_REQUIRE says that they must");
        return finish(0, &["network namespaces".to_owned()], selected, filtered, Instant::now());
    }
    finish(0, &[], selected, filtered, Instant::now())
}

fn finish(passed: usize, failed: &[String], ignored: usize, filtered: usize, start: Instant) -> ExitCode {
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {filtered} filtered out; \
         finished in {:.2}s\n",
        failed.len(),
        start.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Which cases to run, in the standard harness' words.
#[derive(Debug, Default)]
struct Selection {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    none: bool,
}

impl Selection {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => selection.exact = true,
                "--list" => selection.list = true,
                // No case is marked so.
                "--ignored" => selection.none = true,
                "--skip" => selection.skips.push(arguments.next().ok_or("--skip needs a name")?),
                "--nocapture" | "--no-capture" | "--include-ignored" | "--show-output" | "-q" | "--quiet" => {
                }
                "--test-threads" | "--format" | "--color" => {
                    arguments.next();
                }
                option if option.starts_with("--test-threads=") || option.starts_with("--format=") => {}
                option if option.starts_with("--color=") => {}
                option if option.starts_with('-') => return Err(format!("unknown option {option}")),
                filter => selection.filters.push(filter.to_owned()),
            }
        }
        Ok(selection)
    }

    fn includes(&self, name: &str) -> bool {
        let matches =
            |filter: &String| if self.exact { filter == name } else { name.contains(filter.as_str()) };
        !self.none
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}
