//! `cargo xtask bench cni`: how long a container waits for its network, with `weave-net` and
//! addresses of the router, and with the plugin `bridge` and addresses of `host-local`, on one
//! host.
//!
//! The two take turns, so that a disturbance of the machine hits both.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use weave_testbed::cni::{PluginList, Plugins};
use weave_testbed::engines::{Containerd, Engines};
use weave_testbed::{Container, Host, Lab, RouterOptions, clean_up_on_signals};

use super::times::Times;
use crate::tools::{cargo, install_packages, root, run};
use crate::usage::Usage;

const USAGE: &str = "usage: cargo xtask bench cni [--weave FILE] [--count CONTAINERS]";
/// How many are added at the same time, beside one.
const AT_ONCE: usize = 20;
/// A runtime does much more than to add a network, so fewer of its containers are measured.
const RUNTIME_SHARE: usize = 5;

struct Options {
    weave: Option<PathBuf>,
    count: usize,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { weave: None, count: 200 };
        for pair in arguments.chunks(2) {
            match pair {
                ["--weave", file] => options.weave = Some(file.into()),
                ["--count", count] => {
                    options.count = count.parse().map_err(|_| Usage(USAGE.to_owned()))?;
                }
                _ => return Err(Usage(USAGE.to_owned()).into()),
            }
        }
        Ok(options)
    }
}

