//! What somebody, often a network manager, does to the ports on the bridge.
//!
//! ```text
//!  c1 --- vethwepl… --+
//!                     +-- weave, h1 --- vethwe-tap --- router
//!  c2 --- vethwepl… --+
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_testbed::{Host, RouterOptions, try_until};

use crate::{SOON, lab};

/// Ports are looked at each few seconds.
const MENDED: Duration = Duration::from_secs(20);

/// The ports of containers, in the order in which they were attached.
fn ports(host: &Host) -> Result<Vec<String>> {
    let list = host.namespace.ip("-o link show type veth")?;
    let mut found: Vec<(u32, String)> = list
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(": ")?;
            let name = rest.split(['@', ':']).next()?;
            let ours = name.starts_with("vethwepl");
            Some((number.trim().parse().ok()?, name.to_owned())).filter(|_| ours)
        })
        .collect();
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

fn shown(host: &Host, device: &str) -> Result<String> {
    host.namespace.ip(&format!("-d -o link show {device}"))
}

#[test]
fn the_port_of_a_container_is_mended() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::sleeve())?;
    let c1 = host.container("c1", "10.32.1.1/12")?;
    let c2 = host.container("c2", "10.32.1.2/12")?;
    c1.wait_ping("10.32.1.2", SOON)?;
    let port = ports(&host)?.into_iter().next().context("no port")?;
    for (damage, fault) in [
        ("nomaster", "was taken from the bridge"),
        ("down", "was set down"),
        ("type bridge_slave flood off bcast_flood off", "was kept from"),
        ("type bridge_slave learning off", "was kept from"),
        ("type bridge_slave isolated on", "was isolated"),
    ] {
        let told = router.log().matches(fault).count();
        host.namespace.ip(&format!("link set {port} {damage}"))?;
        // It is listed meanwhile.
        assert!(host.weave("ps")?.contains(" 10.32.1.1/12"), "{damage}");
        try_until(damage, MENDED, || {
            ensure!(router.log().matches(fault).count() > told, "nothing in the log");
            let port = shown(&host, &port)?;
            ensure!(port.contains("master weave") && port.contains("learning on"), "{port}");
            ensure!(port.contains(" flood on") && port.contains("bcast_flood on"), "{port}");
            ensure!(port.contains("isolated off"), "{port}");
            Ok(())
        })?;
        c1.wait_ping("10.32.1.2", SOON)?;
        c2.wait_ping("10.32.1.1", SOON)?;
    }
    drop(router);
    // Without a router it is said, and mended by hand.
    host.namespace.ip(&format!("link set {port} nomaster"))?;
    host.namespace.ip(&format!("link set {port} down"))?;
    let mut ps = host.namespace.command(env!("CARGO_BIN_EXE_weave"));
    let output = ps.arg("ps").output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let (first, second) = (c1.namespace.name(), c2.namespace.name());
    assert!(
        told.contains(&format!("{first}: its port {port} was taken from the bridge")),
        "{told}"
    );
    assert!(told.contains(&format!("{first}: its port {port} was set down")), "{told}");
    assert!(!told.contains(second), "{told}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.32.1.1/12"));
    host.weave(&format!("attach 10.32.1.1/12 {first}"))?;
    c1.wait_ping("10.32.1.2", SOON)?;
    lab.finish()
}

#[test]
fn the_port_of_the_router_is_mended() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let router = h1.router(RouterOptions::sleeve())?;
    let _other = h2.router(RouterOptions::sleeve().peer(wire.a()))?;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let _c2 = h2.container("c2", "10.32.1.2/12")?;
    c1.wait_ping("10.32.1.2", SOON)?;
    let port = "vethwe-tap";
    for (damage, sound) in [
        ("flood off", " flood on"),
        ("learning off", "learning on"),
        ("bcast_flood off mcast_flood off", "bcast_flood on"),
        ("isolated off", "isolated on"),
    ] {
        h1.namespace.ip(&format!("link set {port} type bridge_slave {damage}"))?;
        try_until(damage, MENDED, || {
            let shown = shown(&h1, port)?;
            ensure!(shown.contains(sound), "{shown}");
            Ok(())
        })?;
        c1.wait_ping("10.32.1.2", SOON)?;
    }
    router.wait_log("somebody changed bridge weave", SOON)?;
    lab.finish()
}

#[test]
fn nobody_gets_the_address_of_a_container_that_was_cut_off() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    // Two addresses for containers.
    let seed = format!("--ipalloc-init=seed={}", host.peer_name());
    let options = RouterOptions::sleeve().argument("--ipalloc-range=10.32.0.0/30").argument(&seed);
    let router = host.router(options)?;
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(|name| host.bare_container(name));
    let (c1, c2, c3) = (c1?, c2?, c3?);
    let first = host.weave(&format!("attach {}", c1.namespace.name()))?;
    let port = ports(&host)?.into_iter().next().context("no port")?;
    // Into a bridge of somebody else, who does not give it back.
    host.namespace.ip("link add other type bridge")?;
    host.namespace.ip(&format!("link set {port} master other"))?;
    let second = host.weave(&format!("attach {}", c2.namespace.name()))?;
    assert_ne!(first, second);
    router.wait_ready()?;
    router.wait_log(&format!("the port {port} of a container was put on another bridge"), SOON)?;
    let listed = host.weave("ps")?;
    ensure!(listed.contains(first.trim()), "{listed}");
    let mut third = host.namespace.command("timeout");
    third.args(["25", env!("CARGO_BIN_EXE_weave"), "attach", c3.namespace.name()]);
    third.env("WEAVE_DB_PREFIX", host.database());
    let output = third.output()?;
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // By hand it comes back.
    let again = host.weave(&format!("attach {}", c1.namespace.name()))?;
    assert_eq!(again, first);
    c2.wait_ping(first.trim(), SOON)?;
    lab.finish()
}
