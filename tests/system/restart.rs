//! Routers that end and come back while containers stay.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, Wire};

use crate::{SOON, lab};

/// Everything heals within the heartbeat timeout of a minute.
const HEALED: Duration = Duration::from_secs(75);

/// The connections of an address that is gone end within two seconds, the next attempt comes within
/// three, and the side that knows of nothing waits two for an answer; the rest is for a busy
/// machine.
const MOVED: Duration = Duration::from_secs(20);

fn started<'h>(
    lab: &Lab,
    [h1, h2]: &'h [Host; 2],
) -> Result<(Wire, [Router<'h>; 2], [Container; 2])> {
    let wire = lab.wire(h1, h2, 1500)?;
    let r1 = h1.router(RouterOptions::new())?;
    let r2 = h2.router(RouterOptions::new().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    Ok((wire, [r1, r2], [c1, c2]))
}

#[test]
fn a_restart_resumes_the_peers_and_the_containers() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (wire, [r1, r2], [c1, c2]) = started(&lab, &hosts)?;
    let [h1, h2] = &hosts;
    // The dialling side, without being told its peer again.
    r2.stop()?;
    let r2 = h2.router(RouterOptions::new().argument("--resume"))?;
    assert_eq!(r2.status("targets")?.trim(), wire.a());
    r2.wait_established(1, SOON)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    // The side that is dialled.
    r1.stop()?;
    let r1 = h1.router(RouterOptions::new())?;
    r1.wait_established(1, HEALED)?;
    c2.wait_ping("10.32.0.1", SOON)?;
    lab.finish()
}

#[test]
fn a_killed_router_comes_back_with_its_containers() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (wire, [r1, r2], [c1, c2]) = started(&lab, &hosts)?;
    let [h1, h2] = &hosts;
    r2.kill()?;
    let r2 = h2.router(RouterOptions::new().peer(wire.a()))?;
    r2.wait_established(1, SOON)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    r1.kill()?;
    let r1 = h1.router(RouterOptions::new())?;
    r1.wait_established(1, HEALED)?;
    c2.wait_ping("10.32.0.1", SOON)?;
    lab.finish()
}

#[test]
fn both_are_killed_at_once() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (wire, [r1, r2], [c1, _c2]) = started(&lab, &hosts)?;
    let [h1, h2] = &hosts;
    r1.kill()?;
    r2.kill()?;
    let r1 = h1.router(RouterOptions::new())?;
    let _r2 = h2.router(RouterOptions::new().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}

#[test]
fn the_address_of_a_peer_changes() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let (wire, [r1, r2], [c1, _c2]) = started(&lab, &hosts)?;
    let [_, h2] = &hosts;
    // The dialling side moves to another address of the same network.
    h2.namespace.ip(&format!("addr del {}/24 dev {}", wire.b(), wire.device_b()))?;
    h2.namespace.ip(&format!("addr add 192.168.1.99/24 dev {}", wire.device_b()))?;
    weave_testbed::eventually("a connection from the new address", MOVED, || {
        r1.status("connections").is_ok_and(|page| {
            page.lines().any(|line| line.contains("192.168.1.99") && line.contains("established"))
        })
    })?;
    r2.wait_established(1, SOON)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}
