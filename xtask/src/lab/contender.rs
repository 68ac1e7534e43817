//! The ways to join two containers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, Wire};

use super::measure::{self, Row};

/// An update that was lost while the mesh forms comes again with the gossip of every 30 s.
const SOON: Duration = Duration::from_secs(45);
const ADDRESS: &str = "10.32.0.2";

/// One way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// No overlay: the underlay is a port of the bridges. The upper limit of this machine.
    Bridge,
    /// The kernel's VXLAN, without encryption.
    Vxlan,
    /// Our router in user space.
    Sleeve {
        /// With a password.
        encrypted: bool,
    },
    /// Another router with the same flags.
    Other {
        /// With a password.
        encrypted: bool,
    },
}

impl Contender {
    /// All there are, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Bridge,
        Self::Vxlan,
        Self::Sleeve { encrypted: false },
        Self::Sleeve { encrypted: true },
        Self::Other { encrypted: false },
        Self::Other { encrypted: true },
    ];

    /// Its name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan",
            Self::Sleeve { encrypted: false } => "sleeve",
            Self::Sleeve { encrypted: true } => "sleeve-encrypted",
            Self::Other { encrypted: false } => "other",
            Self::Other { encrypted: true } => "other-encrypted",
        }
    }

    /// The contender of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contender| contender.name() == name)
    }

    /// Whether it needs another router's binary.
    pub fn is_other(self) -> bool {
        matches!(self, Self::Other { .. })
    }

    /// Builds the lab, measures, removes the lab.
    pub fn measure(self, binary: &Path, other: Option<&Path>, seconds: u32) -> Result<Row> {
        let lab = Lab::new(binary)?;
        let [h1, h2] = lab.hosts()?;
        let wire = lab.wire(&h1, &h2, 1500)?;
        let options = |encrypted: bool| {
            let options = RouterOptions::new();
            if encrypted { options.password("secret") } else { options }
        };
        let (routers, containers) = match self {
            Self::Bridge => (Vec::new(), bridged([&h1, &h2], &wire)?),
            Self::Vxlan => (Vec::new(), vxlan([&h1, &h2], &wire)?),
            Self::Sleeve { encrypted } => {
                let routers = routers([&h1, &h2], &wire, options(encrypted))?;
                (
                    routers,
                    [h1.container("c1", "10.32.0.1/12")?, h2.container("c2", "10.32.0.2/12")?],
                )
            }
            Self::Other { encrypted } => {
                let program = other.context("no other router given")?;
                let options = options(encrypted)
                    .program(program)
                    .argument("--no-fastdp")
                    .argument("--no-dns")
                    .argument("--docker-api=");
                (routers([&h1, &h2], &wire, options)?, plain([&h1, &h2], "weave", 1376)?)
            }
        };
        let [c1, c2] = &containers;
        c1.wait_ping(ADDRESS, SOON)?;
        let row = measure::row(self.name(), [c1, c2], ADDRESS, &routers, seconds)?;
        drop(routers);
        lab.finish()?;
        Ok(row)
    }
}

fn routers<'h>(
    hosts: [&'h Host; 2],
    wire: &Wire,
    options: RouterOptions,
) -> Result<Vec<Router<'h>>> {
    let first = hosts[0].router(options.clone())?;
    let second = hosts[1].router(options.peer(wire.a()))?;
    first.wait_established(1, SOON)?;
    second.wait_established(1, SOON)?;
    // The best frame size is known a little later.
    first.wait_mtu(SOON, |mtu| mtu < 1500)?;
    second.wait_mtu(SOON, |mtu| mtu < 1500)?;
    Ok(vec![first, second])
}

fn plain(hosts: [&Host; 2], bridge: &str, mtu: u32) -> Result<[Container; 2]> {
    let [h1, h2] = hosts;
    let c1 = h1.plain_container("c1", "10.32.0.1/12", bridge, mtu)?;
    let c2 = h2.plain_container("c2", "10.32.0.2/12", bridge, mtu)?;
    if bridge == "weave" {
        for container in [&c1, &c2] {
            container.namespace.exec("ethtool -K ethwe tx off")?;
        }
    }
    Ok([c1, c2])
}

fn make_bridge(host: &Host, port: &str) -> Result<()> {
    host.namespace.ip("link add name bridge type bridge")?;
    host.namespace.ip("link set dev bridge up")?;
    host.namespace.ip(&format!("link set {port} master bridge up"))?;
    Ok(())
}

fn bridged(hosts: [&Host; 2], wire: &Wire) -> Result<[Container; 2]> {
    for (host, device) in hosts.iter().zip([wire.device_a(), wire.device_b()]) {
        host.namespace.ip(&format!("addr flush dev {device}"))?;
        make_bridge(host, device)?;
    }
    plain(hosts, "bridge", 1500)
}

fn vxlan(hosts: [&Host; 2], wire: &Wire) -> Result<[Container; 2]> {
    for (host, own, other) in [(hosts[0], wire.a(), wire.b()), (hosts[1], wire.b(), wire.a())] {
        host.namespace
            .ip(&format!("link add vx type vxlan id 42 local {own} remote {other} dstport 4789"))?;
        make_bridge(host, "vx")?;
    }
    plain(hosts, "bridge", 1450)
}
