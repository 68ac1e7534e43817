//! What the kernel carries by itself, in VXLAN.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2        c1 --- h1 ===== h2 ===== h3 --- c3        h1, h2 and h3 on one switch
//! ```

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use weave_testbed::raw::RawPort;
use weave_testbed::stream::Stream;
use weave_testbed::{Capture, Container, Host, Lab, Router, RouterOptions, try_until};

use crate::frames::mac_bytes;
use crate::{SOON, lab};

/// What is tested here, also where the kernel has Open vSwitch.
fn by_devices() -> RouterOptions {
    RouterOptions::new().argument("--capture=tap")
}

/// Waits until `router` shows the connection to `neighbour` as established over this transport.
pub fn wait_overlay(router: &Router, neighbour: &Host, overlay: &str) -> Result<()> {
    let peer = format!("({})", neighbour.name());
    try_until(&format!("{overlay} to {peer}"), SOON, || {
        let page = router.status("connections")?;
        let wanted = format!(" established {overlay} ");
        let shown = page.lines().any(|line| line.contains(&wanted) && line.contains(&peer));
        ensure!(shown, "not in:\n{page}");
        Ok(())
    })
}

pub fn devices(host: &Host) -> Result<Vec<String>> {
    let list = host.namespace.exec("ip -o link show type vxlan")?;
    let name = |line: &str| Some(line.split(": ").nth(1)?.to_owned());
    Ok(list.lines().filter_map(name).collect())
}

/// Drops what comes to a UDP port of the host.
pub fn block(host: &Host, port: u16) -> Result<()> {
    host.namespace.exec("nft add table ip fdp")?;
    host.namespace.exec("nft add chain ip fdp in {type filter hook input priority 0;}")?;
    host.namespace.exec(&format!("nft add rule ip fdp in udp dport {port} drop"))?;
    Ok(())
}

pub fn unblock(host: &Host) -> Result<()> {
    host.namespace.exec("nft delete table ip fdp").map(drop)
}

struct Two<'lab> {
    routers: [Router<'lab>; 2],
    containers: [Container; 2],
}

fn two<'lab>(lab: &Lab, [h1, h2]: &'lab [Host; 2], options: &RouterOptions) -> Result<Two<'lab>> {
    let wire = lab.wire(h1, h2, 1500)?;
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer(wire.a()))?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Ok(Two { routers: [r1, r2], containers: [c1, c2] })
}

#[test]
fn the_kernel_carries_by_itself() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let Two { routers: [r1, r2], containers: [c1, c2] } = two(&lab, &hosts, &by_devices())?;
    let ping = c1.ping("10.32.0.2", 20, "-i 0.05 -M dont -s 1348")?;
    assert_eq!((ping.received, ping.duplicates), (20, 0), "{ping:?}");
    // The proof: the routers stand still.
    for router in [&r1, &r2] {
        router.signal(Signal::SIGSTOP)?;
    }
    let ping = c1.ping("10.32.0.2", 20, "-i 0.05")?;
    assert_eq!((ping.received, ping.duplicates), (20, 0), "{ping:?}");
    Stream::start(&c1, &c2, "10.32.0.2", 50_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 50_000_000)?.join()?;
    for router in [&r1, &r2] {
        router.signal(Signal::SIGCONT)?;
    }
    let report = r1.report()?;
    let fastdp = &report["Router"]["OverlayDiagnostics"]["fastdp"];
    ensure!(fastdp["Vports"].as_array().is_some_and(|ports| ports.len() == 1), "{fastdp}");
    let key = format!("dst={}", c2.mac()?);
    let flows = fastdp["Flows"].as_array().context("no flows")?;
    ensure!(
        flows.iter().any(|flow| flow["FlowKeys"][0] == key.as_str()),
        "{key} is not in {fastdp}"
    );
    ensure!(r1.get("/metrics")?.body.contains("\nweave_flows "));
    ensure!(!r1.log().contains("recreated"), "no program changed a device");
    r1.stop()?;
    r2.stop()?;
    for host in &hosts {
        // It is left to the next router.
        assert_eq!(devices(host)?.len(), 1);
        host.weave("reset")?;
        assert_eq!(devices(host)?, Vec::<String>::new());
    }
    lab.finish()
}

