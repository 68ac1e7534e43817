//! Routers whose frames the kernel's Open vSwitch carries.
//!
//! ```text
//!  c1 --- weave ─ vethwe-bridge ═ vethwe-datapath ─ datapath ─ vxlan-6784 === h2 --- c2
//! ```

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use weave_odp::{Action, Client, DumpedFlow};
use weave_testbed::stream::Stream;
use weave_testbed::{Host, Router, RouterOptions, eventually};

use crate::{SOON, lab};

fn options() -> RouterOptions {
    RouterOptions::new().argument("--capture=datapath")
}

fn flows(host: &Host) -> Result<Vec<DumpedFlow>> {
    host.namespace.enter(|| -> Result<_> {
        let mut client = Client::open()?;
        let datapath = client.datapath("datapath")?;
        Ok(client.flows(datapath.id)?.flows)
    })?
}

/// Packets that flows of this host sent into tunnels, by themselves.
fn tunnelled(host: &Host) -> Result<u64> {
    let into_a_tunnel = |flow: &&DumpedFlow| {
        flow.flow.actions.iter().any(|action| matches!(action, Action::SetTunnel(_)))
    };
    Ok(flows(host)?.iter().filter(into_a_tunnel).map(|flow| flow.stats.packets).sum())
}

/// Waits until all connections of a router use this transport.
fn wait_transport(router: &Router<'_>, name: &str) -> Result<()> {
    eventually(&format!("connections by {name}"), SOON, || {
        router.status("connections").is_ok_and(|text| {
            text.lines().all(|line| line.contains("established") && line.contains(name))
        })
    })
}

#[test]
fn frames_between_two_hosts_stay_in_the_kernel() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    for router in [&r1, &r2] {
        wait_transport(router, "fastdp")?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let ping = c1.ping("10.32.0.2", 50, "")?;
    ensure!(ping.received == 50 && ping.duplicates == 0, "{ping:?}");
    for host in [&h1, &h2] {
        let carried = tunnelled(host)?;
        ensure!(carried >= 45, "{carried} packets: {:#?}", flows(host)?);
    }
    let report = r1.report()?;
    let datapath = &report["Router"]["OverlayDiagnostics"]["fastdp"];
    let ports = datapath["Vports"].to_string();
    ensure!(ports.contains(r#""Name":"vxlan-6784","TypeName":"vxlan""#), "{ports}");
    let flows = datapath["Flows"].to_string();
    ensure!(flows.contains("SetTunnelAction") && flows.contains("EthernetFlowKey"), "{flows}");
    ensure!(report["Router"]["CaptureStats"]["FlowMisses"].as_u64() > Some(0));
    ensure!(report["Router"]["Interface"] == "datapath (via ODP)");
    Stream::start(&c1, &c2, "10.32.0.2", 3_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 3_000_000)?.join()?;
    // The proof: nobody is there to answer a miss.
    for router in [&r1, &r2] {
        router.signal(Signal::SIGSTOP)?;
    }
    let ping = c1.ping("10.32.0.2", 50, "")?;
    Stream::start(&c1, &c2, "10.32.0.2", 1_000_000)?.join()?;
    for router in [&r1, &r2] {
        router.signal(Signal::SIGCONT)?;
    }
    ensure!(ping.received == 50 && ping.duplicates == 0, "{ping:?}");
    for router in [r1, r2] {
        router.stop()?;
    }
    lab.finish()
}
