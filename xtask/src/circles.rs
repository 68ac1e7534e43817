//! `cargo xtask circles`: fails when modules of a crate import each other.
//!
//! Two modules that stand beside each other form a circle when each of them, or something
//! inside it, names the other, also by way of further modules. A module and those inside it are
//! one room and may name each other. Tests do not count.

mod graph;
mod tree;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tools::{cargo, output};
use tree::Tree;

/// Prints each circle of each crate of the workspace; any is an error.
pub fn check() -> Result<()> {
    let mut found = 0;
    for (name, root) in roots()? {
        let tree = Tree::read(&root).with_context(|| format!("reading crate {name}"))?;
        for circle in graph::circles(&tree) {
            println!("{name}: {circle}");
            found += 1;
        }
    }
    if found > 0 {
        bail!("{found} circles: move what both sides need into a module that imports neither");
    }
    Ok(())
}

/// Names and first files of the libraries and programs of the workspace.
fn roots() -> Result<Vec<(String, PathBuf)>> {
    let metadata = output(&mut cargo("metadata --no-deps --format-version 1"))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut roots = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        for target in package["targets"].as_array().context("no targets")? {
            let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
            if matches!(target["kind"][0].as_str(), Some("lib" | "bin" | "test")) {
                roots.push((text(&target["name"])?, text(&target["src_path"])?.into()));
            }
        }
    }
    Ok(roots)
}
