//! Containers that runtimes lose: by the time of DEL their path leads elsewhere, the router is
//! away, or DEL never comes.
//!
//! ```text
//!  a, b, ... eth0 --- weave h1
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use weave_testbed::cni::{Answer, Plugins};
use weave_testbed::{Host, Lab, Router, RouterOptions, try_until};

use crate::{SOON, lab};

/// Half a minute of grace, two looks of 5 s, and a busy machine.
const REAPED: Duration = Duration::from_secs(90);

/// The plugins on a host whose router gives out the addresses.
struct Runtime<'lab> {
    plugins: Plugins<'lab>,
    folder: PathBuf,
}

impl<'lab> Runtime<'lab> {
    fn new(lab: &Lab, host: &'lab Host) -> Result<Self> {
        let folder = lab.directory().join("cni");
        fs::create_dir_all(&folder)?;
        symlink(env!("CARGO_BIN_EXE_weave-plugin"), folder.join("weave-net"))?;
        Ok(Self { plugins: Plugins::new(&host.namespace, &folder, &folder.join("state")), folder })
    }

    fn call(&self, command: &str, id: &str, netns: &str) -> Result<Answer> {
        self.plugins.call(command, id, netns, &config())
    }

    /// The address that a container gets.
    fn add(&self, id: &str, netns: &str) -> Result<String> {
        let result = self.call("ADD", id, netns)?.done().with_context(|| format!("ADD {id}"))?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        Ok(address.split('/').next().unwrap_or(address).to_owned())
    }

    fn notes(&self) -> usize {
        fs::read_dir(self.folder.join("state/weave")).map_or(0, Iterator::count)
    }
}

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "weave", "type": "weave-net" })
}

fn options(range: &str) -> RouterOptions {
    let options = RouterOptions::new().argument(&format!("--ipalloc-range={range}"));
    options.argument("--ipalloc-init=consensus=1")
}

/// All holders of addresses but the host.
fn holders(router: &Router) -> Result<Vec<String>> {
    let all: Value = serde_json::from_str(&router.get("/ip")?.body)?;
    let entries = all["owned"].as_array().into_iter().flatten();
    let ids = entries.filter_map(|entry| entry["containerid"].as_str());
    Ok(ids.filter(|id| *id != "weave:expose").map(str::to_owned).collect())
}

#[test]
fn a_path_that_leads_to_another_container_unplugs_nothing() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options("10.32.0.0/12"))?;
    ensure!(host.weave("expose")? == "10.32.0.1\n", "not the first address");
    let [a, b] = [host.bare_container("a")?, host.bare_container("b")?];
    runtime.add("ida", &a.namespace.path())?;
    runtime.add("idb", &b.namespace.path())?;
    let path_of_b = b.namespace.path();
    drop(a);
    let mut checked = config();
    checked["prevResult"] = json!({ "cniVersion": "1.1.0", "interfaces": [], "ips": [] });
    let answer = runtime.plugins.call("CHECK", "ida", &path_of_b, &checked)?;
    let (code, text) = answer.refused()?;
    ensure!(code == 102 && text.contains("was made for idb, not for ida"), "{code} {text}");
    let (_, text) = runtime.call("ADD", "ida", &path_of_b)?.refused()?;
    ensure!(text.contains("was made for idb, not for ida"), "{text}");

    // Of all these paths, none is that of the container.
    let queue = lab.directory().join("queue");
    mkfifo(&queue, Mode::S_IRWXU)?;
    let circle = lab.directory().join("circle");
    symlink(&circle, &circle)?;
    let text = |path: &PathBuf| path.display().to_string();
    let paths = [
        path_of_b.clone(),
        host.namespace.path(),
        text(&queue),
        text(&circle),
        lab.directory().join("nothing").display().to_string(),
        "/proc/kmsg".to_owned(),
        "/dev/tty".to_owned(),
        String::new(),
    ];
    let begun = Instant::now();
    for path in &paths {
        runtime.call("DEL", "ida", path)?.done().with_context(|| format!("DEL by {path}"))?;
    }
    for path in &paths[1..7] {
        let (code, text) = runtime.call("ADD", "idc", path)?.refused()?;
        ensure!([3, 4].contains(&code), "ADD by {path}: {code} {text}");
    }
    ensure!(begun.elapsed() < SOON, "something was waited for");
    b.wait_ping("10.32.0.1", SOON)?;
    assert_eq!((holders(&router)?, runtime.notes()), (vec!["idb".to_owned()], 1));
    let ps = host.weave("ps idb")?;
    ensure!(ps.starts_with("idb ") && ps.contains(" 10.32."), "{ps}");
    runtime.call("DEL", "idb", &path_of_b)?.done()?;
    ensure!(b.namespace.ip("link show dev eth0").is_err(), "not unplugged");
    router.stop()?;
    lab.finish()
}

