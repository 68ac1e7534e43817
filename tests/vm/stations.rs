//! Two hosts whose kernels have a flow for each pair of stations that speak, however many those
//! are.
//!
//! ```text
//!  c1 --- h1 === h2 --- m1 ... m100
//! ```

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use weave_testbed::raw::RawPort;
use weave_testbed::{Container, Host, Lab, Router, eventually, try_until};

use crate::flows::{
    all_arrive, counter, flows, frame, is_tunnelled, mac_bytes, options, wait_transport, without,
};
use crate::{SOON, lab};

/// As many as a host may have containers.
const STATIONS: u8 = 100;
/// As many flows as there may be: `MAX_FLOWS` of the engine.
const MOST_FLOWS: usize = 8192;

#[test]
fn a_hundred_containers_and_made_up_addresses() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    wait_transport(&r2, "fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    a_hundred_containers(&lab, [&h1, &h2], [&r1, &r2], [&c1, &c2])?;
    made_up_addresses(&h1, &r1, &c1, &c2)?;
    lab.finish()
}

/// A hundred ports of the bridge of one host, in one namespace, and all the flows to them.
fn a_hundred_containers(
    lab: &Lab,
    [h1, h2]: [&Host; 2],
    routers: [&Router<'_>; 2],
    [c1, c2]: [&Container; 2],
) -> Result<()> {
    let inside = &c2.namespace;
    // Each has an address of its own, and answers for that alone.
    for (key, value) in [("arp_ignore", "1"), ("rp_filter", "0")] {
        inside.sysctl(&format!("ipv4/conf/all/{key}"), value)?;
        inside.sysctl(&format!("ipv4/conf/default/{key}"), value)?;
    }
    inside.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    let plug = |number: u8| {
        format!(
            "link add v{number} type veth peer name m{number} netns {}\n\
                 link set v{number} master weave up\n",
            inside.name()
        )
    };
    let address =
        |number: u8| format!("addr add 10.33.0.{number}/32 dev m{number}\nlink set m{number} up\n");
    let batch = |name: &str, lines: String| -> Result<String> {
        let path = lab.directory().join(name);
        std::fs::write(&path, lines)?;
        Ok(path.display().to_string())
    };
    let plugs = batch("plugs", (1..=STATIONS).map(plug).collect())?;
    h2.namespace.exec(&format!("ip -batch {plugs}"))?;
    let addresses = batch("addresses", (1..=STATIONS).map(address).collect())?;
    inside.exec(&format!("ip -batch {addresses}"))?;
    let (from, to) = (c1.udp(0)?, c2.udp(5353)?);
    // A word is heard before the flow for the next one is there.
    let source = mac_bytes(c1)?;
    try_until("a word with each of them, and flows", SOON, || {
        speak_with_each(&from, &to)?;
        for host in [h1, h2] {
            let count = stations_of(source, host)?;
            ensure!(count >= usize::from(STATIONS), "{}: flows to {count}", host.name());
        }
        Ok(())
    })?;
    let count = flows(h1)?.iter().filter(|flow| is_tunnelled(flow)).count();
    ensure!(count < 4 * usize::from(STATIONS), "{count} flows to {STATIONS} stations");
    without(&routers, || speak_with_each(&from, &to))
}

/// To how many single stations a host's kernel carries by itself what this one says.
fn stations_of(source: [u8; 6], host: &Host) -> Result<usize> {
    let flows = flows(host)?;
    let ends = flows.iter().filter(|flow| !flow.flow.actions.is_empty());
    let ends = ends.map(|flow| flow.flow.matches.ethernet.key());
    let single = ends.filter(|ends| ends.source == source && ends.destination[0] & 1 == 0);
    Ok(single.map(|ends| ends.destination).collect::<BTreeSet<_>>().len())
}

/// Says something to each of the stations, and sees whether all have heard it.
fn speak_with_each(from: &UdpSocket, to: &UdpSocket) -> Result<()> {
    for number in 1..=STATIONS {
        from.send_to(&[number], (Ipv4Addr::new(10, 33, 0, number), 5353))?;
    }
    to.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut missing: BTreeSet<u8> = (1..=STATIONS).collect();
    let mut word = [0; 2];
    while !missing.is_empty() {
        match to.recv_from(&mut word) {
            Ok(_) => missing.remove(&word[0]),
            Err(error) => bail!("{error}: not heard by {missing:?}"),
        };
    }
    Ok(())
}

/// A container that makes up addresses fills a table that has a brim, and hurts nobody else.
fn made_up_addresses(h1: &Host, r1: &Router<'_>, c1: &Container, c2: &Container) -> Result<()> {
    let port = RawPort::open(c1)?;
    let to = mac_bytes(c2)?;
    let mut sent: u32 = 0;
    // Of what comes faster than it is answered the kernel drops some, more on a slow machine.
    try_until("a flow that is refused", 2 * SOON, || {
        for _ in 0..1000 {
            let [a, b, c, d] = sent.to_be_bytes();
            port.send(&frame(to, [0x02, 0xee, a, b, c, d]))?;
            sent += 1;
        }
        ensure!(counter(r1, "fastdp_flows_refused")? > 0, "none of {sent} frames");
        Ok(())
    })?;
    // It was full; those that nothing uses may be gone already.
    let count = flows(h1)?.len();
    ensure!(count <= MOST_FLOWS, "{count} flows after {sent} frames");
    // Behind what was sent before, there is nothing that a ping waits for.
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(c1, "10.32.0.2", 20)?;
    eventually("room", SOON, || flows(h1).is_ok_and(|flows| flows.len() < MOST_FLOWS / 2))?;
    all_arrive(c1, "10.32.0.2", 20)
}
