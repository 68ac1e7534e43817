//! A mesh with a loop in it.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2
//!         ||       ||
//!  c4 --- h4 ===== h3 --- c3
//! ```

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, Wire};

use crate::{SOON, lab};

const PORT: u16 = 7000;
const BROADCASTS: u16 = 200;

/// Wires between neighbours; each router dials the next one.
fn ring<'h>(lab: &Lab, hosts: &'h [Host; 4]) -> Result<(Vec<Wire>, Vec<Router<'h>>)> {
    let mut wires = Vec::new();
    for i in 0..hosts.len() {
        wires.push(lab.wire(&hosts[i], &hosts[(i + 1) % hosts.len()], 1500)?);
    }
    let mut routers = Vec::new();
    for (host, wire) in hosts.iter().zip(&wires) {
        routers.push(host.router(RouterOptions::new().no_discovery().peer(wire.b()))?);
    }
    for router in &routers {
        router.wait_established(2, SOON)?;
        router.wait_peers(hosts.len(), SOON)?;
    }
    Ok((wires, routers))
}

fn containers(hosts: &[Host; 4]) -> Result<Vec<Container>> {
    (1..)
        .zip(hosts)
        .map(|(i, host)| host.container(&format!("c{i}"), &format!("10.32.0.{i}/12")))
        .collect()
}

/// How often each numbered broadcast arrived.
fn arrivals(socket: &UdpSocket, expected: u16) -> Result<BTreeMap<u16, u32>> {
    let mut seen = BTreeMap::new();
    // Duplicates come right behind: the second of silence at the end catches them.
    let silence = Duration::from_secs(1);
    let deadline = Instant::now() + SOON;
    socket.set_read_timeout(Some(silence))?;
    let mut number = [0; 2];
    while Instant::now() < deadline {
        match socket.recv(&mut number) {
            Ok(2) => *seen.entry(u16::from_be_bytes(number)).or_insert(0) += 1,
            Ok(_) => {}
            Err(_) if seen.len() >= usize::from(expected) => break,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(seen)
}

#[test]
fn a_broadcast_arrives_exactly_once_everywhere() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (_wires, _routers) = ring(&lab, &hosts)?;
    let containers = containers(&hosts)?;
    for to in 2..=4 {
        containers[0].wait_ping(&format!("10.32.0.{to}"), SOON)?;
    }
    let receivers: Vec<UdpSocket> =
        containers[1..].iter().map(|container| container.udp(PORT)).collect::<Result<_>>()?;
    let sender = containers[0].udp(0)?;
    for number in 0..BROADCASTS {
        sender.send_to(&number.to_be_bytes(), ("10.47.255.255", PORT))?;
    }
    for (i, receiver) in receivers.iter().enumerate() {
        let seen = arrivals(receiver, BROADCASTS)?;
        assert_eq!(seen.len(), usize::from(BROADCASTS), "container {} missed some", i + 2);
        let repeated: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        assert!(repeated.is_empty(), "container {} got more than once: {repeated:?}", i + 2);
    }
    lab.finish()
}

#[test]
fn a_broken_wire_is_bypassed_and_used_again() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (wires, routers) = ring(&lab, &hosts)?;
    let containers = containers(&hosts)?;
    containers[0].wait_ping("10.32.0.2", SOON)?;

    wires[0].set_up(false)?;
    // Silence is noticed by the heartbeats, after a minute at most.
    routers[0].wait_established(1, Duration::from_secs(90))?;
    routers[1].wait_established(1, Duration::from_secs(90))?;
    containers[0].wait_ping("10.32.0.2", SOON)?;

    wires[0].set_up(true)?;
    routers[0].wait_established(2, Duration::from_secs(90))?;
    let ping = containers[0].ping("10.32.0.2", 50, "")?;
    assert_eq!((ping.received, ping.duplicates), (50, 0), "{ping:?}");
    lab.finish()
}
