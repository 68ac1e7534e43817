//! What processes and the machine spend, as the kernel counts it.

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc`: USER_HZ is 100 on every Linux there is.
const TICKS: f64 = 100.0;

/// Processes whose cost is of interest.
#[derive(Clone, Debug)]
pub struct Processes(Vec<i32>);

impl Processes {
    /// These.
    pub fn new(pids: Vec<i32>) -> Self {
        Self(pids)
    }

    /// Processor seconds so far, of all together.
    pub fn seconds(&self) -> Result<f64> {
        self.0.iter().map(|pid| process_seconds(&read(&format!("/proc/{pid}/stat"))?)).sum()
    }

    /// The largest resident memory that one of them has had, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let peaks = self.0.iter().map(|pid| peak_memory(&read(&format!("/proc/{pid}/status"))?));
        Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
    }
}

/// Seconds in which a processor was busy since the machine started.
pub fn machine_seconds() -> Result<f64> {
    busy_seconds(&read("/proc/stat")?)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {path}: has a router ended?"))
}

/// From `/proc/PID/stat`: in the kernel and in the program.
fn process_seconds(stat: &str) -> Result<f64> {
    // The name, in parentheses, may contain blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let field = |i: usize| rest.split_whitespace().nth(i)?.parse::<f64>().ok();
    let (user, system) = field(11).zip(field(12)).context("no times in /proc/PID/stat")?;
    Ok((user + system) / TICKS)
}

/// From `/proc/PID/status`.
fn peak_memory(status: &str) -> Result<u64> {
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
        .context("no VmHWM in /proc/PID/status")?;
    Ok(kilobytes * 1024)
}

/// From `/proc/stat`: user, nice, system and both kinds of interrupts; not idle, iowait, steal.
fn busy_seconds(stat: &str) -> Result<f64> {
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let field = |i: usize| line.split_whitespace().nth(i)?.parse::<f64>().ok();
    let ticks: Option<f64> = [1, 2, 3, 6, 7].into_iter().map(field).sum();
    Ok(ticks.context("no times in /proc/stat")? / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_read() {
        let stat = "42 (a (bad) name) S 1 42 42 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 3 0 99 1 2";
        assert_eq!(process_seconds(stat).expect("times"), 4.0);
        assert!(process_seconds("42 (cut) S 1").is_err());
        assert!(process_seconds("").is_err());
    }

    #[test]
    fn the_peak_of_memory_is_read() {
        let status = "Name:\tweave\nVmPeak:\t  900 kB\nVmHWM:\t  512 kB\nVmRSS:\t  100 kB\n";
        assert_eq!(peak_memory(status).expect("a peak"), 512 * 1024);
        assert!(peak_memory("Name:\tkthreadd\n").is_err());
    }

    #[test]
    fn waiting_is_not_work() {
        let stat = "cpu  100 10 200 9999 8888 20 30 7777 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_seconds(stat).expect("times"), 3.6);
        assert!(busy_seconds("").is_err());
    }

    #[test]
    fn this_process_has_a_cost() {
        let own = Processes::new(vec![i32::try_from(std::process::id()).expect("a process id")]);
        assert!(own.memory().expect("memory") > 0);
        assert!(own.seconds().expect("times") >= 0.0);
        assert!(machine_seconds().expect("times") > 0.0);
    }
}
