//! Joining two hosts by a contender.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_testbed::{Host, Lab, Router, RouterOptions, try_until};

use super::contender::{Contender, Way};
use super::ends::{ADDRESS, Ends, Joined, containers, plug};
use super::underlay::Underlay;
use super::vswitch;

/// An update that was lost while the mesh forms comes again with the gossip of every 30 s.
const SOON: Duration = Duration::from_secs(45);

/// Binaries with the flags of our router.
#[derive(Clone, Copy, Debug)]
pub struct Routers<'a> {
    /// Ours.
    pub weave: &'a Path,
    /// Another one.
    pub other: Option<&'a Path>,
}

/// Sets a contender up and waits until the ends reach each other.
pub fn join<'h>(
    contender: &Contender,
    lab: &Lab,
    hosts: &'h [Host; 2],
    underlay: &Underlay,
    routers: Routers<'_>,
) -> Result<Joined<'h>> {
    let options = match contender.sealed {
        true => RouterOptions::new().password("secret"),
        false => RouterOptions::new(),
    };
    let joined = match contender.way {
        Way::Bridge => bridge(hosts, underlay)?,
        Way::Vxlan { tracked } => vxlan(hosts, underlay, tracked)?,
        Way::OpenVSwitch { bridged } => vswitch::join(hosts, underlay, bridged)?,
        Way::Weave(flags) => {
            let options = flags.iter().fold(options, |options, flag| options.argument(flag));
            let joined = weave(hosts, underlay, options)?;
            if contender.has_fastdp() {
                for router in joined.routers() {
                    wait_fastdp(router)?;
                }
            }
            joined
        }
        Way::Other => other(hosts, underlay, options, routers.other)?,
        Way::Rival(rival) => rival.join(lab, hosts, underlay)?,
    };
    let [from, _] = joined.ends();
    try_until("the ends reach each other", SOON, || {
        from.exec(&format!("ping -q -c 1 -W 1 {}", joined.address()))
    })?;
    Ok(joined)
}

fn bridge<'h>(hosts: &'h [Host; 2], underlay: &Underlay) -> Result<Joined<'h>> {
    for (host, device) in hosts.iter().zip(underlay.devices()) {
        host.namespace.ip(&format!("addr flush dev {device}"))?;
    }
    let ends = Ends::Containers(containers(hosts, underlay.devices(), 1500)?);
    Ok(Joined::new(ends, ADDRESS, "ip", Vec::new()))
}

/// Rules of the kind that has a host track connections.
const TRACKING: [&str; 2] = [
    "iptables -t nat -A POSTROUTING -j RETURN",
    "iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
];

fn vxlan<'h>(hosts: &'h [Host; 2], underlay: &Underlay, tracked: bool) -> Result<Joined<'h>> {
    for host in hosts.iter().filter(|_| tracked) {
        TRACKING.iter().try_for_each(|rule| host.namespace.exec(rule).map(drop))?;
    }
    let [a, b] = underlay.addresses();
    for (host, own, other) in [(&hosts[0], a, b), (&hosts[1], b, a)] {
        host.namespace
            .ip(&format!("link add vx type vxlan id 42 local {own} remote {other} dstport 4789"))?;
    }
    let ends = Ends::Containers(containers(hosts, ["vx"; 2], 1450)?);
    Ok(Joined::new(ends, ADDRESS, "udp dst port 4789", Vec::new()))
}

/// Sleeve and fast datapath. Later pieces of a fragmented datagram have no port.
const OVERLAYS: &str = "udp port 6783 or udp port 6784 or ip[6:2] & 0x1fff != 0";

fn weave<'h>(
    hosts: &'h [Host; 2],
    underlay: &Underlay,
    options: RouterOptions,
) -> Result<Joined<'h>> {
    let routers = connected(hosts, underlay, options)?;
    let [h1, h2] = hosts;
    let containers = [h1.container("c1", "10.32.0.1/12")?, h2.container("c2", "10.32.0.2/12")?];
    Ok(Joined::by_routers(containers, OVERLAYS, routers))
}

fn wait_fastdp(router: &Router<'_>) -> Result<()> {
    try_until("the fast datapath", SOON, || {
        let page = router.status("connections")?;
        ensure!(page.contains(" established fastdp "), "not in:\n{page}");
        Ok(())
    })
}

fn other<'h>(
    hosts: &'h [Host; 2],
    underlay: &Underlay,
    options: RouterOptions,
    program: Option<&Path>,
) -> Result<Joined<'h>> {
    let options = ["--no-fastdp", "--no-dns", "--docker-api=", "--ipalloc-range=10.32.0.0/12"]
        .into_iter()
        .fold(options.program(program.context("no other router given")?), RouterOptions::argument);
    let routers = connected(hosts, underlay, options)?;
    // The MTU that the `weave` command of Weave Net gives to containers.
    let containers = plug(hosts, "weave", 1376)?;
    for container in &containers {
        container.namespace.exec("ethtool -K ethwe tx off")?;
    }
    Ok(Joined::by_routers(containers, OVERLAYS, routers))
}

fn connected<'h>(
    hosts: &'h [Host; 2],
    underlay: &Underlay,
    options: RouterOptions,
) -> Result<Vec<Router<'h>>> {
    let [first, second] = hosts;
    let first = first.router(options.clone())?;
    let second = second.router(options.peer(underlay.addresses()[0]))?;
    let routers = vec![first, second];
    for router in &routers {
        router.wait_established(1, SOON)?;
    }
    for router in &routers {
        // The best frame size is known a little later.
        router.wait_mtu(SOON, |mtu| mtu < 1500)?;
    }
    Ok(routers)
}
