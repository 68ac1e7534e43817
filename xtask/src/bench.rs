//! `cargo xtask bench`: what is measured, side by side.

use anyhow::{Result, bail};

use crate::lab;
use crate::tools::{cargo, install_packages, run};

/// Dispatches to the kinds of measurement.
pub fn bench(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["lab", rest @ ..] => {
            install_packages()?;
            lab::bench(rest)
        }
        ["micro", rest @ ..] => {
            let mut command = cargo("bench --workspace");
            run(command.args(rest))
        }
        _ => bail!("usage: cargo xtask bench lab|micro [ARG...]"),
    }
}
