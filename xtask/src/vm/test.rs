//! The tests that need the kernel of the machine: built here, run there by nextest in one start.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::options::Options;
use super::{folder, run};
use crate::tools::{self, cargo, find, output};
use crate::usage::Usage;

/// All of them together, which take a third as long on a machine with nothing else to do. One that
/// hangs must not keep `cargo xtask test`.
const LIMIT: Duration = Duration::from_secs(900);

/// What a soak takes besides the time asked for.
const SURROUNDINGS: Duration = Duration::from_secs(300);

/// Runs the tests of `tests/vm`, with any further arguments of `cargo nextest run`.
pub fn test(arguments: &[&str]) -> Result<()> {
    nextest(&[], "vm", LIMIT, arguments)
}

/// Runs the tests of `tests/vm` that last as long as they are asked to.
pub fn soak(arguments: &[&str]) -> Result<()> {
    let minutes: u64 = match *arguments {
        [] => 10,
        ["--minutes", minutes] => {
            minutes.parse().ok().filter(|minutes| *minutes > 0).ok_or_else(|| {
                Usage(format!("--minutes wants a number above 0; {}", super::USAGE))
            })?
        }
        _ => return Err(Usage(super::USAGE.to_owned()).into()),
    };
    let duration = Duration::from_secs(60 * minutes);
    let seconds = format!("WEAVE_SOAK_SECONDS={}", duration.as_secs());
    nextest(&["env", &seconds], "soak", duration + SURROUNDINGS, &[])
}

/// Builds the tests here and runs those of a profile there, without cargo: paths are the same
/// inside. The words `before` are put before the command.
fn nextest(before: &[&str], profile: &str, limit: Duration, arguments: &[&str]) -> Result<()> {
    tools::install_packages()?;
    tools::install_cargo_commands()?;
    fs::create_dir_all(folder())?;
    let build = "nextest list --package weave --test vm --cargo-profile system \
                 --list-type binaries-only --message-format json";
    let (binaries, packages) = (folder().join("binaries.json"), folder().join("packages.json"));
    println!("building the tests");
    fs::write(&binaries, output(&mut cargo(build))?)?;
    fs::write(&packages, output(&mut cargo("metadata --format-version 1 --no-deps"))?)?;
    let program = find("cargo-nextest").context("no cargo-nextest")?;
    let mut command: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
    command.extend([
        program.display().to_string(),
        "nextest".to_owned(),
        "run".to_owned(),
        format!("--profile={profile}"),
        format!("--binaries-metadata={}", binaries.display()),
        format!("--cargo-metadata={}", packages.display()),
    ]);
    command.extend(arguments.iter().map(|word| (*word).to_owned()));
    let status = run(&Options { limit, ..Options::default() }, &command)?;
    ensure!(status == 0, "nextest in the virtual machine: exit status {status}");
    Ok(())
}
