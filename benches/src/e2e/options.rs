use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use thiserror::Error;

use super::{contender::Contender, row::Row};

/// What `--help` prints.
pub(super) const HELP: &str = "\
usage: e2e [options]

Measures two node proxies, one on each of two hosts made of network namespaces, beside no proxy at all and a plain TCP
relay with as many hops. Needs `ip` and `nft` or `iptables`; no root where unprivileged user namespaces are allowed.

  --bin PATH      also measure another ztunnel-compatible program (may be repeated)
  --envoy         also measure a pair of Envoys, if there is one
  --without-ours  leave our own proxy out
  --without-log   leave the variants with the access log out
  --only ROW      measure the rows whose name begins so (may be repeated)
  --rounds N      measure each row N times (3)
  --seconds S     measure for S seconds each time (0.8)
  --workers N     threads of each proxy (2)
  --quick         one short round: for a look, not for a claim
  --json          print data instead of a table
";

/// What the command line asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Print the help.
    Help,
    /// Measure.
    Measure(Options),
    /// Be a node proxy.
    Proxy,
    /// Be a relay.
    Relay {
        /// Threads.
        workers: usize,
    },
}

/// What to measure, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Options {
    /// What carries the connections.
    pub(super) contenders: Vec<Contender>,
    /// Whether a pair of Envoys is one of them.
    pub(super) envoy: bool,
    /// Which loads.
    pub(super) rows: Vec<Row>,
    /// How often each.
    pub(super) rounds: usize,
    /// For how long each time.
    pub(super) scale: Scale,
    /// Threads of each proxy.
    pub(super) workers: usize,
    /// Whether to print data.
    pub(super) json: bool,
}

/// How long and how large a single measurement is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Scale {
    /// Load before it counts.
    pub(super) warm_up: Duration,
    /// What counts.
    pub(super) duration: Duration,
    /// How long nothing must have been sent to stalled readers, so that every buffer counts as full.
    pub(super) quiet: Duration,
    /// Connections held for the memory of an idle tunnel.
    pub(super) idle: usize,
}

impl Scale {
    const FULL: Self = Self {
        warm_up: Duration::from_millis(200),
        duration: Duration::from_millis(800),
        quiet: Duration::from_millis(300),
        idle: 1000,
    };
    const QUICK: Self = Self {
        warm_up: Duration::from_millis(100),
        duration: Duration::from_millis(300),
        quiet: Duration::from_millis(200),
        idle: 400,
    };
}

impl Options {
    /// Reads the command line, without the program's name.
    pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, OptionError> {
        let mut arguments = arguments.into_iter();
        let (mut programs, mut only) = (Vec::new(), Vec::new());
        let (mut ours, mut log, mut envoy, mut json, mut quick) = (true, true, false, false, false);
        let (mut rounds, mut seconds, mut workers) = (None, None, 2);
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| OptionError::NoValue(option.clone()));
            match option.as_str() {
                PROXY => return Ok(Command::Proxy),
                RELAY => return Ok(Command::Relay { workers: number(&option, &value()?)? }),
                "--help" | "-h" => return Ok(Command::Help),
                "--bin" => programs.push(PathBuf::from(value()?)),
                "--envoy" => envoy = true,
                "--without-ours" => ours = false,
                "--without-log" => log = false,
                "--only" => only.push(value()?),
                "--rounds" => rounds = Some(number(&option, &value()?)?),
                "--seconds" => seconds = Some(duration(&option, &value()?)?),
                "--workers" => workers = number(&option, &value()?)?,
                "--quick" => quick = true,
                "--json" => json = true,
                _ => return Err(OptionError::Unknown(option)),
            }
        }
        let rows: Vec<_> = Row::ALL.into_iter().filter(|row| chosen(*row, &only)).collect();
        if rows.is_empty() {
            return Err(OptionError::NoRow);
        }
        let mut scale = if quick { Scale::QUICK } else { Scale::FULL };
        scale.duration = seconds.unwrap_or(scale.duration);
        Ok(Command::Measure(Self {
            contenders: contenders(ours, log, programs),
            envoy,
            rows,
            rounds: rounds.unwrap_or(if quick { 1 } else { 3 }),
            scale,
            workers,
            json,
        }))
    }
}

