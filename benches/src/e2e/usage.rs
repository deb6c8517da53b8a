//! What a process has used, from `/proc`.

use std::{collections::BTreeMap, fs, io, time::Duration};

use rustix::param::clock_ticks_per_second;

/// CPU time that a process has used, in user and kernel mode, by all threads it ever had.
pub(super) fn cpu_time(process: u32) -> io::Result<Duration> {
    read_stat(&format!("/proc/{process}/stat"))
}

/// CPU time that each thread of a process has used so far.
pub(super) fn thread_times(process: u32) -> io::Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let name = thread?.file_name().to_string_lossy().into_owned();
        // A thread may end while it is looked at.
        if let Ok(time) = read_stat(&format!("/proc/{process}/task/{name}/stat")) {
            times.insert(name, time);
        }
    }
    Ok(times)
}

/// Memory of a process that is resident, in KiB.
pub(super) fn resident_kib(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    parse_resident(&status).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// CPU time that all programs of the machine have used.
pub(super) fn machine_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    parse_machine(&stat).map(ticks).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read_stat(path: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(path)?;
    parse_stat(&stat).map(ticks).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `utime` and `stime` (proc_pid_stat(5), fields 14 and 15).
fn parse_stat(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn parse_resident(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

/// User, nice, system, irq and softirq (proc_stat(5)).
fn parse_machine(stat: &str) -> Option<u64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = all.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = *fields else { return None };
    Some(user + nice + system + irq + softirq)
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count * 1_000_000_000 / clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_moves_no_field() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 1 2 3 4 250 31 7 8 20 0 3 0 99";
        assert_eq!(parse_stat(stat), Some(281));
        assert_eq!(parse_stat("17 (a) S 1"), None);
    }

    #[test]
    fn resident_memory_is_found() {
        assert_eq!(parse_resident("VmPeak:\t  9 kB\nVmRSS:\t    5120 kB\n"), Some(5120));
        assert_eq!(parse_resident("Name:\tx\n"), None);
    }

    #[test]
    fn idle_time_does_not_count() {
        assert_eq!(parse_machine("cpu  1 2 4 800 900 8 16 0 0 0\ncpu0 1\n"), Some(31));
    }

    #[test]
    fn this_process_has_used_memory_and_threads() {
        let this = std::process::id();
        assert!(resident_kib(this).unwrap() > 0);
        assert!(!thread_times(this).unwrap().is_empty());
        assert!(cpu_time(this).unwrap() <= machine_time().unwrap());
    }
}
