//! A list of named steps, run one after the other: each under a heading, with its time, and a table
//! of all at the end.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::retried::{self, Retried};

/// The steps run so far.
pub struct Steps {
    start: Instant,
    done: Vec<Step>,
    /// Tests that were tried again.
    retried: Vec<Retried>,
}

/// How a step that may be impossible on this machine ended.
pub enum Outcome {
    /// It was done.
    Passed,
    /// It could not be done here, and why.
    Skipped(String),
}

struct Step {
    name: String,
    elapsed: Duration,
    outcome: Result<Outcome>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { start: Instant::now(), done: Vec::new(), retried: Vec::new() }
    }
}

impl Steps {
    /// Runs one step. A failure is printed and counted; the following steps run all the same.
    pub fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        self.run_or_skip(name, || work().map(|()| Outcome::Passed));
    }

    /// Runs a step that may find out that it cannot be done on this machine.
    pub fn run_or_skip(&mut self, name: &str, work: impl FnOnce() -> Result<Outcome>) {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = work();
        let step = Step { name: name.to_owned(), elapsed: start.elapsed(), outcome };
        self.done.push(step.shown());
    }

    /// Runs tests by this profile of nextest, and remembers those that were tried again.
    pub fn run_tests(&mut self, name: &str, profile: &str, work: impl FnOnce() -> Result<()>) {
        retried::forget(profile);
        let mut again = Vec::new();
        self.run(name, || {
            work()?;
            again = retried::of(profile)?;
            Ok(())
        });
        self.retried.append(&mut again);
    }

    /// Runs steps of one kind on `jobs` threads. Each returns what it printed, which is shown
    /// when the step ends, so that the output of two steps does not mix.
    pub fn run_side_by_side<T: Send>(
        &mut self,
        jobs: usize,
        steps: Vec<(String, T)>,
        work: impl Fn(T) -> Result<String> + Sync,
    ) {
        let waiting = Mutex::new(steps.into_iter());
        let done = Mutex::new(&mut self.done);
        let next = || lock(&waiting).next();
        let run_steps = || {
            while let Some((name, input)) = next() {
                let start = Instant::now();
                let (output, outcome) = match work(input) {
                    Ok(output) => (output, Ok(Outcome::Passed)),
                    Err(error) => (String::new(), Err(error)),
                };
                let step = Step { name, elapsed: start.elapsed(), outcome };
                let mut done = lock(&done);
                print!("\n=== {}\n{output}", step.name);
                done.push(step.shown());
            }
        };
        thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(run_steps))));
    }

    /// Prints the table and tells whether nothing failed.
    pub fn finish(&self) -> bool {
        print!("{}", self.summary());
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.done.iter().filter(|step| step.outcome.is_err()).count()
    }

    /// One line for each step, and a last line that a program can read.
    fn summary(&self) -> String {
        let mut text = String::from("\n=== summary\n");
        // Writing to a string cannot fail.
        for step in &self.done {
            let _ = writeln!(
                text,
                "{:<8} {:>8}  {}",
                step.verdict().split(':').next().unwrap_or_default(),
                seconds(step.elapsed),
                step.name
            );
        }
        for Retried { test, cause } in &self.retried {
            let _ = writeln!(text, "retried            {test}: {cause}");
        }
        let passed =
            self.done.iter().filter(|step| matches!(step.outcome, Ok(Outcome::Passed))).count();
        let _ = writeln!(text, "{:<8} {:>8}  total", "", seconds(self.start.elapsed()));
        let _ = writeln!(text, "{passed} passed, {} failed", self.failed());
        text
    }
}

impl Step {
    /// Prints how the step ended.
    fn shown(self) -> Self {
        if let Err(error) = &self.outcome {
            println!("{error:#}");
        }
        println!("=== {}: {}, {}", self.name, self.verdict(), seconds(self.elapsed));
        self
    }

    fn verdict(&self) -> String {
        match &self.outcome {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(_) => "FAILED".to_owned(),
        }
    }
}

/// Locks; steps do not panic while they hold a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_failed_step_is_counted_and_does_not_stop_the_others() {
        let mut steps = Steps::default();
        let mut ran = false;
        steps.run("first", || anyhow::bail!("broken"));
        steps.run("second", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        assert!(!steps.finish());
        assert!(steps.summary().ends_with("\n1 passed, 1 failed\n"), "{}", steps.summary());
    }

    #[test]
    fn steps_run_side_by_side_are_each_counted() {
        let mut steps = Steps::default();
        let both = Barrier::new(2);
        let named = [("even", 2), ("odd", 3)].map(|(name, n)| (name.to_owned(), n)).to_vec();
        steps.run_side_by_side(2, named, |n| {
            both.wait();
            if n % 2 == 0 { Ok(String::new()) } else { anyhow::bail!("{n} is odd") }
        });
        assert!(!steps.finish());
        assert!(steps.summary().ends_with("\n1 passed, 1 failed\n"), "{}", steps.summary());
    }

    #[test]
    fn a_skipped_step_is_shown_and_counts_for_neither() {
        let mut steps = Steps::default();
        steps.run("done", || Ok(()));
        steps.run_or_skip("other", || Ok(Outcome::Skipped("no reason".to_owned())));
        assert!(steps.finish());
        let summary = steps.summary();
        assert!(summary.contains("skipped"), "{summary}");
        assert!(summary.ends_with("\n1 passed, 0 failed\n"), "{summary}");
    }
}
