//! Volume: tests that have the machine for themselves.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2        n1 … n100 --- h1 ===== h2 --- n101 … n200
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::stream::Stream;
use weave_testbed::{Container, RouterOptions, try_until};

use crate::two_hosts::with_two_hosts;
use crate::{SOON, lab};

const GIB: u64 = 1 << 30;

#[test]
fn four_gibibytes_arrive_unchanged() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::sleeve(), |_, [r1, _], [c1, c2], _| {
        let transfer = Stream::start(c1, c2, "10.32.0.2", 4 * GIB)?.join()?;
        assert_eq!(transfer.bytes, 4 * GIB);
        println!("{:.2} Gbit/s", transfer.gigabits());
        let stats = &r1.report()?["Router"]["CaptureStats"];
        let number = |name: &str| stats[name].as_u64().with_context(|| format!("no {name}"));
        // With an offload lost it is less than two packets.
        let mean = number("captured_bytes")? / number("captured")?;
        assert!(mean > 3000, "a captured frame has {mean} bytes");
        Ok(())
    })
}

#[test]
fn two_hundred_stations() -> Result<()> {
    const EACH: usize = 100;
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(RouterOptions::sleeve())?;
    let r2 = h2.router(RouterOptions::sleeve().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    let mut containers: Vec<Container> = Vec::new();
    for number in 1..=2 * EACH {
        let host = if number <= EACH { &h1 } else { &h2 };
        containers.push(host.container(&format!("n{number}"), &format!("10.32.1.{number}/12"))?);
    }
    // Each of one side talks to its partner on the other.
    for (number, container) in (1..=EACH).zip(&containers) {
        container.wait_ping(&format!("10.32.1.{}", number + EACH), SOON)?;
    }
    let macs = containers.iter().map(Container::mac).collect::<Result<Vec<_>>>()?;
    for router in [&r1, &r2] {
        try_until("all stations are known", Duration::from_secs(10), || {
            let report = router.report()?;
            let known = report["Router"]["MACs"].as_array().context("no MACs")?.clone();
            let missing: Vec<_> = macs
                .iter()
                .filter(|mac| !known.iter().any(|entry| entry["Mac"] == mac.as_str()))
                .collect();
            anyhow::ensure!(missing.is_empty(), "unknown: {missing:?}");
            Ok(())
        })?;
    }
    lab.finish()
}
