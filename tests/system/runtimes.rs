//! Containers of real runtimes, on the list of plugins that `weave setup-cni` writes, with
//! addresses of the routers.
//!
//! ```text
//!  containers --- h1 ===== h2 --- containers
//!                  |
//!                world, which knows no way back
//! ```

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use weave_testbed::cni::Plugins;
use weave_testbed::engines::{Containerd, Engines, Podman};
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, try_until};

use crate::{SOON, lab};

const RANGE: &str = "--ipalloc-range=10.32.0.0/12";

fn options(peers: u8) -> RouterOptions {
    RouterOptions::new().argument(RANGE).argument(&format!("--ipalloc-init=consensus={peers}"))
}

/// The only address of a container, asked of the router.
fn address(router: &Router, id: &str) -> Result<Ipv4Addr> {
    let body = router.get(&format!("/ip/{id}"))?.body;
    let (address, bits) = body.trim().split_once('/').with_context(|| format!("{id}: {body}"))?;
    ensure!(bits == "12", "{id}: {body}");
    Ok(address.parse()?)
}

/// All containers with addresses, and these.
fn owned(router: &Router) -> Result<Vec<(String, Vec<String>)>> {
    let all: Value = serde_json::from_str(&router.get("/ip")?.body)?;
    let texts = |list: &Value| {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let entries = all["owned"].as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let id = entry["containerid"].as_str().context("no containerid")?;
            Ok((id.to_owned(), texts(&entry["addrs"])))
        })
        .collect()
}

/// Nobody has an address but the host.
fn only_the_host_is_left(router: &Router) -> Result<()> {
    let ids: Vec<_> = owned(router)?.into_iter().map(|(id, _)| id).collect();
    ensure!(ids == ["weave:expose"], "{ids:?} still have addresses");
    Ok(())
}

fn ports(host: &Host) -> Result<usize> {
    let links = host.namespace.ip("-o link show master weave")?;
    Ok(links.lines().filter(|line| line.contains("vethwepl")).count())
}

fn notes(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("weave")).map_or(0, Iterator::count)
}

fn reaches(host: &Host, address: Ipv4Addr) -> bool {
    host.namespace.exec(&format!("ping -q -c 1 -W 1 {address}")).is_ok()
}

#[test]
fn containers_of_containerd_reach_each_other_the_hosts_and_the_world() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, world] = lab.hosts()?;
    let (wire, outside) = (lab.wire(&h1, &h2, 1500)?, lab.wire(&h1, &world, 1500)?);
    h1.namespace.sysctl("ipv4/ip_forward", "1")?;
    let r1 = h1.router(options(2))?;
    let r2 = h2.router(options(2).peer(wire.a()))?;
    let (e1, e2) = (Engines::new(&h1)?, Engines::new(&h2)?);
    e1.setup_cni(&h1)?;
    e2.setup_cni(&h2)?;
    let (d1, d2) = (Containerd::start(&e1)?, Containerd::start(&e2)?);

    let (c1, c2) = (d1.start_container("c1", "sleep 300")?, d2.start_container("c2", "sleep 300")?);
    let (a1, a2) = (address(&r1, &d1.id("c1"))?, address(&r2, &d2.id("c2"))?);
    try_until("c1 reaches c2", SOON, || c1.exec(&format!("ping -q -c 1 -W 1 {a2}")))?;
    c2.exec(&format!("ping -q -c 3 -W 2 {a1}"))?;
    let shown = c1.exec("ip -4 addr show eth0; ip route")?;
    ensure!(shown.contains(&format!("inet {a1}/12 ")), "{shown}");

    // The host has an address since it is the gateway; without, it reaches no container.
    let h1_address = h1.weave("expose")?;
    ensure!(shown.contains(&format!("default via {}", h1_address.trim())), "{shown}");
    ensure!(reaches(&h1, a1) && reaches(&h1, a2), "the host does not reach containers");
    ensure!(h1.weave("hide")? == h1_address);
    ensure!(!reaches(&h1, a1), "hidden, and reaches a container all the same");
    ensure!(h1.weave("expose")? == h1_address, "another address than the gateway of containers");
    ensure!(reaches(&h1, a1), "exposed, and does not reach a container");
    // The world sends its answers to the host.
    c1.exec(&format!("ping -q -c 1 -W 2 {}", outside.b()))?;

    // A container that ends is deleted without its namespace.
    let said = d1.run("c3", &format!("ip -4 addr show eth0; ping -q -c 1 -W 2 {a2}"))?;
    ensure!(!said.contains(&format!("inet {a1}/")), "the address of c1 once more: {said}");
    ensure!(said.contains("1 packets received"), "{said}");
    ensure!(d2.run_alone("c4", "ip -4 addr")?.lines().all(|line| !line.contains("eth0")));
    c1.stop()?;
    c2.stop()?;
    only_the_host_is_left(&r1)?;
    only_the_host_is_left(&r2)?;
    for (host, engines) in [(&h1, &e1), (&h2, &e2)] {
        assert_eq!((ports(host)?, notes(&engines.notes())), (0, 0));
    }
    lab.finish()
}

