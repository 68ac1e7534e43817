//! Frames that come another way than two routers with the fast datapath send them to each other.
//!
//! ```text
//!  c1 --- h1 ===== h2 ===== h3 --- c3        c2 on h2; a test in the place of a router of Weave Net on h1,
//!                   |                        whose kernel relays
//!                  c2
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use weave_testbed::raw::RawPort;
use weave_testbed::{Capture, Container, Host, Lab, Router, RouterOptions, try_until};

use crate::fastdp::{block, devices, unblock, wait_overlay};
use crate::frames::mac_bytes;
use crate::{SOON, lab};

/// Nobody has it.
const STRANGER: [u8; 6] = [2, 0xaa, 0, 0, 0, 7];
/// How many frames are sent, to be counted where they arrive.
const SENT: usize = 5;

/// A frame full of this byte, of an ethertype for local experiments (IEEE 802).
fn frame(to: [u8; 6], from: [u8; 6], byte: u8) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], &[byte; 60]].concat()
}

/// How many of the frames full of 0x55 come to each container, when what `send` sends last is one
/// full of 0x66 to everybody of them.
fn arriving(
    lab: &Lab,
    at: [&Container; 2],
    send: impl FnOnce() -> Result<()>,
) -> Result<[usize; 2]> {
    let start =
        |one: &Container| Capture::start(lab, &one.namespace, "ethwe", "ether proto 0x88b5");
    let [first, second] = at.map(start);
    let captures = [first?, second?];
    send()?;
    let count = |capture: Capture| -> Result<usize> {
        capture.wait_for("frame contains 66:66:66:66", SOON)?;
        capture.finish()?.count("frame contains 55:55:55:55")
    };
    let [first, second] = captures.map(count);
    Ok([first?, second?])
}

fn short_id(router: &Router<'_>, host: &Host) -> Result<u32> {
    let report = router.report()?;
    let peers = report["Router"]["Peers"].as_array().context("no peers")?;
    let peer = peers.iter().find(|peer| peer["NickName"] == host.name()).context("no such peer")?;
    Ok(u32::try_from(peer["ShortID"].as_u64().context("no short id")?)?)
}

/// RFC 7348, section 5.
fn vxlan(source: u32, destination: u32, frame: &[u8]) -> Vec<u8> {
    let vni = source | destination << 12;
    [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), frame].concat()
}

#[test]
fn what_a_neighbour_relays_in_its_kernel_arrives_once() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let left = lab.wire(&h1, &h2, 1500)?;
    let right = lab.wire(&h2, &h3, 1500)?;
    let options = RouterOptions::new().no_discovery();
    let r1 = h1.router(options.clone().peer(left.b()))?;
    let r2 = h2.router(options.clone())?;
    let r3 = h3.router(options.peer(right.a()))?;
    for (router, host) in [(&r1, &h2), (&r2, &h1), (&r2, &h3), (&r3, &h2)] {
        wait_overlay(router, host, "fastdp")?;
    }
    for router in [&r1, &r2, &r3] {
        router.wait_peers(3, SOON)?;
    }
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    let c3 = h3.container("c3", "10.32.0.3/12")?;
    c2.wait_ping("10.32.0.3", SOON)?;
    let [id1, id2, id3] = [short_id(&r2, &h1)?, short_id(&r2, &h2)?, short_id(&r2, &h3)?];
    let open = || UdpSocket::bind(("0.0.0.0", 0));
    let neighbour = h1.namespace.enter(open)??;
    let target = (left.b(), 6784);
    let to_all = [0xff; 6];
    let far = [2, 0xaa, 0, 0, 0, 8];
    for (source, destination, from, to, expected) in [
        // From the neighbour through this host to the third one, and from the third one through
        // the neighbour.
        (id1, id3, STRANGER, mac_bytes(&c3)?, [0, SENT]),
        (id3, id2, far, mac_bytes(&c2)?, [SENT, 0]),
    ] {
        let counts = arriving(&lab, [&c2, &c3], || {
            for _ in 0..SENT {
                neighbour.send_to(&vxlan(source, destination, &frame(to, from, 0x55)), target)?;
            }
            // One that comes to everybody: to the third host, which is not where it is from, by the
            // tree.
            neighbour.send_to(&vxlan(id1, id2, &frame(to_all, STRANGER, 0x66)), target)?;
            Ok(())
        })?;
        assert_eq!(counts, expected, "from {source} to {destination}");
    }
    // The same from an address that is no neighbour's.
    h1.namespace.ip(&format!("addr add 192.168.1.99/24 dev {}", left.device_a()))?;
    let stranger = h1.namespace.enter(|| UdpSocket::bind(("192.168.1.99", 0)))??;
    let counts = arriving(&lab, [&c2, &c3], || {
        for _ in 0..SENT {
            let to = mac_bytes(&c3)?;
            stranger.send_to(&vxlan(id1, id3, &frame(to, STRANGER, 0x55)), target)?;
        }
        neighbour.send_to(&vxlan(id1, id2, &frame(to_all, STRANGER, 0x66)), target)?;
        Ok(())
    })?;
    assert_eq!(counts, [0, 0]);
    let counters = &r2.report()?["Router"]["Counters"];
    // What is from the third host has its device, whoever hands it over.
    assert_eq!(counters["fastdp_rx_undelivered"], SENT, "{counters}");
    assert_eq!(counters["fastdp_rx_dropped_strangers"], SENT, "{counters}");
    lab.finish()
}

