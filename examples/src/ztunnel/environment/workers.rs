use std::num::NonZeroUsize;

use super::{EnvironmentError, variables::Variables};

/// What the variables say about the number of worker threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Workers {
    threads: Option<Threads>,
    /// CPUs the container may use at most, and is given at least; set only where an operator chose them.
    limit: Option<NonZeroUsize>,
    request: Option<NonZeroUsize>,
    /// CPUs the node gives the container if nobody chose.
    allocatable: Option<NonZeroUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    All,
    Count(NonZeroUsize),
    Percent(NonZeroUsize),
}

impl Workers {
    pub(super) fn parse(variables: &Variables<'_>) -> Result<Self, EnvironmentError> {
        let cpus = "a CPU quantity such as 2, 1.5 or 500m";
        Ok(Self {
            threads: variables.read(
                "ZTUNNEL_WORKER_THREADS",
                "a number of threads, 0 for all CPUs, or a percentage of them from 1% to 100%",
                parse_threads,
            )?,
            limit: variables.read("ZTUNNEL_RESOURCE_CPU_LIMIT", cpus, parse_cpus)?,
            request: variables.read("ZTUNNEL_RESOURCE_CPU_REQUEST", cpus, parse_cpus)?,
            allocatable: variables.positive("ZTUNNEL_CPU_LIMIT")?,
        })
    }

    /// The number of threads on a machine with `detected` CPUs; `concurrency` is what the mesh's configuration says.
    pub(super) fn count(&self, concurrency: Option<usize>, detected: NonZeroUsize) -> NonZeroUsize {
        let cpus = self.limit.or(self.allocatable).unwrap_or(detected);
        match (self.threads, concurrency) {
            (Some(Threads::Count(count)), _) => count,
            (Some(Threads::Percent(percent)), _) => share(cpus, percent),
            (Some(Threads::All), _) => cpus,
            (None, Some(concurrency)) => NonZeroUsize::new(concurrency).unwrap_or(cpus),
            (None, None) => {
                let chosen = self.limit.unwrap_or_else(|| share(cpus, QUARTER).max(LEAST));
                chosen.max(self.request.unwrap_or(NonZeroUsize::MIN))
            }
        }
    }
}

/// A node proxy should leave most of a node to its pods.
const QUARTER: NonZeroUsize = NonZeroUsize::new(25).expect("25 is not 0");
/// One busy connection must not starve all others.
const LEAST: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");

fn share(cpus: NonZeroUsize, percent: NonZeroUsize) -> NonZeroUsize {
    let count = cpus.get().saturating_mul(percent.get()).div_ceil(100);
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

fn parse_threads(text: &str) -> Option<Threads> {
    if let Some(percent) = text.strip_suffix('%') {
        return percent
            .parse()
            .ok()
            .filter(|percent: &NonZeroUsize| percent.get() <= 100)
            .map(Threads::Percent);
    }
    let count: usize = text.parse().ok()?;
    Some(NonZeroUsize::new(count).map_or(Threads::All, Threads::Count))
}

/// Reads a Kubernetes quantity, rounded up to whole CPUs.
fn parse_cpus(text: &str) -> Option<NonZeroUsize> {
    let thousandths: u64 = match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok()?,
        None => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 3 {
                return None;
            }
            let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
            whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)?
        }
    };
    NonZeroUsize::new(usize::try_from(thousandths.div_ceil(1000)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn count(variables: &[(&str, &str)], concurrency: Option<usize>, cpus: usize) -> usize {
        let variables: BTreeMap<_, _> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let workers = Workers::parse(&Variables::new(&variables)).unwrap();
        workers.count(concurrency, NonZeroUsize::new(cpus).unwrap()).get()
    }

    // telemetry#72, sockets §9
    #[test]
    fn threads_come_from_the_first_that_says_so() {
        let threads = |value| [("ZTUNNEL_WORKER_THREADS", value)];
        assert_eq!(count(&threads("3"), Some(5), 8), 3);
        assert_eq!(count(&threads("0"), Some(5), 8), 8);
        assert_eq!(count(&threads("50%"), None, 8), 4);
        assert_eq!(count(&threads("1%"), None, 8), 1);
        assert_eq!(count(&threads("10%"), None, 11), 2);
        assert_eq!(count(&threads("100%"), None, 8), 8);
        assert_eq!(count(&[], Some(5), 8), 5);
        assert_eq!(count(&[], Some(0), 8), 8);
    }

    #[test]
    fn unasked_it_is_a_quarter_of_the_cpus_and_at_least_two() {
        assert_eq!(count(&[], None, 1), 2);
        assert_eq!(count(&[], None, 8), 2);
        assert_eq!(count(&[], None, 9), 3);
        assert_eq!(count(&[("ZTUNNEL_CPU_LIMIT", "64")], None, 8), 16);
        assert_eq!(count(&[("ZTUNNEL_RESOURCE_CPU_REQUEST", "3500m")], None, 8), 4);
    }

    #[test]
    fn a_chosen_limit_is_used_up() {
        let limit = [("ZTUNNEL_RESOURCE_CPU_LIMIT", "1"), ("ZTUNNEL_CPU_LIMIT", "64")];
        assert_eq!(count(&limit, None, 8), 1);
        let both = [("ZTUNNEL_RESOURCE_CPU_LIMIT", "500m"), ("ZTUNNEL_RESOURCE_CPU_REQUEST", "1.5")];
        assert_eq!(count(&both, None, 8), 2);
        let share = [("ZTUNNEL_RESOURCE_CPU_LIMIT", "6"), ("ZTUNNEL_WORKER_THREADS", "50%")];
        assert_eq!(count(&share, None, 64), 3);
    }

    // telemetry#72
    #[test]
    fn other_numbers_of_threads_are_refused() {
        for text in ["0%", "101%", "x", "-1", "%", "1.5", ""] {
            assert_eq!(parse_threads(text), None, "{text}");
        }
    }

    #[test]
    fn cpu_quantities_are_rounded_up() {
        for (text, cpus) in
            [("2", Some(2)), ("1.5", Some(2)), ("500m", Some(1)), ("2001m", Some(3)), ("0.001", Some(1))]
        {
            assert_eq!(parse_cpus(text).map(NonZeroUsize::get), cpus, "{text}");
        }
        for text in ["0", "0m", "", "m", "x", "1.x", "-1", "1.2345", "1e3", "18446744073709551615"] {
            assert_eq!(parse_cpus(text), None, "{text}");
        }
    }
}
