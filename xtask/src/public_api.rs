//! `cargo xtask api`: what the crates offer to programs that embed them, as lists in `docs/api`, so
//! that a change of it is seen in a diff.
//!
//! The lists are made from the JSON of rustdoc, which a stable rustdoc writes only if
//! `RUSTC_BOOTSTRAP` is set. A script sets it for rustdoc alone: for all of cargo it would change
//! what build scripts find, and compile the dependencies once more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::Outcome;
use crate::tools::{cargo, root, run};

/// The libraries of the workspace, but for the plugins of CNI, which are a program.
const CRATES: [&str; 15] = [
    "weave-api",
    "weave-core",
    "weave-fastdp",
    "weave-firewall",
    "weave-host",
    "weave-ipam",
    "weave-netlink",
    "weave-node",
    "weave-odp",
    "weave-port",
    "weave-rtnl",
    "weave-secretbox",
    "weave-sleeve",
    "weave-tcp",
    "weave-xfrm",
];

/// The version of rustdoc's JSON that the crate `public-api` reads. Rust 1.95 writes it.
const FORMAT: u64 = 57;

/// Lines shown of a list that differs.
const MOST_SHOWN: usize = 20;

const RUSTDOC: &str = "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";

/// Fails if a list is not what its crate offers; with `write`, writes the lists.
pub fn check(write: bool) -> Result<Outcome> {
    let target = root().join("target");
    describe(&target)?;
    let lists = root().join("docs/api");
    let mut differing = Vec::new();
    for name in CRATES {
        let json = target.join("doc").join(format!("{}.json", name.replace('-', "_")));
        let format = format_of(&json)?;
        if format != FORMAT {
            let reason = format!("this Rust describes crates in format {format}, not {FORMAT}");
            return Ok(Outcome::Skipped(reason));
        }
        let (list, file) = (list(&json)?, lists.join(format!("{name}.txt")));
        let before = fs::read_to_string(&file).unwrap_or_default();
        if list == before {
            continue;
        }
        if write {
            fs::create_dir_all(&lists)?;
            fs::write(&file, list).with_context(|| format!("cannot write {}", file.display()))?;
        } else {
            show(name, &before, &list);
            differing.push(name);
        }
    }
    if !differing.is_empty() {
        bail!(
            "docs/api is not what {} offer: `cargo xtask api --write` writes it, and the diff is a \
             part of the change",
            differing.join(", ")
        );
    }
    Ok(Outcome::Passed)
}

/// Has rustdoc describe the crates.
fn describe(target: &Path) -> Result<()> {
    let rustdoc = script(target)?;
    let mut command = cargo("doc --quiet --no-deps --lib");
    command.args(CRATES.iter().flat_map(|name| ["-p", name]));
    command.env("RUSTDOC", rustdoc);
    command.env("RUSTDOCFLAGS", "-Z unstable-options --output-format json");
    run(&mut command)
}

fn script(target: &Path) -> Result<PathBuf> {
    let path = target.join("rustdoc-json.sh");
    fs::create_dir_all(target)?;
    fs::write(&path, RUSTDOC)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn format_of(json: &Path) -> Result<u64> {
    let text = fs::read_to_string(json).with_context(|| format!("no {}", json.display()))?;
    let description: Value = serde_json::from_str(&text)?;
    description["format_version"].as_u64().context("rustdoc says no version of its JSON")
}

/// One public item a line, without what the compiler or a derive adds to each type.
fn list(json: &Path) -> Result<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    Ok(format!("{api}"))
}

fn show(name: &str, before: &str, now: &str) {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("-{line}"));
    let added = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+{line}"));
    let all: Vec<_> = gone.chain(added).collect();
    println!("{name}:");
    for line in all.iter().take(MOST_SHOWN) {
        println!("  {line}");
    }
    if let Some(more) = all.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        println!("  and {more} more lines");
    }
}