#[test]
fn a_blocked_port_is_left_and_taken_again() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2] = &hosts;
    let Two { routers: [r1, r2], containers: [c1, _c2] } = two(&lab, &hosts, &by_devices())?;
    block(h1, 6784)?;
    block(h2, 6784)?;
    wait_overlay(&r1, h2, "sleeve")?;
    wait_overlay(&r2, h1, "sleeve")?;
    let page = r1.status("connections")?;
    ensure!(page.contains("\n   fastdp: nothing arrives there"), "{page}");
    let ping = c1.ping("10.32.0.2", 10, "-i 0.05")?;
    assert_eq!((ping.received, ping.duplicates), (10, 0), "{ping:?}");
    unblock(h1)?;
    unblock(h2)?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    let page = r1.status("connections")?;
    ensure!(!page.contains("fastdp:"), "{page}");
    // Back in the kernel, and not by the router.
    c1.ping("10.32.0.2", 3, "-i 0.05")?;
    r1.signal(Signal::SIGSTOP)?;
    let ping = c1.ping("10.32.0.2", 10, "-i 0.05")?;
    r1.signal(Signal::SIGCONT)?;
    assert_eq!((ping.received, ping.duplicates), (10, 0), "{ping:?}");
    lab.finish()
}

#[test]
fn a_path_that_is_too_narrow_is_named() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1400)?;
    let r1 = h1.router(by_devices().argument("--mtu=1376"))?;
    let _r2 = h2.router(by_devices().argument("--mtu=1376").peer(wire.a()))?;
    try_until("the reason", SOON, || {
        let page = r1.status("connections")?;
        let told = page.contains("fastdp: packets of 1376 bytes do not get through, small ones do");
        ensure!(told && page.contains(" established sleeve "), "{page}");
        Ok(())
    })?;
    lab.finish()
}

#[test]
fn a_port_that_another_program_has_is_waited_for() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let program = h1.namespace.enter(|| std::net::UdpSocket::bind(("0.0.0.0", 6784)))??;
    let r1 = h1.router(by_devices())?;
    let r2 = h2.router(by_devices().peer(wire.a()))?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    wait_overlay(&r1, &h2, "sleeve")?;
    wait_overlay(&r2, &h1, "sleeve")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let reason = "another program uses UDP port 6784";
    let status = r1.status("")?;
    ensure!(status.contains(&format!("Fastdp: unavailable: {reason}")), "{status}");
    let page = r1.status("connections")?;
    ensure!(page.contains(&format!("\n   fastdp: {reason}")), "{page}");
    drop(program);
    wait_overlay(&r1, &h2, "fastdp")?;
    wait_overlay(&r2, &h1, "fastdp")?;
    let status = r1.status("")?;
    ensure!(status.contains("Fastdp: vxlan"), "{status}");
    ensure!(!r1.status("connections")?.contains("fastdp:"));
    let ping = c1.ping("10.32.0.2", 10, "-i 0.05")?;
    assert_eq!((ping.received, ping.duplicates), (10, 0), "{ping:?}");
    lab.finish()
}

#[test]
fn what_is_not_wanted_is_said_and_the_sleeve_carries_on() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(by_devices())?;
    let r2 = h2.router(by_devices().argument("--no-fastdp").peer(wire.a()))?;
    wait_overlay(&r1, &h2, "sleeve")?;
    ensure!(r2.status("")?.contains("Fastdp: disabled"));
    lab.finish()
}

/// How the only device of a host sends, and how its port on the bridge passes frames. Not the
/// addresses of stations.
fn device_settings(host: &Host) -> Result<[String; 2]> {
    let list = devices(host)?;
    let [device] = list.as_slice() else { bail!("not one device: {list:?}") };
    let entries = host.namespace.exec(&format!("bridge fdb show dev {device}"))?;
    let zero = entries.lines().filter(|line| line.starts_with("00:00:00:00:00:00 "));
    let port = host.namespace.exec(&format!("bridge -d link show dev {device}"))?;
    let Some((_, flags)) = port.split_once("hairpin") else { bail!("no flags in: {port}") };
    Ok([zero.collect(), flags.trim().to_owned()])
}

/// Somebody changes the device of the first of two hosts; it is as before soon, and used.
fn a_change_is_mended(change: impl Fn(&Host, &str) -> Result<()>, told: &str) -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2] = &hosts;
    let Two { routers: [r1, r2], containers: [c1, _c2] } = two(&lab, &hosts, &by_devices())?;
    let before = device_settings(h1)?;
    change(h1, devices(h1)?.first().context("no device")?)?;
    r1.wait_log(&format!("{told}: it is recreated"), SOON)?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    try_until("the device as it was", SOON, || {
        let now = device_settings(h1)?;
        ensure!(now == before, "{now:?} in place of {before:?}");
        Ok(())
    })?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let ping = c1.ping("10.32.0.2", 10, "-i 0.05")?;
    assert_eq!((ping.received, ping.duplicates), (10, 0), "{ping:?}");
    lab.finish()
}