/// Why the command line cannot be followed.
#[derive(Debug, Error, Eq, PartialEq)]
pub(super) enum OptionError {
    /// A value that is not one.
    #[error("{option}: {value:?} is not a positive number")]
    NoNumber {
        /// Of which option.
        option: String,
        /// What it is.
        value: String,
    },
    /// Nothing to measure.
    #[error("no row has such a name; there are {}", Row::ALL.map(|row| row.name()).join(", "))]
    NoRow,
    /// No value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// An unknown option.
    #[error("unknown option {0}; try --help")]
    Unknown(String),
}

fn chosen(row: Row, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|prefix| row.name().starts_with(prefix.as_str()))
}

fn contenders(ours: bool, log: bool, programs: Vec<PathBuf>) -> Vec<Contender> {
    let proxies = ours.then_some(None).into_iter().chain(programs.into_iter().map(Some));
    let variants = |program: Option<PathBuf>| {
        let proxy = |access_log| Contender::Ztunnel { program: program.clone(), access_log };
        [Some(proxy(false)), log.then(|| proxy(true))].into_iter().flatten().collect::<Vec<_>>()
    };
    [Contender::Direct, Contender::Relay].into_iter().chain(proxies.flat_map(variants)).collect()
}

fn number(option: &str, value: &str) -> Result<usize, OptionError> {
    value.parse::<NonZeroUsize>().map(NonZeroUsize::get).map_err(|_| no_number(option, value))
}

fn duration(option: &str, value: &str) -> Result<Duration, OptionError> {
    let seconds = value.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| no_number(option, value))
}

fn no_number(option: &str, value: &str) -> OptionError {
    OptionError::NoNumber { option: option.to_owned(), value: value.to_owned() }
}

/// Hidden first argument: be a node proxy.
pub(super) const PROXY: &str = "__proxy";
/// Hidden first argument: be a relay; the number of threads follows.
pub(super) const RELAY: &str = "__relay";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionError> {
        match Options::parse(line.split_whitespace().map(str::to_owned))? {
            Command::Measure(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_default_measures_everything_of_ours_beside_its_baselines() {
        let options = parse("").unwrap();
        assert_eq!(options.rows, Row::ALL);
        assert_eq!(options.contenders.len(), 4);
        assert_eq!((options.rounds, options.scale), (3, Scale::FULL));
    }

    #[test]
    fn other_programs_run_beside_or_instead() {
        assert_eq!(parse("--bin /a --bin /b").unwrap().contenders.len(), 8);
        let instead = parse("--bin /a --without-ours --without-log").unwrap().contenders;
        let other = Contender::Ztunnel { program: Some("/a".into()), access_log: false };
        assert_eq!(instead, [Contender::Direct, Contender::Relay, other]);
    }

    #[test]
    fn rows_are_chosen_by_the_beginning_of_their_names() {
        let names = |line| parse(line).unwrap().rows.iter().map(Row::name).collect::<Vec<_>>();
        assert_eq!(names("--only churn-32"), ["churn-32"]);
        assert_eq!(names("--only ping --only idle"), ["ping-pong-1", "ping-pong-64", "idle"]);
        assert_eq!(parse("--only x"), Err(OptionError::NoRow));
    }

    #[test]
    fn values_are_checked() {
        for line in ["--rounds 0", "--seconds -1", "--seconds nan", "--workers x"] {
            assert!(matches!(parse(line), Err(OptionError::NoNumber { .. })), "{line}");
        }
        assert_eq!(parse("--rounds"), Err(OptionError::NoValue("--rounds".to_owned())));
        assert_eq!(parse("--fast"), Err(OptionError::Unknown("--fast".to_owned())));
    }
}
