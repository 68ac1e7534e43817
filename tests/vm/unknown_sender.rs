//! What somebody can do who is on the same network and has no part in the mesh.
//!
//! ```text
//!  c1 --- h1 ════ VXLAN ════ h2 --- c2
//!          ▲
//!          └── h3: knows the short ids, and no connection
//! ```

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use weave_testbed::{Capture, Host, Router, RouterOptions, eventually, try_until};

use crate::{SOON, lab};

/// The number of frames from the second host to the first.
fn network(router: &Router<'_>) -> Result<u32> {
    let report = router.report()?;
    let peers = report["Router"]["Peers"].as_array().context("no peers")?;
    let id = |name: &str| -> Result<u32> {
        let peer = peers.iter().find(|peer| peer["NickName"] == name).context("no such peer")?;
        Ok(u32::try_from(peer["ShortID"].as_u64().context("no short id")?)?)
    };
    Ok(id("h2")? | id("h1")? << 12)
}

/// Heartbeats of a made-up connection.
fn heartbeats(from: &Host, network: u32) -> Result<()> {
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((network << 8).to_be_bytes());
    packet.extend([0; 14]);
    packet.extend(*b"anything");
    packet.extend([0, 24]);
    from.namespace.enter(move || -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..100 {
            socket.send_to(&packet, "192.168.50.1:6784")?;
        }
        Ok(())
    })?
}

#[test]
fn a_tunnel_does_not_follow_who_knows_no_connection() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2, stranger] = &hosts;
    let _switch = lab.switch(&[h1, h2, stranger], 1500)?;
    let r1 = h1.router(RouterOptions::new())?;
    let r2 = h2.router(RouterOptions::new().peer("192.168.50.1"))?;
    for router in [&r1, &r2] {
        try_until("fastdp", SOON, || {
            let page = router.status("connections")?;
            ensure!(page.contains(" established fastdp "), "{page}");
            Ok(())
        })?;
    }
    let [c1, _c2] = [h1.container("c1", "10.32.0.1/12")?, h2.container("c2", "10.32.0.2/12")?];
    c1.wait_ping("10.32.0.2", SOON)?;
    let capture = Capture::start(&lab, &stranger.namespace, "eth0", "udp port 6784")?;
    let number = network(&r1)?;
    let dropped = || Ok(r1.report()?["Router"]["Connections"][0]["Counters"].to_string());
    // Its true heartbeats, which would lead the tunnel back, are missing.
    r2.signal(Signal::SIGSTOP)?;
    heartbeats(stranger, number)?;
    eventually("they are counted", SOON, || {
        let dropped: Result<String> = dropped();
        dropped.is_ok_and(|text| text.contains("\"fastdp.rx_dropped_heartbeat\":100"))
    })?;
    let ping = c1.ping("10.32.0.2", 20, "")?;
    r2.signal(Signal::SIGCONT)?;
    ensure!(ping.received == 20, "{ping:?}: {}", dropped()?);
    let capture = capture.finish()?;
    ensure!(capture.fields("ip.src == 192.168.50.1", &["frame.number"])?.is_empty());
    lab.finish()
}