/// What a web server says to a program on a host.
fn page(host: &Host, server: &str) -> Result<String> {
    let server = server.to_owned();
    host.namespace.enter(move || -> Result<String> {
        let mut stream = TcpStream::connect(&server)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    })?
}

#[test]
fn podman_publishes_ports() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    h1.namespace.sysctl("ipv4/ip_forward", "1")?;
    let r1 = h1.router(options(1))?;
    let engines = Engines::new(&h1)?;
    engines.setup_cni(&h1)?;
    let podman = Podman::new(&engines)?;
    assert_eq!(podman.podman(&["info", "--format", "{{.Host.NetworkBackend}}"])?, "cni\n");
    let serve = "mkdir /www; echo from the container > /www/index.html; httpd -f -p 80 -h /www";
    let id = podman.run(&["--detach", "--publish", "8080:80"], serve)?;
    let address = address(&r1, &id)?;
    let fetch = |host: &Host, from: &str| {
        try_until("the page", SOON, || {
            let page = page(host, from)?;
            ensure!(page.ends_with("\r\n\r\nfrom the container\n"), "{page}");
            Ok(())
        })
    };
    fetch(&h1, &format!("{address}:80"))?;
    fetch(&h1, "127.0.0.1:8080")?;
    fetch(&h2, &format!("{}:8080", wire.a()))?;
    // Another container reaches it by the address of the host, and so does it itself.
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {} 8080", wire.a());
    let page = podman.run(&["--rm"], &ask)?;
    ensure!(page.ends_with("from the container"), "{page}");
    let page = podman.podman(&["exec", &id, "sh", "-c", &ask])?;
    ensure!(page.ends_with("from the container\n"), "{page}");

    podman.podman(&["rm", "--force", "--time", "0", &id])?;
    only_the_host_is_left(&r1)?;
    assert_eq!((ports(&h1)?, notes(&engines.notes())), (0, 0));
    let rules = h1.namespace.exec("iptables-save -t nat")?;
    ensure!(!rules.contains("8080"), "{rules}");
    lab.finish()
}

#[test]
fn a_list_with_ports_and_bandwidth_is_added_checked_and_deleted() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(options(1))?;
    let engines = Engines::new(&host)?;
    engines.setup_cni(&host)?;
    let (plugins, list) = (engines.plugins(), engines.list()?);
    let container = host.bare_container("c1")?;
    let netns = container.namespace.path();
    let wishes = json!({
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": {
            "ingressRate": 1_000_000, "ingressBurst": 100_000,
            "egressRate": 2_000_000, "egressBurst": 100_000,
        },
    });
    let result = list.add(&plugins, "c1", &netns, &wishes)?;
    assert_eq!(result["ips"][0]["address"], format!("{}/12", address(&router, "c1")?));
    // Asked about ports, the `portmap` of Debian 12 misses rules of IPv6 for containers without
    // IPv6.
    let rates = json!({ "bandwidth": wishes["bandwidth"] });
    list.check(&plugins, "c1", &netns, &rates, &result)?;
    let gateway = result["ips"][0]["gateway"].as_str().context("no gateway")?.to_owned();
    container.wait_ping(&gateway, SOON)?;
    let port = result["interfaces"][0]["name"].as_str().context("no port")?;
    let queues = || host.namespace.exec("tc qdisc show");
    let shown = queues()?;
    ensure!(shown.contains(&format!("dev {port} root")), "{shown}");
    ensure!(shown.contains("rate 1Mbit") && shown.contains("rate 2Mbit"), "{shown}");

    list.delete(&plugins, "c1", &netns, &wishes, &result)?;
    list.delete(&plugins, "c1", &netns, &wishes, &result)?;
    ensure!(!queues()?.contains("tbf"), "a queue is left");
    only_the_host_is_left(&router)?;
    assert_eq!((ports(&host)?, notes(&engines.notes())), (0, 0));
    lab.finish()
}

