//! `cargo xtask soak`: routers in virtual time with members among them that lie, one story a seed.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::tools::{cargo, run};

/// How many seeds `cargo xtask test` tells.
pub const SEEDS: u32 = 2_000;

/// Hands the arguments on; the exit status is that of the program.
pub fn run_arguments(arguments: &[&str]) -> Result<ExitCode> {
    let status = command().args(arguments).status().context("running weave-soak")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Tells the stories of so many seeds.
pub fn seeds(count: u32) -> Result<()> {
    run(command().args(["--seeds", &count.to_string()]))
}

fn command() -> std::process::Command {
    cargo("run --quiet --profile system -p weave-soak --")
}
