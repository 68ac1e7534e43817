//! Every kind of frame that is not simply IPv4 from one to another.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use weave_testbed::raw::RawPort;
use weave_testbed::stream::Stream;
use weave_testbed::{Capture, Container, RouterOptions};

use crate::SOON;
use crate::two_hosts::with_two_hosts;

pub fn mac_bytes(container: &Container) -> Result<[u8; 6]> {
    let mut bytes = [0; 6];
    for (byte, text) in bytes.iter_mut().zip(container.mac()?.split(':')) {
        *byte = u8::from_str_radix(text, 16)?;
    }
    Ok(bytes)
}

#[test]
fn multicast_and_broadcast() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::sleeve(), |_, _, [c1, c2], _| {
        let receiver = c2.udp(7000)?;
        let group = Ipv4Addr::new(239, 1, 2, 3);
        receiver.join_multicast_v4(&group, &Ipv4Addr::new(10, 32, 0, 2))?;
        receiver.set_read_timeout(Some(SOON))?;
        c1.namespace.ip("route replace 224.0.0.0/4 dev ethwe")?;
        let sender = c1.udp(0)?;
        let mut buffer = [0; 32];
        for (to, text) in [("239.1.2.3", "multicast"), ("10.47.255.255", "broadcast")] {
            sender.send_to(text.as_bytes(), (to, 7000))?;
            let length = receiver.recv(&mut buffer)?;
            assert_eq!(&buffer[..length], text.as_bytes());
        }
        Ok(())
    })
}

#[test]
fn ipv6_inside() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::sleeve(), |_, [r1, _], [c1, c2], _| {
        for (container, address) in [(c1, "fd00::1"), (c2, "fd00::2")] {
            container.namespace.sysctl("ipv6/conf/ethwe/disable_ipv6", "0")?;
            container.namespace.ip(&format!("addr add {address}/64 dev ethwe nodad"))?;
        }
        c1.wait_ping("fd00::2", SOON)?;
        r1.wait_mtu(SOON, |mtu| mtu == 1430)?;
        for size in [56, 1382, 1383, 4000] {
            let ping = c1.ping("fd00::2", 10, &format!("-s {size}"))?;
            assert_eq!((ping.received, ping.duplicates), (10, 0), "{size} bytes: {ping:?}");
        }
        // All nodes of the link: neighbours are found by multicast, too.
        let all = c1.ping("ff02::1%ethwe", 3, "")?;
        assert!(all.received >= 3, "{all:?}");
        Stream::start(c1, c2, "fd00::2", 20_000_000)?.join()?;
        Ok(())
    })
}

#[test]
fn tagged_and_odd_frames_cross_unchanged() -> Result<()> {
    let options = RouterOptions::sleeve().argument("--mtu=1600");
    with_two_hosts(1500, &options, |lab, _, [c1, c2], _| {
        let (from, to) = (mac_bytes(c1)?, mac_bytes(c2)?);
        let port = RawPort::open(c1)?;
        let capture = Capture::start(lab, &c2.namespace, "ethwe", "")?;
        let frame = |after_addresses: &[u8], payload: &[u8]| {
            [to.as_slice(), &from, after_addresses, payload].concat()
        };
        // IEEE 802.1Q, tag 5, around an experimental EtherType (IEEE 802, 0x88b5).
        port.send(&frame(&[0x81, 0, 0, 5, 0x88, 0xb5], &[0x11; 60]))?;
        // Two tags (IEEE 802.1ad).
        port.send(&frame(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 0x88, 0xb5], &[0x22; 60]))?;
        // IEEE 802.3 length with LLC: spanning tree's is the best known.
        port.send(&frame(&[0, 60, 0x42, 0x42, 3], &[0x33; 57]))?;
        // The smallest there is, padding included.
        port.send(&frame(&[0x88, 0xb5], &[0x44; 46]))?;
        // Larger than the overlay MTU and not IP: crosses in fragments of the underlay.
        port.send(&frame(&[0x88, 0xb5], &[0x55; 1586]))?;
        for filter in [
            "vlan.id == 5 && frame contains 11:11:11:11",
            "frame contains 22:22:22:22 && frame contains 81:00:00:05",
            "frame contains 42:42:03:33:33",
            "frame contains 88:b5:44:44 && frame.len == 60",
            "frame contains 88:b5:55:55 && frame.len == 1600",
        ] {
            capture.wait_for(filter, Duration::from_secs(10))?;
        }
        Ok(())
    })
}

#[test]
fn a_moved_station_is_found_at_its_new_place() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::sleeve(), |_, _, [c1, c2], _| {
        // A third station with the address of the second appears on the first host's side.
        let mac = c2.mac()?;
        c2.namespace.ip("link set ethwe down")?;
        c1.namespace.ip(&format!(
            "link add link ethwe name moved address {mac} type macvlan mode bridge"
        ))?;
        c1.namespace.ip("link set moved up")?;
        c1.namespace.ip("addr add 10.32.0.9/12 dev moved")?;
        c1.namespace.ip("link del moved")?;
        c2.namespace.ip("link set ethwe up")?;
        c1.wait_ping("10.32.0.2", SOON)?;
        Ok(())
    })
}
