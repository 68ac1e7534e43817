//! The testbed without any router: what it makes works, and what it made is gone afterwards.
//!
//! ```text
//!  c1 --- bridge (h1) === wire === bridge (h2) --- c2
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Host, Lab, Wire, run};

/// Two containers on two bridges that the wire joins.
fn bridged(lab: &Lab) -> Result<(Host, Host, Wire, Container, Container)> {
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    for (host, device) in [(&h1, wire.device_a()), (&h2, wire.device_b())] {
        host.namespace.ip("link add name bridge type bridge")?;
        host.namespace.ip("link set dev bridge up")?;
        host.namespace.ip(&format!("link set {device} master bridge"))?;
    }
    let c1 = h1.plain_container("c1", "10.32.0.1/12", "bridge", 1500)?;
    let c2 = h2.plain_container("c2", "10.32.0.2/12", "bridge", 1500)?;
    Ok((h1, h2, wire, c1, c2))
}

#[test]
fn traffic_crosses_and_the_digest_is_right() -> Result<()> {
    let lab = Lab::new("no-binary")?;
    let (_h1, _h2, _wire, c1, c2) = bridged(&lab)?;
    c1.wait_ping("10.32.0.2", Duration::from_secs(5))?;
    let ping = c1.ping("10.32.0.2", 5, "")?;
    assert_eq!((ping.sent, ping.received, ping.duplicates), (5, 5, 0));
    let transfer = Stream::start(&c1, &c2, "10.32.0.2", 10_000_000)?.join()?;
    assert_eq!(transfer.bytes, 10_000_000);
    lab.finish()
}

#[test]
fn a_dropped_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::new("no-binary")?;
    let (h1, h2, _wire, c1, c2) = bridged(&lab)?;
    let names = [&h1.namespace, &h2.namespace, &c1.namespace, &c2.namespace]
        .map(|namespace| namespace.name().to_owned());
    let directory = lab.directory().to_owned();
    let before = run("ip", &["netns", "list"])?;
    assert!(names.iter().all(|name| before.contains(name)), "{before}");
    lab.finish()?;
    drop((h1, h2, c1, c2, lab));
    let after = run("ip", &["netns", "list"])?;
    assert!(!names.iter().any(|name| after.contains(name)), "{after}");
    assert!(!directory.exists());
    Ok(())
}
