//! An underlay that delays, reorders and loses datagrams.
//!
//! ```text
//!  c1 --- h1 === p1 (switch) p2 === h2 --- c2
//! ```

use anyhow::{Context, Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{Namespace, RouterOptions};

use crate::{SOON, lab};

/// Of each direction. The jitter reorders: a datagram that waits less overtakes. The queue holds all that is on
/// its way, so that nothing but the loss asked for is lost.
const NETEM: &str = "loss 1% delay 5ms 1ms limit 10000";

/// The ports of the switch.
const PORTS: [&str; 2] = ["p1", "p2"];

/// How many datagrams netem has dropped on their way out of a port.
fn lost(switch: &Namespace, port: &str) -> Result<u64> {
    let statistics = switch.exec(&format!("tc -s qdisc show dev {port}"))?;
    let dropped = statistics.split("(dropped ").nth(1).context("no number")?;
    Ok(dropped.split(',').next().context("no number")?.parse()?)
}

fn streams_cross(options: &RouterOptions) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    for host in [&h1, &h2] {
        // A train is cut before it leaves the host, so that each datagram has a fate of its own.
        host.namespace.exec("ethtool -K eth0 tx-udp-segmentation off")?;
    }
    for port in PORTS {
        switch.exec(&format!("tc qdisc add dev {port} root netem {NETEM}"))?;
    }
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer("192.168.50.1"))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let ping = c1.ping("10.32.0.2", 200, "")?;
    ensure!(ping.received > 150 && ping.duplicates == 0, "{ping:?}");
    Stream::start(&c1, &c2, "10.32.0.2", 3_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 3_000_000)?.join()?;
    for port in PORTS {
        let lost = lost(&switch, port)?;
        ensure!(lost > 10, "{lost} datagrams were lost on their way out of {port}");
    }
    for router in [&r1, &r2] {
        ensure!(!router.log().contains("connection deleted"), "the connection ended");
    }
    lab.finish()
}

#[test]
fn streams_cross_a_path_that_loses_and_reorders() -> Result<()> {
    streams_cross(&RouterOptions::new())
}

#[test]
fn streams_cross_a_path_that_loses_and_reorders_sealed() -> Result<()> {
    streams_cross(&RouterOptions::new().password("p"))
}

#[test]
fn streams_cross_a_path_that_loses_and_reorders_in_the_legacy_format() -> Result<()> {
    streams_cross(&RouterOptions::new().argument("--sleeve-format=legacy"))
}
