//! Routers that reach each other only through others.
//!
//! ```text
//!  c1 --- h1 ===== h2 ===== h3 --- c3
//!                  |
//!                  c2
//! ```

use anyhow::Result;
use weave_testbed::RouterOptions;
use weave_testbed::stream::Stream;

use crate::{SOON, lab};

fn middle_relays(options: &RouterOptions) -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let left = lab.wire(&h1, &h2, 1500)?;
    let right = lab.wire(&h2, &h3, 1500)?;
    let options = options.clone().no_discovery();
    let r1 = h1.router(options.clone().peer(left.b()))?;
    let r2 = h2.router(options.clone())?;
    let r3 = h3.router(options.peer(right.a()))?;
    r2.wait_established(2, SOON)?;
    for router in [&r1, &r2, &r3] {
        router.wait_peers(3, SOON)?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    let c3 = h3.container("c3", "10.32.0.3/12")?;
    for (from, to) in [(&c1, "10.32.0.2"), (&c1, "10.32.0.3"), (&c3, "10.32.0.2")] {
        from.wait_ping(to, SOON)?;
        let ping = from.ping(to, 50, "")?;
        assert_eq!((ping.received, ping.duplicates), (50, 0), "{to}: {ping:?}");
    }
    Stream::start(&c1, &c3, "10.32.0.3", 50_000_000)?.join()?;
    drop(c2);

    // Without its middle the line is two halves, and whole again when the middle is back.
    r2.kill()?;
    r1.wait_peers(1, SOON)?;
    let _r2 = h2.router(RouterOptions::new().no_discovery())?;
    r1.wait_peers(3, SOON * 2)?;
    c1.wait_ping("10.32.0.3", SOON)?;
    lab.finish()
}

#[test]
fn the_middle_relays() -> Result<()> {
    middle_relays(&RouterOptions::new())
}

#[test]
fn discovery_finds_the_peer_of_a_peer() -> Result<()> {
    // All on one switch: h3 is told of h2 only, and connects to h1 by itself.
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2, &h3], 1500)?;
    let r1 = h1.router(RouterOptions::new())?;
    let r2 = h2.router(RouterOptions::new().peer("192.168.50.1"))?;
    let r3 = h3.router(RouterOptions::new().peer("192.168.50.2"))?;
    for router in [&r1, &r2, &r3] {
        router.wait_established(2, SOON)?;
    }
    lab.finish()
}
