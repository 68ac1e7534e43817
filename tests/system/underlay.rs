//! Underlays of several sizes, and one that changes.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2        h1 ===== gateway ===== h2
//! ```
//!
//! Overlay MTU = underlay MTU - 20 IPv4 - 8 UDP - (6 plain, 30 sealed) - 14 record - 14 Ethernet.

use std::time::Duration;

use anyhow::Result;
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Router, RouterOptions};

use crate::two_hosts::with_two_hosts;
use crate::{SOON, lab};

const PLAIN: u32 = 70;
const SEALED: u32 = 90;
const LEGACY_PLAIN: u32 = 62;
const LEGACY_SEALED: u32 = 86;

/// A lost test frame is repeated for 2.5 s, and a lost size is found by bisection.
const SHRINKS: Duration = Duration::from_secs(60);
/// A larger size is looked for a minute after the last change.
const GROWS: Duration = Duration::from_secs(150);

fn underlay_of(mtu: u32, options: &RouterOptions, overhead: u32) -> Result<()> {
    // Containers with larger packets than the path takes, as in a mixed cluster.
    let options = options.clone().argument("--mtu=20000");
    with_two_hosts(mtu, &options, |_, [r1, r2], [c1, c2], _| {
        for router in [r1, r2] {
            router.wait_mtu(SOON, |found| found == mtu - overhead)?;
        }
        // As large as fits, one byte more, and far more: with "don't fragment" the second one is
        // refused with the right size, without it everything crosses.
        let largest = mtu - overhead - 28;
        let fits = c1.ping("10.32.0.2", 5, &format!("-M do -s {largest}"))?;
        assert_eq!(fits.received, 5, "{fits:?}");
        for size in [largest, largest + 1, 4 * largest] {
            let ping = c1.ping("10.32.0.2", 5, &format!("-M dont -s {size}"))?;
            assert_eq!((ping.received, ping.duplicates), (5, 0), "{size} bytes: {ping:?}");
        }
        refused_with(c1, largest + 1, mtu - overhead)?;
        Stream::start(c1, c2, "10.32.0.2", 20_000_000)?.join()?;
        Ok(())
    })
}

/// A ping of `size` with "don't fragment" is refused, and the refusal names the MTU.
fn refused_with(container: &Container, size: u32, mtu: u32) -> Result<()> {
    let line = format!("ping -c 3 -i 0.2 -W 1 -M do -s {size} 10.32.0.2");
    let error = container
        .namespace
        .exec(&line)
        .map(|_| String::new())
        .unwrap_or_else(|error| error.to_string());
    assert!(
        error.contains(&format!("mtu = {mtu}")) || error.contains(&format!("mtu={mtu}")),
        "{error}"
    );
    Ok(())
}

#[test]
fn underlay_1280() -> Result<()> {
    underlay_of(1280, &RouterOptions::sleeve(), PLAIN)
}

#[test]
fn underlay_1500() -> Result<()> {
    underlay_of(1500, &RouterOptions::sleeve(), PLAIN)
}

#[test]
fn underlay_9000() -> Result<()> {
    underlay_of(9000, &RouterOptions::sleeve(), PLAIN)
}

#[test]
fn underlay_1280_sealed() -> Result<()> {
    underlay_of(1280, &RouterOptions::sleeve().password("p"), SEALED)
}

#[test]
fn underlay_9000_sealed() -> Result<()> {
    underlay_of(9000, &RouterOptions::sleeve().password("p"), SEALED)
}

fn legacy() -> RouterOptions {
    RouterOptions::sleeve().argument("--sleeve-format=legacy")
}

#[test]
fn underlay_1500_in_the_legacy_format() -> Result<()> {
    underlay_of(1500, &legacy(), LEGACY_PLAIN)
}

#[test]
fn underlay_1500_sealed_in_the_legacy_format() -> Result<()> {
    underlay_of(1500, &legacy().password("p"), LEGACY_SEALED)
}

fn both_mtus(routers: [&Router; 2], limit: Duration, mtu: u32) -> Result<()> {
    routers.iter().try_for_each(|router| router.wait_mtu(limit, |found| found == mtu))
}

#[test]
fn the_underlay_shrinks_and_grows_under_traffic() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::sleeve(), |_, routers, [c1, c2], wire| {
        both_mtus(routers, SOON, 1500 - PLAIN)?;
        let stream = Stream::start(c1, c2, "10.32.0.2", u64::MAX)?;
        wire.set_mtu(1300)?;
        both_mtus(routers, SHRINKS, 1300 - PLAIN)?;
        c2.wait_ping("10.32.0.1", SOON)?;
        wire.set_mtu(1500)?;
        both_mtus(routers, GROWS, 1500 - PLAIN)?;
        let transfer = stream.stop()?;
        assert!(transfer.bytes > 10_000_000, "{transfer:?}");
        Ok(())
    })
}

#[test]
fn a_narrow_place_in_the_middle_is_found() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let gateway = lab.host("gateway")?;
    gateway.namespace.sysctl("ipv4/ip_forward", "1")?;
    let near = lab.wire(&h1, &gateway, 1500)?;
    let far = lab.wire(&gateway, &h2, 1500)?;
    h1.namespace.ip(&format!("route add default via {}", near.b()))?;
    h2.namespace.ip(&format!("route add default via {}", far.a()))?;
    let r1 = h1.router(RouterOptions::sleeve())?;
    let r2 = h2.router(RouterOptions::sleeve().peer(near.a()))?;
    r1.wait_established(1, SOON)?;
    both_mtus([&r1, &r2], SOON, 1500 - PLAIN)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let stream = Stream::start(&c1, &c2, "10.32.0.2", u64::MAX)?;
    far.set_mtu(1400)?;
    both_mtus([&r1, &r2], SHRINKS, 1400 - PLAIN)?;
    stream.stop()?;
    let ping = c1.ping("10.32.0.2", 10, "-s 1300")?;
    assert_eq!(ping.received, 10, "{ping:?}");
    lab.finish()
}
