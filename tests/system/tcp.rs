//! A network that lets TCP through and no UDP.
//!
//! ```text
//!  c1 --- h1 === p1 (switch, drops UDP) p2 === h2 --- c2
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{RouterOptions, eventually};

use crate::{SOON, lab};

fn without_udp(options: &RouterOptions) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    switch.exec("nft add table netdev path")?;
    for port in ["p1", "p2"] {
        switch.exec(&format!(
            "nft add chain netdev path {port} {{ type filter hook ingress device {port} priority 0 ; }}"
        ))?;
        switch.exec(&format!("nft add rule netdev path {port} meta l4proto udp drop"))?;
    }
    let options = options.clone().argument("--transport=tcp");
    let mut r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer("192.168.50.1"))?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
        let status = router.status("connections")?;
        ensure!(status.contains("established") && status.contains(" tcp "), "{status}");
    }
    c1.wait_ping("10.32.0.2", SOON)?;
    Stream::start(&c1, &c2, "10.32.0.2", 20_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 20_000_000)?.join()?;
    // The TCP connections end with the router, and come again with it.
    r1.kill()?;
    r1 = h1.router(options)?;
    r1.wait_established(1, SOON)?;
    c1.wait_ping("10.32.0.2", SOON)?;
    drop((r1, r2));
    lab.finish()
}

#[test]
fn frames_go_by_tcp() -> Result<()> {
    without_udp(&RouterOptions::sleeve())
}

#[test]
fn sealed_frames_go_by_tcp() -> Result<()> {
    without_udp(&RouterOptions::sleeve().password("the password of the mesh"))
}

/// With UDP the flag changes nothing: tcp is the last choice.
#[test]
fn sleeve_is_preferred() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let options = RouterOptions::sleeve().argument("--transport=tcp");
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.peer("192.168.50.1"))?;
    for router in [&r1, &r2] {
        router.wait_established(1, SOON)?;
        eventually("sleeve is in use", Duration::from_secs(30), || {
            router.status("connections").is_ok_and(|status| status.contains(" sleeve "))
        })?;
    }
    drop((r1, r2));
    lab.finish()
}
