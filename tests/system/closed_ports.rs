//! The ports of the mesh, which containers must not reach, and links into which only neighbours may
//! put frames.
//!
//! ```text
//!  c1 --- weave (10.32.0.1) h1 ---+
//!                                 +--- switch, 192.168.50.0/24
//!  c2 --- weave (10.32.0.2) h2 ---+
//!                     stranger ---+
//! ```

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_testbed::raw::RawPort;
use weave_testbed::{Container, Host, Namespace, Router, RouterOptions, try_until};

use crate::fastdp::wait_overlay;
use crate::{SOON, lab};

/// A connection within one switch takes a millisecond; what is dropped is tried again after 1 s.
const PATIENCE: Duration = Duration::from_millis(600);

fn connects(from: &Namespace, address: &str) -> Result<bool> {
    let address: SocketAddr = address.parse()?;
    from.enter(move || TcpStream::connect_timeout(&address, PATIENCE).is_ok())
}

fn gateway(host: &Host, container: &Container, address: &str) -> Result<()> {
    host.namespace.sysctl("ipv4/ip_forward", "1")?;
    host.weave(&format!("expose {address}/12"))?;
    container.namespace.ip(&format!("route add default via {address}"))?;
    Ok(())
}

/// The datagrams that came to the sleeve from nobody there is a link to.
fn unknown(router: &Router) -> Result<u64> {
    let metrics = router.get("/metrics")?.body;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("weave_sleeve_rx_dropped_unknown_sender"))
        .context("no such counter")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

/// A host's own port of the mesh, as its containers find it.
fn reach_the_mesh(flags: &[&str], open: bool) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let mut options = RouterOptions::new();
    for flag in flags {
        options = options.argument(flag);
    }
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.peer("192.168.50.1"))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let c2 = h2.container("c2", "10.32.1.2/12")?;
    gateway(&h1, &c1, "10.32.0.1")?;
    gateway(&h2, &c2, "10.32.0.2")?;
    // Each of these leads somewhere, and what else listens there is reached.
    let other = h2.namespace.enter(|| TcpListener::bind("0.0.0.0:7000"))??;
    for address in ["10.32.0.1", "192.168.50.1", "192.168.50.2", "10.32.0.2"] {
        c1.wait_ping(address, SOON)?;
        let reached = connects(&c1.namespace, &format!("{address}:6783"))?;
        assert_eq!(reached, open, "{address} {flags:?}");
    }
    for address in ["192.168.50.2:7000", "10.32.0.2:7000"] {
        assert!(connects(&c1.namespace, address)?, "{address}");
    }
    drop(other);
    let before = unknown(&r1)?;
    let socket = c1.udp(0)?;
    for address in ["10.32.0.1:6783", "192.168.50.1:6783"] {
        socket.send_to(&[0xaa; 64], address)?;
    }
    // Behind them in the same queues.
    c1.wait_ping("192.168.50.1", SOON)?;
    c1.wait_ping("10.32.0.1", SOON)?;
    if open {
        try_until("the datagrams arrive", SOON, || {
            ensure!(unknown(&r1)? == before + 2, "they have not");
            Ok(())
        })?;
        return lab.finish();
    }
    assert_eq!(unknown(&r1)?, before);

    // The same by IPv6, of which the router makes no use yet.
    h1.namespace.sysctl("ipv6/conf/weave/disable_ipv6", "0")?;
    c1.namespace.sysctl("ipv6/conf/ethwe/disable_ipv6", "0")?;
    h1.namespace.ip("addr add fd00::1/64 dev weave nodad")?;
    c1.namespace.ip("addr add fd00::11/64 dev ethwe nodad")?;
    c1.wait_ping("fd00::1", SOON)?;
    let listen = |port: u16| h1.namespace.enter(move || TcpListener::bind(("fd00::1", port)));
    let [_mesh, _other] = [listen(6783)??, listen(7000)??];
    assert!(!connects(&c1.namespace, "[fd00::1]:6783")?);
    assert!(connects(&c1.namespace, "[fd00::1]:7000")?);
    // Neighbours were not disturbed by any of that.
    r1.wait_established(1, SOON)?;
    c1.wait_ping("10.32.1.2", SOON)?;
    lab.finish()
}