/// Measures and prints a table.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    clean_up_on_signals()?;
    install_packages()?;
    let weave = match options.weave {
        Some(file) => file.canonicalize().with_context(|| format!("{}", file.display()))?,
        None => {
            println!("Building the release binaries; the first time takes some minutes.");
            run(&mut cargo("build --release --quiet --bins"))?;
            root().join("target/release/weave")
        }
    };
    let lab = Lab::new(weave)?;
    let host = lab.host("h1")?;
    let range = "--ipalloc-range=10.32.0.0/12";
    let options_of_router = RouterOptions::new().argument(range);
    let _router = host.router(options_of_router.argument("--ipalloc-init=consensus=1"))?;
    let engines = Engines::new(&host)?;
    engines.setup_cni(&host)?;
    let state = lab.directory().join("host-local");
    let bridge = json!({
        "type": "bridge", "bridge": "br0", "isGateway": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": state,
            "ranges": [[{ "subnet": "10.60.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
        },
    });
    let contenders = [json!({ "type": "weave-net", "hairpinMode": true }), bridge];
    println!(
        "\n| | at once | weave-net, median | 99 % | bridge, median | 99 % | ratio of medians |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    plugins(&host, &engines, &contenders, options.count)?;
    runtime(&engines, &contenders, (options.count / RUNTIME_SHARE).max(1))?;
    lab.finish()
}

/// ADD of the plugin, and of the list with those that are chained behind it.
fn plugins(
    host: &Host,
    engines: &Engines<'_>,
    contenders: &[Value; 2],
    count: usize,
) -> Result<()> {
    let containers: Vec<_> =
        (1..=AT_ONCE).map(|n| host.bare_container(&format!("c{n}"))).collect::<Result<_>>()?;
    let plugins = engines.plugins();
    let chained = |first: &Value| {
        let mut first = first.clone();
        // As `weave setup-cni` has it.
        first["name"] = "weave".into();
        let ports = json!({
            "type": "portmap", "capabilities": { "portMappings": true }, "snat": true,
        });
        let rate = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
        vec![first, ports, rate]
    };
    let list = |name: &str, plugins: Vec<Value>| {
        PluginList::new(json!({ "cniVersion": "1.0.0", "name": name, "plugins": plugins }))
    };
    let alone = contenders.each_ref().map(|first| list("alone", vec![first.clone()]));
    let whole = contenders.each_ref().map(|first| list("weave", chained(first)));
    for (what, lists) in [("ADD of the plugin", alone), ("ADD of the list", whole)] {
        for at_once in [1, AT_ONCE] {
            let mut times = [Times::default(), Times::default()];
            for _ in 0..count.div_ceil(AT_ONCE) {
                for (list, times) in lists.iter().zip(&mut times) {
                    times.0.extend(round(list, &plugins, &containers, at_once)?);
                }
            }
            print_row(what, at_once, &times);
        }
    }
    Ok(())
}

/// Adds all containers, this many at once, and deletes them.
fn round(
    list: &PluginList,
    plugins: &Plugins<'_>,
    containers: &[Container],
    at_once: usize,
) -> Result<Vec<Duration>> {
    let numbered: Vec<_> = containers.iter().enumerate().collect();
    let mut times = Vec::new();
    for group in numbered.chunks(at_once) {
        let added = together(group.len(), |index| {
            let (number, container) = group[index];
            let (id, netns) = (format!("bench-{number}"), container.namespace.path());
            list.add(plugins, &id, &netns, &Value::Null)
        })?;
        for ((number, container), (time, result)) in group.iter().zip(added) {
            let (id, netns) = (format!("bench-{number}"), container.namespace.path());
            list.delete(plugins, &id, &netns, &Value::Null, &result)?;
            times.push(time);
        }
    }
    Ok(times)
}

/// `ctr run` from its start to its end, with either network and with none.
fn runtime(engines: &Engines<'_>, contenders: &[Value; 2], count: usize) -> Result<()> {
    let containerd = Containerd::start(engines)?;
    let networks = engines.path("/etc/cni/net.d");
    for entry in std::fs::read_dir(&networks)? {
        std::fs::remove_file(entry?.path())?;
    }
    // A runtime takes the first file of the folder.
    let choose = |contender: &Value| -> Result<()> {
        let list = json!({ "cniVersion": "1.0.0", "name": "weave", "plugins": [contender] });
        Ok(std::fs::write(networks.join("10-network.conflist"), list.to_string())?)
    };
    for at_once in [1, AT_ONCE] {
        let mut times = [Times::default(), Times::default()];
        let mut without = Times::default();
        for number in 0..count.div_ceil(at_once) {
            let name = |index: usize| format!("r{at_once}-{number}-{index}");
            for (contender, times) in contenders.iter().zip(&mut times) {
                choose(contender)?;
                let ran = together(at_once, |index| containerd.run(&name(index), "true"))?;
                times.0.extend(ran.into_iter().map(|(time, _)| time));
            }
            let ran = together(at_once, |index| containerd.run_alone(&name(index), "true"))?;
            without.0.extend(ran.into_iter().map(|(time, _)| time));
        }
        print_row("`ctr run`, all of it", at_once, &times);
        println!(
            "| `ctr run` without network: {:.1} ms, 99 % {:.1} ms | {at_once} | {:+.1} ms | | {:+.1} ms | | |",
            without.per_cent(50),
            without.per_cent(99),
            times[0].per_cent(50) - without.per_cent(50),
            times[1].per_cent(50) - without.per_cent(50),
        );
    }
    Ok(())
}

/// Does something several times at the same moment, and tells how long each took.
fn together<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(Duration, T)>> {
    let barrier = Barrier::new(count);
    let one = |index| {
        barrier.wait();
        let start = Instant::now();
        work(index).map(|value| (start.elapsed(), value))
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || one(index))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        threads.into_iter().map(join).collect()
    })
}

fn print_row(what: &str, at_once: usize, [ours, other]: &[Times; 2]) {
    let (median, reference) = (ours.per_cent(50), other.per_cent(50));
    println!(
        "| {what} ({} each) | {at_once} | {median:.1} ms | {:.1} ms | {reference:.1} ms | {:.1} ms | {:.2} |",
        ours.0.len(),
        ours.per_cent(99),
        other.per_cent(99),
        median / reference
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        assert_eq!(Options::parse(&["--count", "20"]).unwrap().count, 20);
        assert!(Options::parse(&["--count"]).is_err_and(|error| error.is::<Usage>()));
        assert!(Options::parse(&["--count", "x"]).is_err_and(|error| error.is::<Usage>()));
    }
}
