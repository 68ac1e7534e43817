//! Devices that somebody takes away from a running router, and two routers on one host.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2        c1 --- weave ---+
//!                                                   | h1
//!                                   c2 --- other ---+
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::{Host, RouterOptions, eventually};

use crate::{SOON, lab};

/// What a device and its place in the bridge may take to come back, on a busy machine.
const MENDED: Duration = Duration::from_secs(20);

fn is_port_of(host: &Host, port: &str, bridge: &str) -> bool {
    let shown = host.namespace.ip(&format!("-o link show dev {port}"));
    shown.is_ok_and(|shown| shown.contains(&format!(" master {bridge} ")))
}

fn mended_after(capture: &str, damages: &[&str], port: &str) -> Result<()> {
    let lab = lab()?;
    let hosts: [Host; 2] = lab.hosts()?;
    let wire = lab.wire(&hosts[0], &hosts[1], 1500)?;
    let options = RouterOptions::new().argument(capture);
    let mut r1 = hosts[0].router(options.clone())?;
    let r2 = hosts[1].router(options.peer(wire.a()))?;
    r2.wait_established(1, SOON)?;
    let c1 = hosts[0].container("c1", "10.32.0.1/12")?;
    let _c2 = hosts[1].container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let captured = |router: &weave_testbed::Router<'_>| -> Result<u64> {
        let report = router.report()?;
        report["Router"]["CaptureStats"]["captured"].as_u64().context("nothing captured")
    };
    for damage in damages {
        let before = captured(&r1)?;
        hosts[0].namespace.ip(damage)?;
        eventually("the port is back on its bridge", MENDED, || {
            is_port_of(&hosts[0], port, "weave")
        })?;
        c1.wait_ping("10.32.0.2", MENDED)?;
        assert!(captured(&r1)? >= before, "counters go on");
    }
    assert!(r1.is_running());
    r1.stop()?;
    lab.finish()
}

#[test]
fn a_removed_tap_device_is_made_again() -> Result<()> {
    let damages = ["link del vethwe-tap", "link del weave", "link set vethwe-tap name taken"];
    mended_after("--capture=tap", &damages, "vethwe-tap")
}

#[test]
fn a_removed_capture_pair_is_made_again() -> Result<()> {
    mended_after("--capture=pcap", &["link del vethwe-pcap", "link del weave"], "vethwe-bridge")
}

#[test]
fn a_device_that_cannot_be_made_is_tried_again() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::new().argument("--capture=tap"))?;
    let batch = lab.directory().join("batch");
    std::fs::write(&batch, "link del vethwe-tap\nlink add vethwe-tap type veth peer name x\n")?;
    // While the lock is held, the router cannot be faster than the second line.
    weave_testbed::run(
        "flock",
        &[
            "/run/weave/devices.lock",
            "ip",
            "-n",
            host.namespace.name(),
            "-batch",
            batch.to_str().context("no text")?,
        ],
    )?;
    for pause in [1, 2] {
        let line = format!("next attempt in {pause} s: cannot make the TAP device vethwe-tap");
        router.wait_log(&line, MENDED)?;
    }
    let report = router.report()?;
    let interface = report["Router"]["Interface"].as_str().context("no interface")?;
    assert!(interface.starts_with("vethwe-tap was lost"), "{interface}");
    host.namespace.ip("link del vethwe-tap")?;
    eventually("the port is back", MENDED, || is_port_of(&host, "vethwe-tap", "weave"))?;
    router.wait_log("vethwe-tap is new", MENDED)?;
    router.stop()?;
    lab.finish()
}

