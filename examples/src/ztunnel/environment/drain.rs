use std::time::Duration;

use super::{EnvironmentError, variables::Variables};

/// How long open connections may go on where nothing is said.
const DEFAULT: Duration = Duration::from_secs(5);

/// How long open connections may go on once the process is to end.
pub(super) fn deadline(variables: &Variables<'_>) -> Result<Duration, EnvironmentError> {
    let explicit = variables.duration("CONNECTION_TERMINATION_DEADLINE")?;
    let grace = variables.number("TERMINATION_GRACE_PERIOD_SECONDS")?;
    Ok(explicit.or_else(|| grace.map(within)).unwrap_or(DEFAULT))
}

/// What remains of the time after which Kubernetes kills the process, with some of it kept for the end itself.
fn within(grace: u32) -> Duration {
    let reserve = if grace > 10 { 5 } else { 1 };
    Duration::from_secs(grace.saturating_sub(reserve).max(1).into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    // sockets#54
    #[test]
    fn deadline_leaves_time_before_the_kill_and_an_explicit_one_wins() {
        for (variables, seconds) in [
            (&[][..], 5),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "30")], 25),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "11")], 6),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "10")], 9),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "1")], 1),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "0")], 1),
            (&[("TERMINATION_GRACE_PERIOD_SECONDS", "30"), ("CONNECTION_TERMINATION_DEADLINE", "2m")], 120),
        ] {
            let map: BTreeMap<_, _> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = deadline(&Variables::new(&map)).unwrap();
            assert_eq!(found, Duration::from_secs(seconds), "{variables:?}");
        }
    }
}