#[test]
fn containers_do_not_reach_the_mesh_by_iptables_on_nftables() -> Result<()> {
    reach_the_mesh(&["--firewall=iptables-nft"], false)
}

#[test]
fn containers_do_not_reach_the_mesh_by_the_iptables_of_old() -> Result<()> {
    reach_the_mesh(&["--firewall=iptables-legacy"], false)
}

#[test]
fn containers_do_not_reach_the_mesh_by_nftables() -> Result<()> {
    reach_the_mesh(&["--firewall=nftables"], false)
}

#[test]
fn containers_reach_the_mesh_if_they_are_to() -> Result<()> {
    reach_the_mesh(&["--mesh-open-to-containers"], true)
}

const KIND: [u8; 2] = [0x88, 0xb5];

fn frame(from: u8, text: &[u8; 8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2, 0xde, 0xad, 0, 0, from], &KIND].concat();
    (0..6).for_each(|_| frame.extend(text));
    frame
}

/// Datagrams of sleeve in both formats with a frame that the peer `own` sends to `to`.
fn sleeve(own: [u8; 6], to: [u8; 6], frame: &[u8]) -> Result<[Vec<u8>; 2]> {
    let length = u16::try_from(frame.len())?.to_be_bytes();
    let native = [&[1, 0][..], &own, &[0], &own, &to, &length, &[0; 5], frame].concat();
    let legacy = [&own[..], &own, &to, &length, frame].concat();
    Ok([native, legacy])
}

/// The first of these test frames that a container gets is that of the other container, though a
/// stranger sent others before.
fn strangers_put_nothing_into_links(flags: &[&str], overlay: &str, guarded: bool) -> Result<()> {
    let lab = lab()?;
    let [h1, h2, stranger] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2, &stranger], 1500)?;
    let mut options = RouterOptions::new().argument("--capture=tap");
    for flag in flags {
        options = options.argument(flag);
    }
    let r1 = h1.router(options.clone())?;
    let _r2 = h2.router(options.peer("192.168.50.1"))?;
    wait_overlay(&r1, &h2, overlay)?;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let c2 = h2.container("c2", "10.32.1.2/12")?;
    c2.wait_ping("10.32.1.1", SOON)?;
    let (mut here, there) = (RawPort::open(&c1)?, RawPort::open(&c2)?);
    let socket = stranger.namespace.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    let forged = frame(1, b"STRANGER");
    let peer = |last| [2, 0, 0, 0, 1, last];
    for datagram in sleeve(peer(2), peer(1), &forged)? {
        socket.send_to(&datagram, "192.168.50.1:6783")?;
    }
    if overlay == "fastdp" {
        // The number is in the clear, and easily guessed.
        let devices = h1.namespace.exec("ip -d -o link show type vxlan")?;
        let id = devices.split("vxlan id ").nth(1).and_then(|rest| rest.split(' ').next());
        let vni: u32 = id.context("no device")?.parse()?;
        let packet = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), &forged].concat();
        socket.send_to(&packet, "192.168.50.1:6784")?;
    }
    there.send(&frame(2, b"NEIGHBOR"))?;
    let first = here.receive(SOON, |frame| frame.get(12..14) == Some(&KIND))?;
    let text = String::from_utf8_lossy(&first[14..22]).into_owned();
    assert_eq!(text, if guarded { "NEIGHBOR" } else { "STRANGER" }, "{flags:?}");
    lab.finish()
}

#[test]
fn sleeve_takes_frames_from_neighbours_alone() -> Result<()> {
    for format in ["--sleeve-format=native", "--sleeve-format=legacy"] {
        strangers_put_nothing_into_links(&["--no-fastdp", format], "sleeve", true)?;
    }
    Ok(())
}

#[test]
fn vxlan_devices_take_frames_from_neighbours_alone() -> Result<()> {
    for backend in ["iptables-nft", "iptables-legacy", "nftables"] {
        let flag = format!("--firewall={backend}");
        strangers_put_nothing_into_links(&[&flag], "fastdp", true)?;
    }
    // It is the firewall that keeps them out.
    strangers_put_nothing_into_links(&["--firewall=none"], "fastdp", false)
}