/// Both plugins with one host that has containers by them.
struct Direct<'a> {
    plugins: Plugins<'a>,
    containers: Vec<(String, Container)>,
}

impl<'a> Direct<'a> {
    fn new(lab: &Lab, host: &'a Host, count: usize) -> Result<Self> {
        let folder = lab.directory().join(format!("cni-{}", host.name()));
        std::fs::create_dir_all(&folder)?;
        for name in ["weave-net", "weave-ipam"] {
            let plugin = env!("CARGO_BIN_EXE_weave-plugin");
            std::os::unix::fs::symlink(plugin, folder.join(name))?;
        }
        std::os::unix::fs::symlink("/usr/lib/cni/bridge", folder.join("bridge"))?;
        let plugins = Plugins::new(&host.namespace, &folder, &folder.join("state"));
        let container = |number| {
            let name = format!("{}-{number}", host.name());
            Ok((name.clone(), host.bare_container(&name)?))
        };
        Ok(Self { plugins, containers: (1..=count).map(container).collect::<Result<_>>()? })
    }

    fn config(plugin: &str) -> Value {
        json!({ "cniVersion": "1.1.0", "name": "weave", "type": plugin })
    }

    fn notes(lab: &Lab, host: &Host) -> usize {
        notes(&lab.directory().join(format!("cni-{}/state", host.name())))
    }

    /// For all containers at once; `done` counts. What each was answered.
    fn all_at_once(&self, command: &str, done: &AtomicUsize) -> Result<Vec<(String, Value)>> {
        let calls: Vec<_> = std::thread::scope(|scope| {
            let call = |(id, container): &(String, Container)| {
                let (plugins, id, netns) = (&self.plugins, id.clone(), container.namespace.path());
                scope.spawn(move || {
                    let config = Direct::config("weave-net");
                    let answer = plugins.call(command, &id, &netns, &config)?.done();
                    done.fetch_add(1, Ordering::Relaxed);
                    answer.map(|answer| (id.clone(), answer)).context(id)
                })
            };
            let threads: Vec<_> = self.containers.iter().map(call).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        calls.into_iter().map(|call| call.map_err(|_| anyhow!("a thread panicked"))?).collect()
    }
}

/// The address in a result, and that the router keeps it for nobody else.
fn kept(router: &Router, results: &[(String, Value)]) -> Result<BTreeSet<String>> {
    let owned = owned(router)?;
    let mut all = BTreeSet::new();
    for (id, result) in results {
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        let holders: Vec<_> = owned
            .iter()
            .filter(|(_, addresses)| addresses.iter().any(|held| held == address))
            .collect();
        ensure!(
            matches!(holders.as_slice(), [(holder, addresses)] if holder == id && addresses.len() == 1),
            "{id} was told {address}, which is of {holders:?}"
        );
        ensure!(all.insert(address.to_owned()), "{address} was given out twice");
    }
    ensure!(owned.len() == results.len() + 1, "more than these and the host: {owned:?}");
    Ok(all)
}

#[test]
fn a_hundred_containers_come_and_go_at_once() -> Result<()> {
    const EACH: usize = 50;
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(options(2))?;
    let r2 = h2.router(options(2).peer(wire.a()))?;
    let (d1, d2) = (Direct::new(&lab, &h1, EACH)?, Direct::new(&lab, &h2, EACH)?);
    let both = |command: &str| {
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<_> {
            let other = scope.spawn(|| d2.all_at_once(command, &done));
            let one = d1.all_at_once(command, &done);
            Ok((one?, other.join().map_err(|_| anyhow!("a thread panicked"))??))
        })
    };
    let (on1, on2) = both("ADD")?;
    let (mut all, more) = (kept(&r1, &on1)?, kept(&r2, &on2)?);
    all.extend(more);
    assert_eq!(all.len(), 2 * EACH, "an address was given out on both hosts");
    let last = on2[EACH - 1].1["ips"][0]["address"].as_str().context("no address")?;
    let last = last.split('/').next().context("no address")?;
    d1.containers[0].1.wait_ping(last, SOON)?;
    both("DEL")?;
    for (host, router) in [(&h1, &r1), (&h2, &r2)] {
        only_the_host_is_left(router)?;
        assert_eq!((ports(host)?, Direct::notes(&lab, host)), (0, 0));
    }
    lab.finish()
}

#[test]
fn a_killed_router_is_waited_for_and_forgets_no_container() -> Result<()> {
    const MANY: usize = 30;
    let lab = lab()?;
    let host = lab.host("h1")?;
    let mut router = host.router(options(1))?;
    let direct = Direct::new(&lab, &host, MANY)?;
    for command in ["ADD", "DEL", "ADD"] {
        let done = AtomicUsize::new(0);
        let (results, again) = std::thread::scope(|scope| -> Result<_> {
            let calls = scope.spawn(|| direct.all_at_once(command, &done));
            while done.load(Ordering::Relaxed) < MANY / 3 && !calls.is_finished() {
                std::thread::yield_now();
            }
            router.kill()?;
            let again = host.router(options(1))?;
            Ok((calls.join().map_err(|_| anyhow!("a thread panicked"))??, again))
        })?;
        router = again;
        if command == "ADD" {
            assert_eq!(kept(&router, &results)?.len(), MANY);
            assert_eq!((ports(&host)?, Direct::notes(&lab, &host)), (MANY, MANY));
            direct.containers[0].1.wait_ping("10.32.0.1", SOON)?;
        } else {
            // What was deleted while the router was away is owed until it is spoken to again.
            let mut config = Direct::config("weave-net");
            config["cni.dev/valid-attachments"] = json!([]);
            direct.plugins.call("GC", "", "", &config)?.done()?;
            only_the_host_is_left(&router)?;
            assert_eq!((ports(&host)?, Direct::notes(&lab, &host)), (0, 0));
        }
    }
    lab.finish()
}

#[test]
fn what_the_router_keeps_is_checked_and_collected() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let direct = Direct::new(&lab, &host, 3)?;
    let plugins = &direct.plugins;
    let net = Direct::config("weave-net");
    let status = |config: &Value| plugins.call("STATUS", "", "", config);
    for config in [&net, &Direct::config("weave-ipam")] {
        let (code, text) = status(config)?.refused()?;
        ensure!(code == 50 && text.contains("the weave router is not ready"), "{code} {text}");
    }
    let router = host.router(options(1))?;
    status(&net)?.done()?;
    status(&Direct::config("weave-ipam"))?.done()?;

