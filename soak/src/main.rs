//! Tells the stories of many seeds, on all processors. `cargo xtask soak` builds and runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use weave_soak::invariants::Invariant;

/// Failures that are shown in full.
const SHOWN: usize = 3;
/// Seeds that are shown of each kind.
const SEEDS_SHOWN: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Range::parse(&arguments) {
        Ok(range) => soak(&range),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

struct Range {
    from: u64,
    count: u64,
}

impl Range {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut range = Self { from: 0, count: 2_000 };
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{flag} wants a number behind it"))?;
            let number: u64 =
                value.parse().map_err(|_| format!("{flag} {value}: {value} is not a number"))?;
            match flag.as_str() {
                "--seeds" => range.count = number,
                "--from" => range.from = number,
                "--seed" => range = Self { from: number, count: 1 },
                _ => return Err(format!("{flag}: not one of --seeds, --from and --seed")),
            }
        }
        if range.count == 0 || range.from.checked_add(range.count).is_none() {
            return Err("--seeds and --from stand for no seeds".to_owned());
        }
        Ok(range)
    }
}

fn soak(range: &Range) -> ExitCode {
    let begun = Instant::now();
    let next = AtomicU64::new(range.from);
    let end = range.from + range.count;
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(failure) = weave_soak::run(seed) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_default();
    failures.sort_by_key(|failure| failure.seed);
    for failure in failures.iter().take(SHOWN) {
        println!("{failure}");
    }
    let mut kinds: BTreeMap<Invariant, Vec<u64>> = BTreeMap::new();
    for failure in &failures {
        kinds.entry(failure.violation.invariant).or_default().push(failure.seed);
    }
    for (invariant, seeds) in kinds {
        let first: Vec<&u64> = seeds.iter().take(SEEDS_SHOWN).collect();
        println!("{invariant:?}, {} seeds: {first:?}", seeds.len());
    }
    let (seeds, failed) = (range.count, failures.len());
    println!("{seeds} seeds, {failed} failed, {:.1} s", begun.elapsed().as_secs_f64());
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("one of them again: cargo xtask soak --seed {}", failures[0].seed);
    ExitCode::FAILURE
}
