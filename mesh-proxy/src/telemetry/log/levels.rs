use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Which events are logged: a level for everything, and levels for some targets.
///
/// Written `level` or `target=level`, several joined by commas; later ones override earlier ones. A target stands for
/// all targets that begin with it. Unlike a filter of tracing's own, it has at most one level per target, however
/// often it is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels {
    default: LevelFilter,
    targets: BTreeMap<String, LevelFilter>,
}

impl LogLevels {
    /// These levels, overridden by others.
    #[must_use]
    pub fn with(mut self, overrides: &LogOverrides) -> Self {
        if let Some(default) = overrides.default {
            self.default = default;
        }
        self.targets.extend(overrides.targets.iter().map(|(target, level)| (target.clone(), *level)));
        self
    }

    pub(super) fn to_filter(&self) -> Targets {
        let targets = self.targets.iter().map(|(target, level)| (target.clone(), *level));
        Targets::new().with_default(self.default).with_targets(targets)
    }
}

impl Default for LogLevels {
    /// `info` for everything.
    fn default() -> Self {
        Self { default: LevelFilter::INFO, targets: BTreeMap::new() }
    }
}

impl FromStr for LogLevels {
    type Err = LogLevelsError;

    /// Reads levels; where none is given for everything, it is `info`.
    fn from_str(text: &str) -> Result<Self, LogLevelsError> {
        Ok(Self::default().with(&text.parse()?))
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (target, level) in &self.targets {
            write!(f, "{target}={level},")?;
        }
        self.default.fmt(f)
    }
}

/// Levels that override others, each or all of them absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOverrides {
    default: Option<LevelFilter>,
    targets: BTreeMap<String, LevelFilter>,
}

impl FromStr for LogOverrides {
    type Err = LogLevelsError;

    fn from_str(text: &str) -> Result<Self, LogLevelsError> {
        let mut overrides = Self::default();
        for clause in text.split(',').map(str::trim).filter(|clause| !clause.is_empty()) {
            match split(clause) {
                (None, level) => overrides.default = Some(parse_level(level, clause)?),
                (Some(target), level) => {
                    overrides.targets.insert(target.to_owned(), parse_level(level, clause)?);
                }
            }
        }
        Ok(overrides)
    }
}

/// Splits `target=level`; operators' tools also document `target:level`, so that is read alike.
fn split(clause: &str) -> (Option<&str>, &str) {
    let split = clause.rsplit_once('=').or_else(|| clause.rsplit_once(':'));
    split.map_or((None, clause), |(target, level)| (Some(target), level))
}

fn parse_level(level: &str, clause: &str) -> Result<LevelFilter, LogLevelsError> {
    const LEVELS: [(&str, LevelFilter); 6] = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    let found = LEVELS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(level));
    found.map(|(_, level)| level).ok_or_else(|| LogLevelsError { clause: clause.to_owned() })
}

/// A text is not [`LogLevels`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{clause}` is neither a level (off, error, warn, info, debug, trace) nor target=level")]
pub struct LogLevelsError {
    clause: String,
}

impl LogLevelsError {
    /// The part that is wrong.
    pub fn clause(&self) -> &str {
        &self.clause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_clauses_override_earlier_ones() {
        let levels: LogLevels = "debug,access=off,warn,access=info".parse().unwrap();
        assert_eq!(levels.to_string(), "access=info,warn");
    }

    #[test]
    fn everything_is_info_unless_told_otherwise() {
        assert_eq!("".parse::<LogLevels>().unwrap(), LogLevels::default());
        assert_eq!("access=debug".parse::<LogLevels>().unwrap().to_string(), "access=debug,info");
    }

    /// telemetry#70, control-plane#83
    #[test]
    fn both_separators_mean_the_same_even_with_paths() {
        let expected: LogLevels = "mesh_proxy::inbound=debug".parse().unwrap();
        assert_eq!("mesh_proxy::inbound:debug".parse(), Ok(expected));
    }

    #[test]
    fn words_that_are_no_levels_are_named() {
        for (text, clause) in [("loud", "loud"), ("info,access=loud", "access=loud"), ("access:", "access:")]
        {
            assert_eq!(text.parse::<LogLevels>().unwrap_err().clause(), clause);
        }
    }

    #[test]
    fn overriding_again_does_not_grow_the_levels() {
        let overrides = "access=debug".parse().unwrap();
        let once = LogLevels::default().with(&overrides);
        assert_eq!(once.clone().with(&overrides), once);
    }
}