    let ids: Vec<_> = direct.containers.iter().map(|(id, _)| id.as_str()).collect();
    let netns = |number: usize| direct.containers[number].1.namespace.path();
    let results = direct.all_at_once("ADD", &AtomicUsize::new(0))?;
    assert_eq!(direct.all_at_once("ADD", &AtomicUsize::new(0))?, results, "not the same again");
    let check = |number: usize| {
        let mut config = net.clone();
        config["prevResult"] = results[number].1.clone();
        plugins.call("CHECK", ids[number], &netns(number), &config)
    };
    check(0)?.done()?;
    ensure!(router.delete(&format!("/ip/{}", ids[0]))?.status == 204, "not released");
    let (code, text) = check(0)?.refused()?;
    ensure!(code == 102 && text.contains("the router does not keep"), "{code} {text}");

    // What is left of a container whose address is gone can be deleted, and deleted again.
    for _ in 0..2 {
        plugins.call("DEL", ids[0], &netns(0), &net)?.done()?;
    }
    let mut config = net.clone();
    config["cni.dev/valid-attachments"] = json!([{ "containerID": ids[2], "ifname": "eth0" }]);
    plugins.call("GC", "", "", &config)?.done()?;
    kept(&router, &results[2..])?;
    assert_eq!((ports(&host)?, Direct::notes(&lab, &host)), (1, 1));
    config["cni.dev/valid-attachments"] = json!([]);
    plugins.call("GC", "", "", &config)?.done()?;
    only_the_host_is_left(&router)?;
    assert_eq!((ports(&host)?, Direct::notes(&lab, &host)), (0, 0));

    // Addresses of the router in another network: the plugin `bridge`, which knows no version after
    // 1.0.0.
    let config = json!({
        "cniVersion": "1.0.0", "name": "weave", "type": "bridge", "bridge": "br0",
        "ipam": { "type": "weave-ipam", "subnet": "10.40.0.0/16" },
    });
    let result = plugins.call("ADD", ids[0], &netns(0), &config)?.done()?;
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    ensure!(address.starts_with("10.40.") && address.ends_with("/16"), "{address}");
    let mut checked = config.clone();
    checked["prevResult"] = result.clone();
    plugins.call("CHECK", ids[0], &netns(0), &checked)?.done()?;
    for _ in 0..2 {
        plugins.call("DEL", ids[0], &netns(0), &config)?.done()?;
    }
    only_the_host_is_left(&router)?;
    lab.finish()
}
