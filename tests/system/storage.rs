//! A host whose disk takes nothing for a while.
//!
//! ```text
//!  a, c --- h1 ===== h2 --- b        the state of h1 lies on a disk of its own
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weave_testbed::{Container, Host, Router, RouterOptions, try_until};

use crate::{SOON, lab};

const RANGE: &str = "--ipalloc-range=10.32.0.0/12";
/// Room for the state and the log, and some more.
const SIZE: &str = "size=4m";

/// A small disk for all files of a router; gone when it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn of(host: &'a Host) -> Result<Self> {
        let disk = Self(host.directory());
        disk.mount(&["-t", "tmpfs", "-o", SIZE, "none"])?;
        Ok(disk)
    }

    fn mount(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new("mount").args(arguments).arg(self.0).status()?;
        ensure!(done.success(), "mount {arguments:?}: {done}");
        Ok(())
    }

    fn fill(&self) -> Result<()> {
        let fill = self.0.join("fill");
        let mut size = 1 << 20;
        let mut bytes = Vec::new();
        // As much as fits, to the page.
        while size >= 4096 {
            bytes.resize(bytes.len() + size, 1);
            if fs::write(&fill, &bytes).is_err() {
                bytes.truncate(bytes.len() - size);
                size /= 2;
            }
        }
        // What was cut off was given back.
        let _full = fs::write(&fill, &bytes);
        let more = fs::write(self.0.join("more"), [1; 8192]);
        ensure!(more.is_err(), "the disk is not full");
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        fs::remove_file(self.0.join("fill"))?;
        fs::remove_file(self.0.join("more"))?;
        Ok(())
    }

    fn read_only(&self, read_only: bool) -> Result<()> {
        self.mount(&["-o", if read_only { "remount,ro" } else { "remount,rw" }])
    }
}

