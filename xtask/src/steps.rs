//! A list of named steps, run one after the other: each under a heading, with its time, and a table of all
//! at the end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The steps run so far.
#[derive(Default)]
pub struct Steps {
    done: Vec<Step>,
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
        if let Err(error) = &step.outcome {
            println!("{error:#}");
        }
        println!("=== {name}: {}, {}", step.verdict(), seconds(step.elapsed));
        self.done.push(step);
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
        let total: Duration = self.done.iter().map(|step| step.elapsed).sum();
        let passed =
            self.done.iter().filter(|step| matches!(step.outcome, Ok(Outcome::Passed))).count();
        let _ = writeln!(text, "{:<8} {:>8}  total", "", seconds(total));
        let _ = writeln!(text, "{passed} passed, {} failed", self.failed());
        text
    }
}

impl Step {
    fn verdict(&self) -> String {
        match &self.outcome {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(_) => "FAILED".to_owned(),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
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
