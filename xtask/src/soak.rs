//! `cargo xtask soak`: routers in virtual time with members among them that lie, one story a seed.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::tools::cargo;

/// Hands the arguments on; the exit status is that of the program.
pub fn run_arguments(arguments: &[&str]) -> Result<ExitCode> {
    let status = command().args(arguments).status().context("running weave-soak")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn command() -> std::process::Command {
    cargo("run --quiet --profile system -p weave-soak --")
}
