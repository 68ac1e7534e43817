//! `cargo xtask test`: everything a change has to pass, in the order of what fails fastest.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::steps::{Outcome, Steps};
use crate::tools::{self, cargo, output, run, run_for};
use crate::{circles, fuzz, no_io, public_api, soak, vm};

/// Examples that want interfaces; `lints` compiles them, and system tests run them.
const NEED_INTERFACES: [&str; 2] = ["datapath", "tunnel"];

/// No example may take longer.
const EXAMPLE_LIMIT: Duration = Duration::from_secs(60);

/// Runs all steps and tells whether they passed.
pub fn all() -> Result<bool> {
    let mut steps = Steps::default();
    steps.run("tools: programs of the machine", tools::install_packages);
    steps.run("tools: cargo commands", tools::install_cargo_commands);
    steps.run("format", || run(&mut cargo("fmt --all --check")));
    steps.run("format of the fuzz targets", || {
        run(&mut cargo("fmt --manifest-path fuzz/Cargo.toml --check"))
    });
    steps.run("modules that import each other", circles::check);
    steps.run("lints", || run(&mut cargo("clippy --workspace --all-targets -- -D warnings")));
    steps.run("documentation", || {
        let command = &mut cargo("doc --workspace --no-deps");
        run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    steps.run_or_skip("public interfaces are those of docs/api", || public_api::check(false));
    steps.run("dependencies: bans, licences, sources", || {
        run(&mut cargo("deny check bans licenses sources"))
    });
    steps.run_or_skip("dependencies: advisories", advisories);
    steps.run_tests("unit and integration tests", "default", || {
        run(&mut cargo("nextest run --workspace"))
    });
    steps.run("documentation tests", || run(&mut cargo("test --quiet --workspace --doc")));
    steps.run_tests("weave-core without default features: tests", "default", || {
        run(&mut cargo("nextest run -p weave-core --no-default-features"))
    });
    steps.run("weave-core without default features: no I/O", no_io::prove);
    steps.run("members that lie, in virtual time", || soak::seeds(soak::SEEDS));
    for (package, example) in examples()? {
        steps.run(&format!("example {example}"), || {
            // Building it takes as long as it takes.
            run(&mut cargo(&format!("build --quiet -p {package} --example {example}")))?;
            let line = format!("run --quiet -p {package} --example {example}");
            run_for(&mut cargo(&line), EXAMPLE_LIMIT)
        });
    }
    steps.run_tests("system tests in network namespaces", "system", || {
        run(&mut cargo("nextest run -p weave --profile system --cargo-profile system"))
    });
    steps.run_or_skip("tests in a virtual machine", || match vm::UNSUPPORTED {
        Some(reason) => Ok(Outcome::Skipped(reason.to_owned())),
        None => vm::test(&[]).map(|()| Outcome::Passed),
    });
    fuzz::add_steps(&mut steps, &fuzz::targets()?, fuzz::SMOKE_SECONDS);
    Ok(steps.finish())
}

/// Known vulnerabilities of dependencies; the database lives on another machine.
fn advisories() -> Result<Outcome> {
    if run(&mut cargo("deny fetch db")).is_err() {
        return Ok(Outcome::Skipped("the advisory database cannot be reached".to_owned()));
    }
    run(&mut cargo("deny check advisories")).map(|()| Outcome::Passed)
}

/// Package and name of each example in the workspace that runs by itself.
fn examples() -> Result<Vec<(String, String)>> {
    let metadata = output(&mut cargo("metadata --no-deps --format-version 1"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut examples = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        for target in package["targets"].as_array().context("no targets")? {
            let name = |value: &Value| value.as_str().map(str::to_owned).context("no name");
            let example = name(&target["name"])?;
            if target["kind"][0] == "example" && !NEED_INTERFACES.contains(&example.as_str()) {
                examples.push((name(&package["name"])?, example));
            }
        }
    }
    Ok(examples)
}
