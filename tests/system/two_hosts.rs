//! The smallest mesh.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2
//! ```

use anyhow::{Context, Result};
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Lab, Router, RouterOptions};

use crate::{SOON, lab};

/// Routers on both hosts, the second one dials, with a container on each; then `scenario`.
pub fn with_two_hosts(
    mtu: u32,
    options: &RouterOptions,
    scenario: impl FnOnce(&Lab, [&Router; 2], [&Container; 2], &weave_testbed::Wire) -> Result<()>,
) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, mtu)?;
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    scenario(&lab, [&r1, &r2], [&c1, &c2], &wire)?;
    r1.stop()?;
    r2.stop()?;
    lab.finish()
}

/// Ping and TCP both ways.
fn traffic(containers: [&Container; 2]) -> Result<()> {
    let [c1, c2] = containers;
    let ping = c1.ping("10.32.0.2", 100, "")?;
    assert_eq!((ping.received, ping.duplicates), (100, 0), "{ping:?}");
    Stream::start(c1, c2, "10.32.0.2", 50_000_000)?.join()?;
    Stream::start(c2, c1, "10.32.0.1", 50_000_000)?.join()?;
    Ok(())
}

#[test]
fn plain_traffic_crosses() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::new(), |_, [r1, _], containers, _| {
        traffic(containers)?;
        let status = r1.status("")?;
        assert!(status.contains("Encryption: disabled"), "{status}");
        Ok(())
    })
}

#[test]
fn encrypted_traffic_crosses() -> Result<()> {
    let options = RouterOptions::new().password("correct horse");
    with_two_hosts(1500, &options, |_, [r1, r2], containers, _| {
        traffic(containers)?;
        for router in [r1, r2] {
            let status = router.status("")?;
            assert!(status.contains("Encryption: enabled"), "{status}");
            let connections = router.status("connections")?;
            assert!(connections.contains("established encrypted "), "{connections}");
        }
        Ok(())
    })
}

#[test]
fn both_sides_may_dial() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(RouterOptions::new().peer(wire.b()))?;
    let r2 = h2.router(RouterOptions::new().peer(wire.a()))?;
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    traffic([&c1, &c2])?;
    lab.finish()
}

#[test]
fn the_pages_show_what_is_there() -> Result<()> {
    with_two_hosts(1500, &RouterOptions::new(), |_, [r1, r2], [_, c2], wire| {
        let connections = r2.status("connections")?;
        let expected = format!("-> {}:6783", wire.a());
        assert!(connections.starts_with(&expected), "{connections}");
        assert!(connections.contains(&format!("{}(h1)", r1.name()?)), "{connections}");

        let report = r2.report()?;
        let connection = &report["Router"]["Connections"][0];
        let time = connection["RoundTripSeconds"].as_f64().context("no round-trip time")?;
        assert!(time > 0.0, "{time} s");
        assert!(connections.contains(" rtt="), "{connections}");

        let peers = r1.status("peers")?;
        for router in [r1, r2] {
            assert!(peers.contains(&router.name()?), "{peers}");
        }
        assert_eq!(r2.status("targets")?.trim(), wire.a());

        let report = r1.report()?;
        let macs = report["Router"]["MACs"].as_array().context("no MACs")?;
        let mac = c2.mac()?;
        assert!(macs.iter().any(|entry| entry["Mac"] == mac.as_str()), "{mac} in {macs:?}");

        let metrics = r1.get_status_address("/metrics")?;
        assert_eq!(metrics.status, 200);
        let line = metrics.body.lines().find(|line| {
            line.starts_with("weave_connections{") && line.contains("state=\"established\"")
        });
        assert!(line.is_some_and(|line| line.ends_with(" 1")), "{}", metrics.body);
        Ok(())
    })
}

#[test]
fn peers_are_connected_and_forgotten_at_run_time() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(RouterOptions::new())?;
    let r2 = h2.router(RouterOptions::new())?;
    h1.weave(&format!("connect {}", wire.b()))?;
    r2.wait_established(1, SOON)?;
    assert_eq!(r1.status("targets")?.trim(), wire.b());
    h1.weave(&format!("forget {}", wire.b()))?;
    assert_eq!(r1.status("targets")?.trim(), "");
    assert_eq!(r1.post("/connect", "peer=%20no%20address")?.status, 400);
    lab.finish()
}