/// Two hosts that carry in the kernel, and a container on each.
fn pair<'lab>(lab: &Lab, [h1, h2]: &'lab [Host; 2]) -> Result<([Router<'lab>; 2], [Container; 2])> {
    let wire = lab.wire(h1, h2, 1500)?;
    let r1 = h1.router(RouterOptions::new())?;
    let r2 = h2.router(RouterOptions::new().peer(wire.a()))?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Ok(([r1, r2], [c1, c2]))
}

#[test]
fn a_station_that_never_answers_is_reached_in_the_kernel() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let ([r1, r2], [c1, c2]) = pair(&lab, &hosts)?;
    let [h1, _] = &hosts;
    // It speaks once, and where it is is forgotten by the bridge of the other host.
    let (from, mut to) = (RawPort::open(&c1)?, RawPort::open(&c2)?);
    let c1_mac = mac_bytes(&c1)?;
    to.send(&frame(c1_mac, STRANGER, 0x77))?;
    let device = devices(h1)?.pop().context("no device")?;
    let text = STRANGER.map(|byte| format!("{byte:02x}")).join(":");
    let is_known = || -> Result<bool> {
        let table = h1.namespace.exec(&format!("bridge fdb show brport {device}"))?;
        Ok(table.lines().any(|line| line.starts_with(&text) && line.contains("master")))
    };
    try_until("the bridge has learnt", SOON, || {
        ensure!(is_known()?, "it has not");
        Ok(())
    })?;
    h1.namespace.exec(&format!("bridge fdb del {text} dev {device} master"))?;
    ensure!(!is_known()?);
    // The router sends the next frame, and tells the bridge.
    from.send(&frame(STRANGER, c1_mac, 0x66))?;
    to.receive(SOON, |frame| frame.ends_with(&[0x66; 60]))?;
    try_until("the bridge is told", SOON, || {
        ensure!(is_known()?, "it is not");
        Ok(())
    })?;
    for router in [&r1, &r2] {
        router.signal(Signal::SIGSTOP)?;
    }
    let arrived = (0..SENT).try_for_each(|_| {
        from.send(&frame(STRANGER, c1_mac, 0x55))?;
        to.receive(SOON, |frame| frame.ends_with(&[0x55; 60])).map(drop)
    });
    for router in [&r1, &r2] {
        router.signal(Signal::SIGCONT)?;
    }
    arrived?;
    lab.finish()
}

/// How long a frame is waited for that may be lost.
const MOMENT: Duration = Duration::from_millis(10);

/// Frames with numbers of their own, to one station and to all.
struct Numbered {
    from: RawPort,
    to: RawPort,
    addresses: [[u8; 6]; 2],
    next: u32,
    seen: RefCell<BTreeMap<u32, usize>>,
}

impl Numbered {
    /// Sends one to all and one to the station, and takes what comes.
    fn step(&mut self) -> Result<()> {
        let Self { from, to, addresses: [source, destination], next, seen } = self;
        for to in [[0xff; 6], *destination] {
            let header = [&to[..], source, &[0x88, 0xb5]].concat();
            from.send(&[&header[..], &next.to_be_bytes(), &[0; 56]].concat())?;
            *next += 1;
        }
        let last = *next - 1;
        // What is lost on the way is not looked at here.
        let _ = to.receive(MOMENT, |frame| {
            let number = frame.get(14..18).and_then(|bytes| bytes.try_into().ok());
            let Some(number) =
                number.map(u32::from_be_bytes).filter(|_| frame[12..14] == [0x88, 0xb5])
            else {
                return false;
            };
            *seen.borrow_mut().entry(number).or_default() += 1;
            number == last
        });
        Ok(())
    }

    /// Goes on until the router shows another transport.
    fn until(&mut self, router: &Router<'_>, overlay: &str) -> Result<()> {
        let begin = std::time::Instant::now();
        let wanted = format!(" established {overlay} ");
        while !router.status("connections")?.contains(&wanted) {
            ensure!(begin.elapsed() < SOON, "not by {overlay}");
            for _ in 0..20 {
                self.step()?;
            }
        }
        Ok(())
    }
}

#[test]
fn nothing_comes_twice_while_transports_take_turns() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let ([r1, _r2], [c1, c2]) = pair(&lab, &hosts)?;
    let [_, h2] = &hosts;
    let mut numbered = Numbered {
        from: RawPort::open(&c1)?,
        to: RawPort::open(&c2)?,
        addresses: [mac_bytes(&c1)?, mac_bytes(&c2)?],
        next: 0,
        seen: RefCell::default(),
    };
    numbered.until(&r1, "fastdp")?;
    // What goes there changes its way; what comes back does not.
    block(h2, 6784)?;
    numbered.until(&r1, "sleeve")?;
    unblock(h2)?;
    numbered.until(&r1, "fastdp")?;
    for _ in 0..50 {
        numbered.step()?;
    }
    let seen = numbered.seen.into_inner();
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "number and count: {twice:?}");
    let sent = usize::try_from(numbered.next)?;
    ensure!(seen.len() > sent / 2, "of {sent} frames {} have arrived", seen.len());
    lab.finish()
}