impl Disk<'_> {
    /// `ip netns exec` gives each program its own view of what is mounted: this changes that of the
    /// router.
    fn allow_writing_to(&self, host: &Host) -> Result<()> {
        let name = host.namespace.name();
        let listed = Command::new("ip").args(["netns", "pids", name]).output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let router = listed.lines().next().context("no router")?.trim();
        let mut remount = Command::new("nsenter");
        remount.args(["--target", router, "--mount", "mount", "-o", "remount,rw"]);
        let done = remount.arg(self.0).status()?;
        ensure!(done.success(), "remount for {router}: {done}");
        Ok(())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Of no use to the test any more.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn attach(host: &Host, container: &Container) -> Result<String> {
    Ok(host.weave(&format!("attach {}", container.namespace.name()))?.trim().to_owned())
}

fn options(seed: &str) -> RouterOptions {
    RouterOptions::new().argument(RANGE).argument(seed)
}

/// A few attempts, of which the last ones are refused.
fn refused(router: &Router) -> Result<String> {
    for number in 0..64 {
        let answer = router.post(&format!("/ip/x{number}"), "")?;
        if answer.status == 503 {
            return Ok(answer.body);
        }
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    }
    bail!("nothing is refused")
}

#[test]
fn a_full_disk_stops_the_allocation_and_nothing_else() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let disk = Disk::of(&h1)?;
    let seed = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let mut r1 = h1.router(options(&seed))?;
    let r2 = h2.router(options(&seed).peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    let (a, b) = (h1.bare_container("a")?, h2.bare_container("b")?);
    let (first, other) = (attach(&h1, &a)?, attach(&h2, &b)?);
    a.wait_ping(&other, SOON)?;

    disk.fill()?;
    let reason = refused(&r1)?;
    ensure!(reason.contains("No space left on device"), "{reason}");
    ensure!(reason.contains("tried again"), "{reason}");
    ensure!(r1.status("")?.contains("Storage: cannot write"), "{}", r1.status("")?);
    let metrics = r1.get_status_address("/metrics")?.body;
    ensure!(metrics.contains("weave_storage_failing 1\n"), "{metrics}");
    let lost = a.namespace.exec(&format!("ping -c 20 -i 0.2 -w 8 {other}"))?;
    ensure!(lost.contains(" 0% packet loss"), "{lost}");
    ensure!(r1.is_running(), "it ended");
    r2.wait_established(1, SOON)?;

    // The next one starts all the same, and forgets nothing.
    r1.kill()?;
    let r1 = h1.router(options(&seed).peer(wire.b()))?;
    a.wait_ping(&other, SOON)?;
    let held = r1.get("/ip")?.body;
    ensure!(held.contains(&format!("\"{first}/12\"")), "{first} is forgotten: {held}");
    let reason = refused(&r1)?;
    ensure!(reason.contains("No space left on device"), "{reason}");

    disk.empty()?;
    let c = h1.bare_container("c")?;
    let late = try_until("addresses are given out again", SOON, || attach(&h1, &c))?;
    ensure!(late != first, "{late} is given out twice");
    c.wait_ping(&other, SOON)?;
    ensure!(!r1.status("")?.contains("Storage:"), "{}", r1.status("")?);
    // It was stored.
    r1.kill()?;
    let r1 = h1.router(options(&seed).peer(wire.b()))?;
    ensure!(r1.get("/ip")?.body.contains(&format!("\"{late}/12\"")), "{late} is forgotten");
    drop((r1, r2, disk));
    lab.finish()
}

/// `weave launch` and `weave stop`, for which there are a log and a process id, too.
#[test]
fn a_router_starts_from_a_disk_that_is_read_only() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let disk = Disk::of(&host)?;
    let launch = format!("launch --name {} {RANGE} --ipalloc-init=consensus=1", host.peer_name());
    host.weave(&launch)?;
    let (a, b) = (host.bare_container("a")?, host.bare_container("b")?);
    let first = attach(&host, &a)?;
    host.weave("stop")?;
    disk.read_only(true)?;
    host.weave(&launch)?;
    let held = host.weave("ps")?;
    ensure!(held.contains(&first), "{first} is forgotten: {held}");
    let refused = attach(&host, &b).err().context("an address is given out")?.to_string();
    ensure!(refused.contains("Read-only file system"), "{refused}");
    let twice = host.weave(&launch).err().context("a second router")?.to_string();
    ensure!(twice.contains("a router is running already"), "{twice}");
    // It can be written again, and the router finds out by itself.
    disk.read_only(false)?;
    disk.allow_writing_to(&host)?;
    let second = try_until("addresses are given out in place", SOON, || attach(&host, &b))?;
    ensure!(first != second, "{first} is given out twice");
    host.weave("stop")?;
    host.weave(&launch)?;
    let held = host.weave("ps --holders")?;
    ensure!(held.contains(&first) && held.contains(&second), "not stored: {held}");
    host.weave("stop")?;
    drop(disk);
    lab.finish()
}

/// A mistyped range gives out addresses of its own, and the right one goes on where it was.
#[test]
fn a_mistyped_range_costs_no_allocation() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let start = |range: &str| {
        let range = format!("--ipalloc-range={range}");
        host.router(RouterOptions::new().argument(&range).argument("--ipalloc-init=consensus=1"))
    };
    let router = start("10.32.0.0/12")?;
    ensure!(router.post("/ip/c1", "")?.body == "10.32.0.1/12");
    router.stop()?;
    let router = start("10.3.0.0/16")?;
    router.wait_log("they are set aside in the state file", Duration::from_secs(5))?;
    ensure!(router.post("/ip/c1", "")?.body == "10.3.0.1/16");
    router.stop()?;
    let router = start("10.32.0.0/12")?;
    ensure!(router.get("/ip/c1")?.body == "10.32.0.1/12", "forgotten");
    let next = router.post("/ip/c2", "")?.body;
    ensure!(next == "10.32.0.2/12", "{next}");
    router.stop().context("it does not end in good order")?;
    lab.finish()
}
