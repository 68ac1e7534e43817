//! Two ends that a contender joins, between which is measured.

use std::process::Child;

use anyhow::Result;
use weave_testbed::{Container, Host, Namespace, Router};

/// Address of the second container, and of what a rival joins without containers the subnet.
pub const ADDRESS: &str = "10.32.0.2";

/// Two ends that reach each other through a contender, as long as this value lives.
pub struct Joined<'h> {
    ends: Ends<'h>,
    address: String,
    filter: String,
    /// Ours, which have a report to read.
    routers: Vec<Router<'h>>,
    _programs: Vec<Program>,
}

/// Between what is measured.
pub enum Ends<'h> {
    /// On a bridge each.
    Containers([Container; 2]),
    /// The hosts themselves, for what carries IP packets and no frames, or only those of the host.
    Hosts(&'h [Host; 2]),
}

/// A program, killed on drop.
pub struct Program(pub Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'h> Joined<'h> {
    /// What a rival has set up. `filter` is that of tcpdump for the tunnel's packets.
    pub fn new(ends: Ends<'h>, address: &str, filter: &str, programs: Vec<Program>) -> Self {
        let (address, filter) = (address.to_owned(), filter.to_owned());
        Self { ends, address, filter, routers: Vec::new(), _programs: programs }
    }

    /// Containers that routers which have a report to read have joined.
    pub fn by_routers(containers: [Container; 2], filter: &str, routers: Vec<Router<'h>>) -> Self {
        let joined = Self::new(Ends::Containers(containers), ADDRESS, filter, Vec::new());
        Self { routers, ..joined }
    }

    /// Where the load starts, and where it goes.
    pub fn ends(&self) -> [&Namespace; 2] {
        match &self.ends {
            Ends::Containers(containers) => containers.each_ref().map(|one| &one.namespace),
            Ends::Hosts(hosts) => hosts.each_ref().map(|host| &host.namespace),
        }
    }

    /// The containers, if it is these that talk.
    pub fn containers(&self) -> Option<[&Container; 2]> {
        match &self.ends {
            Ends::Containers(containers) => Some(containers.each_ref()),
            Ends::Hosts(_) => None,
        }
    }

    /// Address of the second end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What of the underlay's packets belongs to the contender, as a filter of tcpdump.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Our routers, if it is these that join.
    pub fn routers(&self) -> &[Router<'h>] {
        &self.routers
    }
}

/// A bridge on each host, with a port of this name and a container.
pub fn containers(hosts: &[Host; 2], ports: [&str; 2], mtu: u32) -> Result<[Container; 2]> {
    for (host, port) in hosts.iter().zip(ports) {
        host.namespace.ip("link add name bridge type bridge")?;
        host.namespace.ip("link set dev bridge up")?;
        host.namespace.ip(&format!("link set {port} mtu {mtu} master bridge up"))?;
    }
    plug(hosts, "bridge", mtu)
}

/// A container on a bridge of each host.
pub fn plug(hosts: &[Host; 2], bridge: &str, mtu: u32) -> Result<[Container; 2]> {
    let [h1, h2] = hosts;
    Ok([
        h1.plain_container("c1", "10.32.0.1/12", bridge, mtu)?,
        h2.plain_container("c2", "10.32.0.2/12", bridge, mtu)?,
    ])
}
