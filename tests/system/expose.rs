//! The host on its own switch, the world behind it, and the firewall between them.
//!
//! ```text
//!  c1 ---+
//!        +--- weave (10.32.0.1) h1 ===== world       (which knows no way to 10.32.0.0/12)
//!  c2 ---+
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::{Container, Host, Lab, RouterOptions, Wire};

use crate::{SOON, lab};

/// Rules come back within seconds, on a busy machine.
const MENDED: Duration = Duration::from_secs(20);

fn reaches(host: &Host, address: &str) -> bool {
    host.namespace.exec(&format!("ping -q -c 1 -W 1 {address}")).is_ok()
}

/// A host that forwards, with a world beside it.
fn gateway(lab: &Lab) -> Result<(Host, Host, Wire)> {
    let [host, world] = lab.hosts()?;
    let wire = lab.wire(&host, &world, 1500)?;
    host.namespace.sysctl("ipv4/ip_forward", "1")?;
    Ok((host, world, wire))
}

fn containers(host: &Host) -> Result<[Container; 2]> {
    let containers = [host.container("c1", "10.32.1.1/12")?, host.container("c2", "10.32.1.2/12")?];
    for container in &containers {
        container.namespace.ip("route add default via 10.32.0.1")?;
    }
    Ok(containers)
}

/// What the switch needs of a firewall, whoever keeps the rules; `damage` takes some away.
fn kept_in(backend: &str, flag: &str, before: &str, damage: &str, show: &str) -> Result<()> {
    let lab = lab()?;
    let (host, world, wire) = gateway(&lab)?;
    if !before.is_empty() {
        host.namespace.exec(before)?;
    }
    let clean = host.namespace.exec(show)?;
    let router = host.router(RouterOptions::new().argument(flag))?;
    assert!(router.status("")?.contains(&format!("       Firewall: {backend}\n")));
    let [c1, c2] = containers(&host)?;
    c1.wait_ping("10.32.1.2", SOON)?;
    assert!(!reaches(&host, "10.32.1.1"));
    assert_eq!(host.weave("expose 10.32.0.1/12")?, "10.32.0.1\n");
    c1.wait_ping("10.32.0.1", SOON)?;
    assert!(reaches(&host, "10.32.1.2"));
    c1.wait_ping(wire.b(), SOON)?;
    host.namespace.exec(damage)?;
    c1.wait_ping(wire.b(), MENDED)?;
    c2.wait_ping("10.32.1.1", MENDED)?;
    // With a way back, the world reaches what is exposed.
    world.namespace.ip(&format!("route add 10.32.0.0/12 via {}", wire.a()))?;
    assert!(reaches(&world, "10.32.1.1"));

    assert_eq!(host.weave("hide")?, "10.32.0.1\n");
    assert!(!reaches(&host, "10.32.1.1"));
    assert!(!host.namespace.exec(show)?.contains("10.32."));
    router.stop()?;
    assert!(host.namespace.exec(show)?.to_lowercase().contains("weave"), "containers go on");
    host.weave("reset")?;
    let left = host.namespace.exec(show)?;
    let rules = |text: &str| {
        let rules = text.lines().filter(|line| line.starts_with("-A") || line.contains("DROP"));
        rules.map(|line| line.split('[').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(rules(&left), rules(&clean), "{left}");
    assert!(!left.to_lowercase().contains("weave"), "{left}");
    lab.finish()
}

#[test]
fn iptables_on_nftables_is_kept() -> Result<()> {
    let drop = "iptables-nft -P FORWARD DROP";
    kept_in("iptables-nft", "--firewall=auto", drop, "iptables-nft -F", "iptables-nft-save")
}

#[test]
fn the_iptables_of_old_is_kept() -> Result<()> {
    let (drop, damage) = ("iptables-legacy -P FORWARD DROP", "iptables-legacy -t nat -F");
    kept_in("iptables-legacy", "--firewall=auto", drop, damage, "iptables-legacy-save")
}

#[test]
fn a_table_of_nftables_is_kept() -> Result<()> {
    kept_in("nftables", "--firewall=nftables", "", "nft flush ruleset", "nft list ruleset")
}

#[test]
fn what_is_exposed_outlives_router_and_bridge() -> Result<()> {
    let lab = lab()?;
    let (host, _world, wire) = gateway(&lab)?;
    let options = RouterOptions::new();
    let router = host.router(options.clone())?;
    let [c1, _c2] = containers(&host)?;
    host.weave("expose 10.32.0.1/12")?;
    host.weave("expose ip:10.33.0.1/16 --without-masquerade")?;
    let rules = || host.namespace.exec("iptables-nft -t nat -S WEAVE");
    let masquerading = rules()?;
    assert!(masquerading.contains("--random-fully"), "{masquerading}");
    assert!(!masquerading.contains("10.33."), "{masquerading}");
    // The bridge is made again with its addresses.
    host.namespace.ip("link del weave")?;
    c1.wait_ping(wire.b(), MENDED)?;
    router.stop()?;
    // As after a restart of the machine, but for the containers.
    host.namespace.exec("iptables-nft -t nat -F")?;
    host.namespace.ip("addr flush dev weave")?;
    let router = host.router(options)?;
    c1.wait_ping(wire.b(), SOON)?;
    assert_eq!(rules()?, masquerading);
    assert_eq!(router.get("/expose")?.body, "10.32.0.1/12\n10.33.0.1/16\n");
    assert_eq!(host.weave("hide 10.33.0.1/16")?, "10.33.0.1\n");
    assert_eq!(router.get("/expose")?.body, "10.32.0.1/12\n");
    router.stop()?;
    lab.finish()
}

#[test]
fn wrong_uses_say_what_is_wrong() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::new().argument("--firewall=none"))?;
    for (line, complaint) in [
        ("expose", "say which address the host gets, like 10.32.0.1/12"),
        ("expose net:10.32.0.0/12", "say which address the host gets, like 10.32.0.1/12"),
        ("expose 10.32.0.0/12", "is not an address with prefix length"),
        ("expose fd00::1/64", "IPv4 addresses only"),
    ] {
        let error = host.weave(line).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(complaint), "{line}: {error}");
    }
    assert_eq!(host.weave("hide")?, "");
    // Without rules there is an address all the same.
    assert_eq!(host.weave("expose 10.32.0.1/12 -h host.weave.local")?, "10.32.0.1\n");
    let c1 = host.container("c1", "10.32.1.1/12")?;
    c1.wait_ping("10.32.0.1", SOON)?;
    assert!(router.log().contains("is not masqueraded: there is no firewall"));
    let rules = host.namespace.exec("nft list ruleset").context("no nft")?;
    assert!(!rules.to_lowercase().contains("weave"), "{rules}");
    router.stop()?;
    lab.finish()
}

