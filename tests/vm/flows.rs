//! What tests of the datapath look at: flows and ports in the kernel, what a router tells of
//! itself, and what arrives.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use weave_odp::{Action, Client, DumpedFlow, PortNumber};
use weave_testbed::{Container, Host, Router, RouterOptions, try_until};

use crate::SOON;

pub(crate) fn options() -> RouterOptions {
    RouterOptions::new()
}

pub(crate) fn flows(host: &Host) -> Result<Vec<DumpedFlow>> {
    host.namespace.enter(|| -> Result<_> {
        let mut client = Client::open()?;
        let datapath = client.datapath("datapath")?;
        Ok(client.flows(datapath.id)?.flows)
    })?
}

pub(crate) const fn is_tunnelled(flow: &DumpedFlow) -> bool {
    matches!(flow.flow.actions.as_slice(), [.., Action::SetTunnel(_), Action::Output(_)])
}

/// Packets that flows of this host sent into tunnels, by themselves.
pub(crate) fn tunnelled(host: &Host) -> Result<u64> {
    let flows = flows(host)?;
    Ok(flows.iter().filter(|flow| is_tunnelled(flow)).map(|flow| flow.stats.packets).sum())
}

/// The number of a port.
pub(crate) fn port_number(host: &Host, name: &'static str) -> Result<PortNumber> {
    host.namespace.enter(move || -> Result<_> {
        let mut client = Client::open()?;
        let datapath = client.datapath("datapath")?;
        let vports = client.vports(datapath.id)?;
        let port = vports.into_iter().find(|vport| vport.name == name);
        Ok(port.with_context(|| format!("no port {name}"))?.number)
    })?
}

/// The numbers by which a flow knows tunnels, or sends into them.
pub(crate) fn tunnel_ids(flow: &DumpedFlow) -> impl Iterator<Item = u32> + '_ {
    let into = flow.flow.actions.iter().filter_map(|action| match action {
        Action::SetTunnel(tunnel) => Some(tunnel.id),
        Action::Output(_) => None,
    });
    let from = flow.flow.matches.tunnel.map(|tunnel| tunnel.key().id);
    into.chain(from).filter_map(|id| u32::try_from(id).ok())
}

/// The short id of a host's router, as another one knows it.
pub(crate) fn short_id(router: &Router<'_>, host: &Host) -> Result<u32> {
    let report = router.report()?;
    let peers = report["Router"]["Peers"].as_array().context("no peers")?;
    let peer = peers.iter().find(|peer| peer["NickName"] == host.name()).context("no such peer")?;
    Ok(u32::try_from(peer["ShortID"].as_u64().context("no short id")?)?)
}

/// What a router counts, by name.
pub(crate) fn counter(router: &Router<'_>, name: &str) -> Result<u64> {
    let report = router.report()?;
    report["Router"]["Counters"][name].as_u64().with_context(|| format!("no {name}"))
}

pub(crate) fn mac_bytes(container: &Container) -> Result<[u8; 6]> {
    let text = container.mac()?;
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("{text} is no address"))
}

/// A frame of an ethertype for local experiments (IEEE 802).
pub(crate) fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], &[0; 46]].concat()
}

/// Waits until all connections of a router use this transport.
pub(crate) fn wait_transport(router: &Router<'_>, name: &str) -> Result<()> {
    try_until(&format!("connections by {name}"), SOON, || {
        let page = router.status("connections")?;
        let mut lines = page.lines().filter(|line| !line.starts_with(' ')).peekable();
        ensure!(lines.peek().is_some(), "there are none");
        let wanted = |line: &str| line.contains(" established ") && line.contains(name);
        ensure!(lines.all(wanted), "not all:\n{page}");
        Ok(())
    })
}

pub(crate) fn all_arrive(from: &Container, to: &str, count: u32) -> Result<()> {
    let ping = from.ping(to, count, "")?;
    ensure!(ping.received == count && ping.duplicates == 0, "{to}: {ping:?}");
    Ok(())
}

/// While nobody is there to answer a miss.
pub(crate) fn without(routers: &[&Router<'_>], what: impl FnOnce() -> Result<()>) -> Result<()> {
    for router in routers {
        router.signal(Signal::SIGSTOP)?;
    }
    let result = what();
    for router in routers {
        router.signal(Signal::SIGCONT)?;
    }
    result
}
