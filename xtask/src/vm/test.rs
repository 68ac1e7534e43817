//! The tests that need the kernel of the machine: built here, run there by nextest in one start.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::{folder, run};
use crate::tools::{self, cargo, find, output};

/// All of them together. A machine that hangs must not keep `cargo xtask test`.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the tests of `tests/vm`, with any further arguments of `cargo nextest run`.
pub fn test(arguments: &[&str]) -> Result<()> {
    tools::install_packages()?;
    tools::install_cargo_commands()?;
    let command = [nextest()?, arguments.iter().map(|word| (*word).to_owned()).collect()].concat();
    let status = run(&Options { limit: LIMIT, ..Options::default() }, &command)?;
    ensure!(status == 0, "nextest in the virtual machine: exit status {status}");
    Ok(())
}

/// Builds the tests and returns the command that runs them without cargo: paths are the same inside.
fn nextest() -> Result<Vec<String>> {
    fs::create_dir_all(folder())?;
    let build = "nextest list --package weave --test vm --cargo-profile system \
                 --list-type binaries-only --message-format json";
    let (binaries, packages) = (folder().join("binaries.json"), folder().join("packages.json"));
    fs::write(&binaries, output(&mut cargo(build))?)?;
    fs::write(&packages, output(&mut cargo("metadata --format-version 1 --no-deps"))?)?;
    let program = find("cargo-nextest").context("no cargo-nextest")?;
    Ok(vec![
        program.display().to_string(),
        "nextest".to_owned(),
        "run".to_owned(),
        "--profile=vm".to_owned(),
        format!("--binaries-metadata={}", binaries.display()),
        format!("--cargo-metadata={}", packages.display()),
    ])
}
