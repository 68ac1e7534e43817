//! `cargo xtask cluster test`: the tests of `tests/cluster` beside a cluster.

use anyhow::{Result, ensure};
use weave_testbed::cluster::Lifetime;

use super::options::{Network, Options};
use super::product;
use crate::tools::{cargo, run};

/// How the tests are built and run.
const NEXTEST: &str = "nextest run -p weave-cluster --profile cluster";

/// Those of them that need the machines of the cluster.
const NEED_MACHINES: &str = "not test(/^machines::/)";

/// Runs the tests beside a cluster of their own, or beside that of the caller.
pub fn test(options: &Options, arguments: &[&str]) -> Result<()> {
    // What has to be fetched is fetched here: the host outside has no other network.
    run(&mut cargo(&format!("{NEXTEST} --no-run")))?;
    if let Some(kubeconfig) = &options.kubeconfig {
        println!("not run: tests below `machines`, which end nodes and daemons of the cluster");
        let mut command = cargo(NEXTEST);
        command.args(["-E", NEED_MACHINES]).args(arguments).env("KUBECONFIG", kubeconfig);
        return run(&mut command);
    }
    let product = match options.network {
        Network::None => Some(product::make(options.weave.as_deref())?),
        Network::Bridge => None,
    };
    let name = options.name.clone().unwrap_or_else(|| format!("test-{}", std::process::id()));
    let cluster = super::start(options, &name, Lifetime::Owner)?;
    let mut settings = Vec::new();
    if let Some(product) = &product {
        cluster.import_image(&product.archive)?;
        settings.push(format!("WEAVE_IMAGE_ARCHIVE={}", product.archive.display()));
        settings.push(format!("WEAVE_MANIFEST={}", product.manifest.display()));
    }
    let settings = settings.iter().map(String::as_str);
    let cargo = std::iter::once("cargo").chain(NEXTEST.split_whitespace());
    let words: Vec<&str> = settings.chain(cargo).chain(arguments.iter().copied()).collect();
    let status = cluster.run_outside("env", &words)?;
    ensure!(status.success(), "the tests: {status}");
    Ok(())
}
