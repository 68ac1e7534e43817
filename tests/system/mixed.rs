//! Meshes in which some routers know the native format of datagrams and others only that of Weave
//! Net.
//!
//! ```text
//!  c1 --- h1 ===== h2 ===== h3 --- c3        c1 --- h1 ===== h2 --- c2
//! ```
//!
//! A link is native if both its routers are. A relay between two kinds of links translates: it
//! joins pieces and cuts them into frames, or takes single frames and sends them on as such.

use anyhow::{Context, Result, ensure};
use weave_testbed::raw::RawPort;
use weave_testbed::stream::Stream;
use weave_testbed::{Capture, Container, Host, Lab, Router, RouterOptions, try_until};

use crate::frames::mac_bytes;
use crate::{SOON, lab};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Native,
    Legacy,
}

use Format::{Legacy, Native};

impl Format {
    fn options(self) -> RouterOptions {
        // Containers with larger packets than any path takes.
        let options = RouterOptions::sleeve().no_discovery().argument("--mtu=20000");
        match self {
            Native => options,
            Legacy => options.argument("--sleeve-format=legacy"),
        }
    }

    /// What a link between two routers uses.
    fn with(self, other: Self) -> Self {
        if self == Native { other } else { Legacy }
    }

    /// What `weave status connections` says of it on an underlay of 1500 bytes, once the MTU is
    /// found. The suite of a sealed native link is not among that: it depends on the processor.
    const fn shown(self, password: Option<&str>) -> &'static [&'static str] {
        match (self, password) {
            (Native, None) => &["format=native", "mtu=1430"],
            (Legacy, None) => &["format=legacy", "mtu=1438"],
            (Native, Some(_)) => &["format=native", "mtu=1410", "encrypted=true"],
            (Legacy, Some(_)) => {
                &["format=legacy", "mtu=1414", "encrypted=true", "cipher=xsalsa20poly1305"]
            }
        }
    }
}

fn protected(options: RouterOptions, password: Option<&str>) -> RouterOptions {
    match password {
        Some(password) => options.password(password),
        None => options,
    }
}

/// Waits until the established connection of `router` to `neighbour` is shown with all of this.
fn wait_shown(router: &Router, neighbour: &Host, attributes: &[&str]) -> Result<()> {
    let peer = format!("({})", neighbour.name());
    try_until(&format!("{attributes:?} with {peer}"), SOON, || {
        let page = router.status("connections")?;
        let mut lines = page.lines().filter(|line| line.contains(" established "));
        let shown = lines.any(|line| {
            line.contains(&peer)
                && attributes.iter().all(|wanted| line.split(' ').any(|word| word == *wanted))
        });
        ensure!(shown, "not in:\n{page}");
        Ok(())
    })
}

/// Everything that is made differently for the two formats, from one container to the other and
/// back.
fn everything_crosses(lab: &Lab, left: &Container, right: &Container) -> Result<()> {
    for (container, address) in [(left, "fd00::1"), (right, "fd00::3")] {
        container.namespace.sysctl("ipv6/conf/ethwe/disable_ipv6", "0")?;
        container.namespace.ip(&format!("addr add {address}/64 dev ethwe nodad"))?;
    }
    for (to_left, to_right) in [("10.32.0.1", "10.32.0.3"), ("fd00::1", "fd00::3")] {
        left.wait_ping(to_right, SOON)?;
        // To the byte at the MTUs of 1410, 1414, 1430 and 1438, in IPv4 and in IPv6.
        for size in
            [0, 1362, 1363, 1366, 1367, 1382, 1383, 1386, 1387, 1402, 1403, 1410, 1411, 9000]
        {
            if to_right.contains(':') {
                // Only its sender cuts IPv6: each link of the way may cost a packet in each
                // direction until both ends know its MTU.
                left.ping(to_right, 5, &format!("-s {size}"))?;
            }
            // For the last answer ping waits no longer than for the interval.
            let ping = left.ping(to_right, 2, &format!("-i 0.2 -M dont -s {size}"))?;
            ensure!((ping.received, ping.duplicates) == (2, 0), "{size} to {to_right}: {ping:?}");
        }
        Stream::start(left, right, to_right, 50_000_000)?.join()?;
        Stream::start(right, left, to_left, 50_000_000)?.join()?;
    }
    tagged_frames_cross(lab, left, right)?;
    tagged_frames_cross(lab, right, left)?;
    every_length(left, right)
}

/// IEEE 802.1Q, tag 5, around an IPv4 packet that must not be cut and around an unknown protocol.
fn tagged_frames_cross(lab: &Lab, from: &Container, to: &Container) -> Result<()> {
    let port = RawPort::open(from)?;
    let capture = Capture::start(lab, &to.namespace, "ethwe", "vlan 5")?;
    let addresses = [mac_bytes(to)?, mac_bytes(from)?].concat();
    let mut packet = vec![0x45, 0, 0x04, 0xb0, 0, 1, 0x40, 0, 64, 253, 0x21, 0xd9];
    packet.extend([10, 32, 0, 1, 10, 32, 0, 3]);
    packet.resize(1200, 0x77);
    port.send(&[&addresses[..], &[0x81, 0, 0, 5, 8, 0], &packet].concat())?;
    port.send(&[&addresses[..], &[0x81, 0, 0, 5, 0x88, 0xb5], &[0x66; 900]].concat())?;
    for filter in [
        "frame contains 77:77:77 && frame.len == 1218",
        "frame contains 66:66:66 && frame.len == 918",
    ] {
        capture.wait_for(&format!("vlan.id == 5 && {filter}"), SOON)?;
    }
    Ok(())
}