#[test]
fn a_host_with_an_address_on_the_switch_forwards() -> Result<()> {
    let lab = lab()?;
    let [host, world] = lab.hosts()?;
    let wire = lab.wire(&host, &world, 1500)?;
    host.namespace.sysctl("ipv4/ip_forward", "0")?;
    let setting = || host.namespace.exec("cat /proc/sys/net/ipv4/ip_forward");
    let router = host.router(RouterOptions::new())?;
    let [c1, _c2] = containers(&host)?;
    assert_eq!(setting()?, "0\n", "nobody needs it yet");
    host.weave("expose 10.32.0.1/12")?;
    c1.wait_ping(wire.b(), SOON)?;
    assert_eq!(setting()?, "1\n");
    // Somebody's settings are loaded again.
    host.namespace.sysctl("ipv4/ip_forward", "0")?;
    c1.wait_ping(wire.b(), MENDED)?;
    router.stop()?;
    host.namespace.sysctl("ipv4/ip_forward", "0")?;
    let router = host.router(RouterOptions::new().argument("--no-ip-forward"))?;
    let problem = "containers have no way out: net.ipv4.ip_forward is off";
    router.wait_log(problem, SOON)?;
    assert!(router.status("")?.contains(problem));
    assert_eq!(setting()?, "0\n");
    assert!(!reaches_from(&c1, wire.b()));
    lab.finish()
}

fn reaches_from(container: &Container, address: &str) -> bool {
    container.namespace.exec(&format!("ping -q -c 1 -W 1 {address}")).is_ok()
}
