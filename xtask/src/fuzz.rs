//! `cargo xtask fuzz`: runs the fuzz targets on the stable toolchain (coverage guided, no
//! sanitizer: the crates they reach forbid unsafe code).

use std::num::NonZero;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};

use crate::steps::Steps;
use crate::tools::{cargo, output, output_of_both, root, run};

/// How long each target runs in `cargo xtask test`.
pub const SMOKE_SECONDS: u32 = 20;

/// Inputs are datagrams, frames and gossip messages: 64 KiB covers all of them.
const MAXIMUM_LENGTH: u32 = 65_536;

/// `[TARGET [SECONDS]]`.
pub fn run_arguments(arguments: &[&str]) -> Result<bool> {
    crate::tools::install_cargo_commands()?;
    let (chosen, seconds) = match *arguments {
        [] => (targets()?, SMOKE_SECONDS),
        [target] => (vec![target.to_owned()], SMOKE_SECONDS),
        [target, seconds] => {
            (vec![target.to_owned()], seconds.parse().context("the second argument is seconds")?)
        }
        _ => anyhow::bail!("usage: cargo xtask fuzz [TARGET [SECONDS]]"),
    };
    let mut steps = Steps::default();
    add_steps(&mut steps, &chosen, seconds);
    Ok(steps.finish())
}

/// Builds the targets and runs them, as many side by side as there are processors: a target
/// keeps one processor busy.
pub fn add_steps(steps: &mut Steps, targets: &[String], seconds: u32) {
    steps.run("fuzz targets: build", || {
        run(&mut cargo("fuzz build --sanitizer none")).context("building the fuzz targets")
    });
    let jobs = available_parallelism().map_or(1, NonZero::get);
    let named = targets.iter().map(|target| (format!("fuzz {target}"), target)).collect();
    steps.run_side_by_side(jobs, named, |target| one(target, seconds));
}

/// Names of all targets.
pub fn targets() -> Result<Vec<String>> {
    let list = output(&mut cargo("fuzz list")).context("listing the fuzz targets")?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// Runs one target and returns what it printed. What it finds beyond the committed corpus stays
/// in `fuzz/target/corpus`.
fn one(target: &str, seconds: u32) -> Result<String> {
    let fuzz = root().join("fuzz");
    let known = targets()?;
    ensure!(
        known.iter().any(|name| name == target),
        "no fuzz target {target}; there are: {}",
        known.join(", ")
    );
    let grown = fuzz.join("target/corpus").join(target);
    std::fs::create_dir_all(&grown)?;
    let mut command = cargo("fuzz run --sanitizer none");
    command.arg(target).arg(&grown);
    let seeds = fuzz.join("corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command.arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAXIMUM_LENGTH}"),
        "-timeout=5".to_owned(),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    output_of_both(&mut command)
}