#[test]
fn a_removed_destination_is_mended() -> Result<()> {
    let remove = |host: &Host, device: &str| {
        host.namespace.exec(&format!("bridge fdb del 00:00:00:00:00:00 dev {device}")).map(drop)
    };
    a_change_is_mended(remove, "another program changed its destination")
}

#[test]
fn changed_flags_of_a_port_are_mended() -> Result<()> {
    for flags in ["isolated off flood on mcast_flood on", "bcast_flood on", "hairpin on"] {
        let change = |host: &Host, device: &str| {
            host.namespace.exec(&format!("bridge link set dev {device} {flags}")).map(drop)
        };
        a_change_is_mended(
            change,
            "another program changed how its port on the bridge passes frames",
        )?;
    }
    Ok(())
}

#[test]
fn what_cannot_be_encrypted_goes_by_sleeve() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let options = by_devices().password("secret").argument("--firewall=none");
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.peer(wire.a()))?;
    let reason = "IPsec needs firewall rules, and there are to be none";
    let status = r1.status("")?;
    let shown = format!("Fastdp: vxlan; sleeve where encryption is needed: {reason}");
    ensure!(status.contains(&shown), "{status}");
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
        let page = router.status("connections")?;
        ensure!(page.contains(" encrypted   sleeve "), "{page}");
        ensure!(page.contains(&format!("fastdp: {reason}")), "{page}");
    }
    ensure!(r1.log().contains(&format!("no encrypted fastdp, using sleeve: {reason}")));
    lab.finish()
}

/// Needs Linux 6.7, whose bridges can be told how many stations to learn.
#[test]
fn a_container_that_makes_up_addresses_does_not_fill_the_kernel() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let Two { routers: [r1, _r2], containers: [c1, _c2] } = two(&lab, &hosts, &by_devices())?;
    let other = hosts[0].container("c3", "10.32.0.3/12")?;
    let port = RawPort::open(&other)?;
    for number in 0..70_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let addresses = [2, 0xbb, 0, 0, 0, 1, 2, 0xcc, 0, a, b, c];
        port.send(&[&addresses[..], &[0x88, 0xb5], &[0; 46]].concat())?;
    }
    let stations = || -> Result<usize> {
        Ok(hosts[0].namespace.exec("bridge fdb show br weave")?.lines().count())
    };
    let learnt = stations()?;
    ensure!((60_000..=65_700).contains(&learnt), "{learnt} stations");
    let ping = c1.ping("10.32.0.2", 20, "-i 0.05")?;
    assert_eq!((ping.received, ping.duplicates), (20, 0), "{ping:?}");
    ensure!(r1.report()?["Router"]["OverlayDiagnostics"]["fastdp"]["Vports"].is_array());
    lab.finish()
}

/// How many of the frames that `from` sends arrive at each of the others.
const SENT: usize = 5;

fn arriving(lab: &Lab, from: &Container, to: [u8; 6], at: &[&Container]) -> Result<Vec<usize>> {
    let captures = at
        .iter()
        .map(|container| Capture::start(lab, &container.namespace, "ethwe", "ether proto 0x88b5"));
    let captures = captures.collect::<Result<Vec<_>>>()?;
    let port = RawPort::open(from)?;
    let addresses = [to, mac_bytes(from)?].concat();
    let frame = |byte: u8| [&addresses[..], &[0x88, 0xb5], &[byte; 60]].concat();
    for _ in 0..SENT {
        port.send(&frame(0x55))?;
    }
    // What comes after them has gone the same ways.
    port.send(&frame(0x66))?;
    let count = |capture: Capture| {
        capture.wait_for("frame contains 66:66:66:66", SOON)?;
        capture.finish()?.count("frame contains 55:55:55:55")
    };
    captures.into_iter().map(count).collect()
}

const EVERYBODY: [u8; 6] = [0xff; 6];
const GROUP: [u8; 6] = [0x01, 0, 0x5e, 1, 2, 3];
const NOBODY: [u8; 6] = [0x02, 0xdd, 0, 0, 0, 1];

