//! `cargo xtask bench`: what is measured, side by side.

mod cni;
mod ipam;
mod lab;
mod peers;
mod rollout;
mod times;

use anyhow::Result;

use crate::demo::release_binary;
use crate::tools::{cargo, install_packages, run};
use crate::usage::Usage;

/// Dispatches to the kinds of measurement.
pub fn bench(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["lab", rest @ ..] => lab::bench(rest),
        ["fastdp", rest @ ..] => lab::bench_in_machine(rest),
        ["peers", rest @ ..] => peers::bench(rest),
        ["cni", rest @ ..] => cni::bench(rest),
        ["ipam", rest @ ..] => ipam::bench(rest),
        ["rollout", rest @ ..] => rollout::bench(rest),
        ["limits"] => {
            install_packages()?;
            let router = release_binary()?;
            run(cargo("bench -p weave-sleeve --bench limits").env("WEAVE_ROUTER", router))
        }
        ["micro", rest @ ..] => {
            let mut command = cargo("bench --workspace");
            run(command.args(rest))
        }
        _ => {
            let kinds = "lab|fastdp|peers|cni|ipam|rollout|limits|micro";
            Err(Usage(format!("usage: cargo xtask bench {kinds} [ARG...]")).into())
        }
    }
}
