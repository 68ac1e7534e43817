//! What is left on a host when the router is gone.
//!
//! ```text
//!  c1 --- h1
//! ```

use anyhow::Result;
use nix::sys::signal::Signal;
use weave_testbed::{Host, RouterOptions};

use crate::{SOON, lab};

/// Names of the devices in a host's namespace.
fn devices(host: &Host) -> Result<Vec<String>> {
    let text = host.namespace.exec("ls /sys/class/net")?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn reset_leaves_no_device_and_no_file() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let before = devices(&host)?;
    let router = host.router(RouterOptions::new())?;
    let container = host.container("c1", "10.32.0.1/12")?;
    assert!(devices(&host)?.iter().any(|device| device == "weave"));
    router.stop()?;
    host.weave("reset")?;
    assert_eq!(devices(&host)?, before);
    assert!(container.mac().is_err(), "the container's interface is gone with its other end");
    let files: Vec<_> = std::fs::read_dir(host.directory())?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "router.log")
        .collect();
    assert!(files.is_empty(), "{files:?}");
    lab.finish()
}

/// For some moments its sockets still take connections, and its devices are still there.
#[test]
fn reset_works_while_the_kernel_clears_a_killed_router_away() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let before = devices(&host)?;
    for _ in 0..3 {
        let router = host.router(RouterOptions::new())?;
        router.signal(Signal::SIGKILL)?;
        host.weave("reset")?;
        assert_eq!(devices(&host)?, before);
    }
    lab.finish()
}

#[test]
fn a_stop_keeps_the_bridge_and_the_containers() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::new())?;
    let c1 = host.container("c1", "10.32.0.1/12")?;
    let _c2 = host.container("c2", "10.32.0.2/12")?;
    router.stop()?;
    c1.wait_ping("10.32.0.2", SOON)?;
    lab.finish()
}

#[test]
fn attach_and_detach_can_be_repeated() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let _router = host.router(RouterOptions::new())?;
    let c1 = host.container("c1", "10.32.0.1/12")?;
    let name = c1.namespace.name().to_owned();
    host.weave(&format!("attach {name} 10.32.0.1/12"))?;
    host.weave(&format!("attach {name} 10.32.5.1/24"))?;
    let addresses = c1.namespace.ip("-4 -o addr show dev ethwe")?;
    assert_eq!(addresses.lines().count(), 2, "{addresses}");
    host.weave(&format!("detach {name} 10.32.5.1/24"))?;
    let addresses = c1.namespace.ip("-4 -o addr show dev ethwe")?;
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    host.weave(&format!("detach {name} 10.32.0.1/12"))?;
    assert!(c1.mac().is_err(), "the last address takes the interface with it");
    Ok(())
}

#[test]
fn launch_returns_when_ready_and_stop_ends_it() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    host.weave(&format!("launch --name {}", host.peer_name()))?;
    let status = host.weave("status")?;
    assert!(status.contains("Service: router"), "{status}");
    host.weave("stop")?;
    assert!(host.weave("status").is_err());
    assert_eq!(host.namespace.pids(), Vec::<i32>::new());
    lab.finish()
}