/// Everything that is flooded arrives once everywhere, whatever the routers between use.
fn floods_arrive_once(lab: &Lab, containers: [&Container; 3]) -> Result<()> {
    for (index, from) in containers.iter().enumerate() {
        let is_other = |other: &&Container| other.namespace.name() != from.namespace.name();
        let others: Vec<_> = containers.into_iter().filter(is_other).collect();
        for (what, to) in [("broadcast", EVERYBODY), ("multicast", GROUP), ("unknown", NOBODY)] {
            let counts = arriving(lab, from, to, &others)?;
            assert_eq!(counts, [SENT; 2], "{what} from c{}", index + 1);
        }
    }
    Ok(())
}

#[test]
fn a_triangle_makes_no_loops_and_no_duplicates() -> Result<()> {
    for third_has_fastdp in [true, false] {
        let lab = lab()?;
        let [h1, h2, h3] = lab.hosts()?;
        let _switch = lab.switch(&[&h1, &h2, &h3], 1500)?;
        let third = by_devices().peer("192.168.50.2");
        let third = if third_has_fastdp { third } else { third.argument("--no-fastdp") };
        let r1 = h1.router(by_devices())?;
        let r2 = h2.router(by_devices().peer("192.168.50.1"))?;
        let r3 = h3.router(third)?;
        wait_overlay(&r1, &h2, "fastdp")?;
        let expected = if third_has_fastdp { "fastdp" } else { "sleeve" };
        for (router, host) in [(&r1, &h3), (&r2, &h3), (&r3, &h1), (&r3, &h2)] {
            wait_overlay(router, host, expected)?;
        }
        let c1 = h1.container("c1", "10.32.0.1/12")?;
        let c2 = h2.container("c2", "10.32.0.2/12")?;
        let c3 = h3.container("c3", "10.32.0.3/12")?;
        for (from, to) in [(&c1, "10.32.0.2"), (&c1, "10.32.0.3"), (&c2, "10.32.0.3")] {
            from.wait_ping(to, SOON)?;
            let ping = from.ping(to, 10, "-i 0.05")?;
            assert_eq!((ping.received, ping.duplicates), (10, 0), "{to}: {ping:?}");
        }
        floods_arrive_once(&lab, [&c1, &c2, &c3])?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn a_line_relays() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let left = lab.wire(&h1, &h2, 1500)?;
    let right = lab.wire(&h2, &h3, 1500)?;
    let options = by_devices().no_discovery();
    let r1 = h1.router(options.clone().peer(left.b()))?;
    let r2 = h2.router(options.clone())?;
    let r3 = h3.router(options.peer(right.a()))?;
    for (router, host) in [(&r1, &h2), (&r2, &h1), (&r2, &h3), (&r3, &h2)] {
        wait_overlay(router, host, "fastdp")?;
    }
    for router in [&r1, &r2, &r3] {
        router.wait_peers(3, SOON)?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    let c3 = h3.container("c3", "10.32.0.3/12")?;
    for (from, to) in [(&c1, "10.32.0.2"), (&c1, "10.32.0.3"), (&c3, "10.32.0.2")] {
        from.wait_ping(to, SOON)?;
        let ping = from.ping(to, 20, "-i 0.05")?;
        assert_eq!((ping.received, ping.duplicates), (20, 0), "{to}: {ping:?}");
    }
    floods_arrive_once(&lab, [&c1, &c2, &c3])?;
    Stream::start(&c1, &c3, "10.32.0.3", 20_000_000)?.join()?;
    lab.finish()
}

#[test]
fn leftovers_of_a_killed_router_are_removed() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2] = &hosts;
    let Two { routers: [r1, r2], containers: [c1, _c2] } = two(&lab, &hosts, &by_devices())?;
    let before = devices(h1)?;
    assert_eq!(before.len(), 1);
    r1.kill()?;
    assert_eq!(devices(h1)?, before, "it leaves them");
    let r1 = h1.router(by_devices().no_discovery())?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    assert_eq!(devices(h1)?.len(), 1);
    // Another peer name comes with another short id.
    r1.stop()?;
    let r1 = h1.router(by_devices().name("02:00:00:00:77:01"))?;
    wait_overlay(&r1, h2, "fastdp")?;
    wait_overlay(&r2, h1, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    for host in &hosts {
        assert_eq!(devices(host)?.len(), 1);
    }
    // Somebody takes the device away.
    h1.namespace.ip(&format!("link del {}", devices(h1)?.first().context("no device")?))?;
    r1.wait_log("it is recreated", SOON)?;
    wait_overlay(&r1, h2, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}