#[test]
fn two_routers_share_a_host() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let files = |name: &str| lab.directory().join(name).display().to_string();
    let flags = |name: &str| {
        let files = files(name);
        let name = if name == "first" { "weave" } else { name };
        format!("--weave-bridge {name} --db-prefix {files}")
    };
    let ports = "--port 7783 --http-addr 127.0.0.1:7784 --status-addr 127.0.0.1:7782";
    let before = host.namespace.ip("-o link show")?;
    host.weave(&format!("launch {} --nickname first", flags("first")))?;
    // What is taken is found out one after the other, and every time nothing is left.
    let taken = [
        ("", "cannot listen for HTTP control on 127.0.0.1:6784"),
        ("--http-addr= --status-addr=", "cannot listen on UDP 0.0.0.0:6783"),
    ];
    let devices = host.namespace.ip("-o link show")?;
    for (given, complaint) in taken {
        let line = format!("launch {} {given}", flags("other"));
        let error = host.weave(&line).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
        assert_eq!(host.namespace.ip("-o link show")?, devices, "after {error}");
        assert!(!std::fs::exists(files("other") + ".pid")?, "after {error}");
    }
    // TCP is tried when the bridge is there already.
    let squatter = host.namespace.enter(|| std::net::TcpListener::bind("0.0.0.0:7783"))??;
    for capture in ["tap", "pcap"] {
        let line = format!("launch {} {ports} --capture {capture}", flags("other"));
        let error = host.weave(&line).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("cannot listen on TCP 0.0.0.0:7783"), "{error}");
        assert_eq!(host.namespace.ip("-o link show")?, devices);
        assert!(!std::fs::exists(files("other") + ".pid")?);
    }
    drop(squatter);

    host.weave(&format!("launch {} {ports} --nickname second 127.0.0.1:6783", flags("other")))?;
    eventually("the two are connected", SOON, || {
        host.weave("status connections --http-addr 127.0.0.1:7784")
            .is_ok_and(|page| page.contains(" established ") && page.contains("(first)"))
    })?;
    let [c1, c2] = [host.bare_container("c1")?, host.bare_container("c2")?];
    let attach = |bridge: &str, container: &weave_testbed::Container, address: &str| {
        let name = container.namespace.name();
        host.weave(&format!("attach --weave-bridge {bridge} {name} {address}"))
    };
    attach("weave", &c1, "10.32.0.1/24")?;
    attach("other", &c2, "10.32.0.2/24")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let error = attach("weave", &c2, "10.32.0.3/24").unwrap_err().to_string();
    assert!(error.contains("is on bridge other, not on weave"), "{error}");

    // Neither stop nor reset of one touches the other.
    host.weave(&format!("reset {}", flags("other")))?;
    assert!(c2.mac().is_err());
    assert!(is_port_of(&host, "vethwe-tap", "weave"));
    assert!(host.weave("status")?.contains("(first)"));
    host.weave(&format!("reset {}", flags("first")))?;
    assert_eq!(host.namespace.ip("-o link show")?, before);
    lab.finish()
}

#[test]
fn without_openvswitch_frames_go_through_user_space_and_the_status_says_why() -> Result<()> {
    let lab = lab()?;
    let hosts: [Host; 2] = lab.hosts()?;
    let wire = lab.wire(&hosts[0], &hosts[1], 1500)?;
    let options = RouterOptions::new().argument("--capture=datapath");
    let r1 = hosts[0].router(options.clone())?;
    let r2 = hosts[1].router(options.peer(wire.a()))?;
    r2.wait_established(1, SOON)?;
    let c1 = hosts[0].container("c1", "10.32.0.1/12")?;
    let _c2 = hosts[1].container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let report = r1.report()?;
    let interface = report["Router"]["Interface"].as_str().context("no interface")?;
    // Where the kernel has it, that is what is used.
    let there = interface == "datapath (via ODP)";
    assert!(there || interface.contains("no datapath: this kernel lacks"), "{interface}");
    let status = r1.status("")?;
    assert!(status.contains(&format!("Capture: {interface}\n")), "{status}");
    assert!(there || status.contains("(via tap, offloads: checksum tcp"), "{status}");
    lab.finish()
}