/// A datagram of every length up to the smallest MTU comes back as it was sent.
fn every_length(left: &Container, right: &Container) -> Result<()> {
    const LONGEST: usize = 1410 - 28;
    let echo = right.udp(7000)?;
    echo.set_read_timeout(Some(SOON))?;
    let echoing = std::thread::spawn(move || -> Result<()> {
        let mut buffer = [0; LONGEST];
        loop {
            let (length, from) = echo.recv_from(&mut buffer)?;
            echo.send_to(&buffer[..length], from)?;
            if length == LONGEST {
                return Ok(());
            }
        }
    });
    let socket = left.udp(0)?;
    socket.set_read_timeout(Some(SOON))?;
    let mut received = [0; LONGEST];
    for length in 1..=LONGEST {
        let sent: Vec<u8> = (0..=250).cycle().skip(length % 251).take(length).collect();
        socket.send_to(&sent, ("10.32.0.3", 7000))?;
        let count = socket.recv(&mut received).with_context(|| format!("{length} bytes"))?;
        ensure!(received[..count] == sent, "{length} bytes came back as {count} others");
    }
    echoing.join().map_err(|_| anyhow::anyhow!("the echo panicked"))?
}

fn line(formats: [Format; 3], password: Option<&str>) -> Result<()> {
    let lab = lab()?;
    let hosts: [Host; 3] = lab.hosts()?;
    let [h1, h2, h3] = &hosts;
    let left = lab.wire(h1, h2, 1500)?;
    let right = lab.wire(h2, h3, 1500)?;
    let [f1, f2, f3] = formats;
    let options = formats.map(|format| protected(format.options(), password));
    let [o1, o2, o3] = options;
    let r1 = h1.router(o1.peer(left.b()))?;
    let r2 = h2.router(o2.peer(right.b()))?;
    let r3 = h3.router(o3)?;
    r2.wait_established(2, SOON)?;
    for (router, neighbour, format) in [
        (&r1, h2, f1.with(f2)),
        (&r2, h1, f1.with(f2)),
        (&r2, h3, f2.with(f3)),
        (&r3, h2, f2.with(f3)),
    ] {
        wait_shown(router, neighbour, format.shown(password))?;
        router.wait_peers(3, SOON)?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c3 = h3.container("c3", "10.32.0.3/12")?;
    everything_crosses(&lab, &c1, &c3)?;
    lab.finish()
}

#[test]
fn native_legacy_native() -> Result<()> {
    line([Native, Legacy, Native], None)
}

#[test]
fn native_legacy_native_sealed() -> Result<()> {
    line([Native, Legacy, Native], Some("p"))
}

#[test]
fn legacy_native_native() -> Result<()> {
    line([Legacy, Native, Native], None)
}

#[test]
fn legacy_native_native_sealed() -> Result<()> {
    line([Legacy, Native, Native], Some("p"))
}

#[test]
fn native_alone() -> Result<()> {
    line([Native; 3], Some("p"))
}

#[test]
fn a_router_comes_back_in_the_other_format_under_traffic() -> Result<()> {
    for password in [None, Some("p")] {
        let lab = lab()?;
        let [h1, h2] = lab.hosts()?;
        let wire = lab.wire(&h1, &h2, 1500)?;
        let options = |format: Format| protected(format.options(), password);
        let r1 = h1.router(options(Native))?;
        let mut r2 = h2.router(options(Native).peer(wire.a()))?;
        wait_shown(&r1, &h2, Native.shown(password))?;
        let c1 = h1.container("c1", "10.32.0.1/12")?;
        let c2 = h2.container("c2", "10.32.0.2/12")?;
        c1.wait_ping("10.32.0.2", SOON)?;
        let stream = Stream::start(&c1, &c2, "10.32.0.2", u64::MAX)?;
        for format in [Legacy, Native] {
            r2.stop()?;
            r2 = h2.router(options(format).peer(wire.a()))?;
            wait_shown(&r1, &h2, format.shown(password))?;
            wait_shown(&r2, &h1, format.shown(password))?;
            c1.wait_ping("10.32.0.2", SOON)?;
        }
        stream.stop()?;
        lab.finish()?;
    }
    Ok(())
}

#[test]
fn without_a_cipher_in_common_the_legacy_format_is_used() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let options = |cipher: &str| {
        RouterOptions::sleeve().password("p").argument(&format!("--sleeve-ciphers={cipher}"))
    };
    let r1 = h1.router(options("aes128gcm"))?;
    let r2 = h2.router(options("chacha20poly1305").peer(wire.a()))?;
    wait_shown(&r1, &h2, Legacy.shown(Some("p")))?;
    wait_shown(&r2, &h1, Legacy.shown(Some("p")))?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Stream::start(&c1, &c2, "10.32.0.2", 20_000_000)?.join()?;
    // Where there is one, it is used.
    r2.stop()?;
    let r2 = h2.router(options("chacha20poly1305,aes128gcm").peer(wire.a()))?;
    let expected = &["format=native", "encrypted=true", "cipher=aes128gcm"];
    wait_shown(&r1, &h2, expected)?;
    wait_shown(&r2, &h1, expected)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Stream::start(&c1, &c2, "10.32.0.2", 20_000_000)?.join()?;
    lab.finish()
}
