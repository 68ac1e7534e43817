//! `cargo xtask cluster`: a real Kubernetes on this machine, whose nodes are namespaces.

mod options;
mod product;
mod programs;
mod test;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use weave_testbed::cluster::{self, Cluster, Lifetime};

use crate::usage::Usage;
use options::{DEFAULT_NAME, Network, Options};

const USAGE: &str = "usage: cargo xtask cluster up [OPTION...]\n       \
                     cargo xtask cluster down [--name NAME]\n       \
                     cargo xtask cluster run [OPTION...] -- COMMAND...\n       \
                     cargo xtask cluster test [OPTION...|--kubeconfig FILE] [-- NEXTEST-ARG...]\n\
                     options: --name NAME, --nodes N, --proxy iptables|nftables, \
                     --containerd debian|2, --network none|bridge, --binaries DIR, \
                     --weave DIR";

/// Dispatches to the uses of a cluster.
pub fn cluster(arguments: &[&str]) -> Result<ExitCode> {
    let Some((task, rest)) = arguments.split_first() else { return Err(usage().into()) };
    let (options, rest) = options::parse(rest)?;
    if options.kubeconfig.is_some() && *task != "test" {
        return Err(Usage(format!("cluster {task} takes no --kubeconfig")).into());
    }
    match (*task, rest.as_slice()) {
        ("up", []) => up(&options).map(|()| ExitCode::SUCCESS),
        ("down", []) => down(&options).map(|()| ExitCode::SUCCESS),
        ("run", [program, arguments @ ..]) => run(&options, program, arguments),
        ("test", rest) => test::test(&options, rest).map(|()| ExitCode::SUCCESS),
        _ => Err(usage().into()),
    }
}

fn usage() -> Usage {
    Usage(USAGE.to_owned())
}

/// Starts a cluster that runs until `down`.
fn up(options: &Options) -> Result<()> {
    let name = options.name.as_deref().unwrap_or(DEFAULT_NAME);
    let cluster = start(options, name, Lifetime::Kept)?;
    println!(
        "its folder, with logs and pki/admin.conf: {}\nuse it by `cargo xtask cluster run --name \
         {name} -- kubectl get nodes`; nodes are not ready before a network is applied",
        cluster.folder().display()
    );
    Ok(())
}

fn down(options: &Options) -> Result<()> {
    let name = options.name.as_deref().unwrap_or(DEFAULT_NAME);
    if !cluster::take_down(name) {
        bail!("no cluster {name} is up; there are: {}", cluster::names().join(", "));
    }
    Ok(())
}

/// Runs a command beside the cluster that is up, or beside one that lives as long as the command.
fn run(options: &Options, program: &str, arguments: &[&str]) -> Result<ExitCode> {
    let up = options.name.as_deref().unwrap_or(DEFAULT_NAME);
    let cluster = match Cluster::open(up) {
        Ok(cluster) => cluster,
        Err(_) => {
            let own = format!("run-{}", std::process::id());
            start(options, options.name.as_deref().unwrap_or(&own), Lifetime::Owner)?
        }
    };
    let status =
        cluster.run_outside(program, arguments).with_context(|| format!("starting {program}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, Into::into))
}

fn start(options: &Options, name: &str, lifetime: Lifetime) -> Result<Cluster> {
    programs::install()?;
    let programs = match &options.binaries {
        Some(folder) => vec![folder.clone()],
        None => programs::build(options.containerd)?,
    };
    let nodes = options.nodes.unwrap_or(2);
    cluster::take_down_on_signals()?;
    let began = Instant::now();
    let chosen = cluster::Options { nodes, proxy: options.proxy, programs };
    let cluster = Cluster::start(name, chosen, lifetime)?;
    if options.network == Network::Bridge {
        cluster.apply_bridge()?;
    }
    println!("cluster {name}: {nodes} nodes up in {:.1} s", began.elapsed().as_secs_f64());
    Ok(cluster)
}