#[test]
fn what_is_deleted_while_the_router_is_away_comes_back_with_it() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options("10.32.0.0/12"))?;
    ensure!(host.weave("expose")? == "10.32.0.1\n", "not the first address");
    let [a, b] = [host.bare_container("a")?, host.bare_container("b")?];
    runtime.add("ida", &a.namespace.path())?;
    runtime.add("idb", &b.namespace.path())?;
    router.stop()?;
    let begun = Instant::now();
    for _ in 0..2 {
        runtime.call("DEL", "ida", &a.namespace.path())?.done()?;
    }
    // Elsewhere, a router that is away is waited for 5 s.
    ensure!(begun.elapsed() < Duration::from_secs(4), "the router was waited for");
    ensure!(a.namespace.ip("link show dev eth0").is_err(), "not unplugged");
    // It needs no plugin to find out.
    fs::remove_dir_all(runtime.folder.join("state/.owed"))?;
    let router = host.router(options("10.32.0.0/12"))?;
    assert_eq!(holders(&router)?, ["ida", "idb"]);
    try_until("the address comes back", REAPED, || {
        let holders = holders(&router)?;
        ensure!(holders == ["idb"], "{holders:?}");
        Ok(())
    })?;
    b.wait_ping("10.32.0.1", SOON)?;
    router.stop()?;
    lab.finish()
}

#[test]
fn what_lost_containers_had_comes_back_and_what_living_ones_have_stays() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    // Room for the host and thirteen containers.
    let range = "10.32.0.0/28";
    let mut router = host.router(options(range))?;
    ensure!(host.weave("expose")? == "10.32.0.1\n", "not the first address");
    // The living ones are kept by a bind mount, with no process in them.
    let living = [host.bare_container("v")?, host.bare_container("w")?];
    for (id, container) in ["v", "w"].iter().zip(&living) {
        runtime.add(id, &container.namespace.path())?;
    }
    let note = host.namespace.ip("-d -o link show type veth")?;
    let unnoted = note.lines().find(|line| line.contains("alias weave w")).context("no note")?;
    let port = unnoted.split([':', '@']).nth(1).context("no name")?.trim().to_owned();
    let mut lost = Vec::new();
    for round in 0..2 {
        for number in 0..5 {
            let container = host.bare_container(&format!("lost{round}{number}"))?;
            runtime.add(&format!("lost{round}{number}"), &container.namespace.path())?;
            lost.push(container);
        }
        let page = host.weave("ps --holders")?;
        assert_eq!(page.lines().filter(|line| line.contains(" here ")).count(), 7, "{page}");
        ensure!(page.contains("weave:expose unwatched 10.32.0."), "{page}");
        lost.clear();
        // The second time together with the router and its bridge, as when the machine is started
        // again; and the note of one that lives has been wiped.
        if round == 1 {
            router.kill()?;
            host.namespace.exec(&format!("ip link set dev {port} alias other"))?;
            router = host.router(options(range))?;
        }
        try_until("the addresses come back", REAPED, || {
            let holders = holders(&router)?;
            ensure!(holders == ["v", "w"], "{holders:?}");
            Ok(())
        })?;
        router.wait_log("lost", SOON)?;
    }
    living[1].wait_ping("10.32.0.1", SOON)?;
    router.stop()?;
    lab.finish()
}
