//! Routers that are replaced while containers talk: what the kernel carries by VXLAN devices goes on.
//!
//! ```text
//!  c1 --- h1 ===== h2 --- c2
//! ```

use anyhow::{Result, ensure};
use weave_testbed::{Container, Host, Lab, Numbered, Router, RouterOptions, try_until};

use crate::fastdp::{devices, wait_overlay};
use crate::{SOON, lab};

/// Datagrams that cross while nobody is there, a second of them.
const MEANWHILE: u64 = 500;

fn by_devices() -> RouterOptions {
    RouterOptions::new().argument("--capture=tap")
}

/// How a router ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By SIGTERM, as in a rollout.
    Stopped,
    /// By SIGKILL.
    Killed,
}

impl End {
    fn of(self, router: Router<'_>) -> Result<()> {
        match self {
            Self::Stopped => router.stop(),
            Self::Killed => router.kill(),
        }
    }
}

struct Story<'lab> {
    hosts: &'lab [Host; 2],
    address: String,
    routers: [Option<Router<'lab>>; 2],
    containers: [Container; 2],
}

impl<'lab> Story<'lab> {
    fn begin(lab: &Lab, hosts: &'lab [Host; 2]) -> Result<Self> {
        let [h1, h2] = hosts;
        let address = lab.wire(h1, h2, 1500)?.a().to_owned();
        let routers =
            [Some(h1.router(by_devices())?), Some(h2.router(by_devices().peer(&address))?)];
        let c1 = h1.container("c1", "10.32.0.1/12")?;
        let c2 = h2.container("c2", "10.32.0.2/12")?;
        let story = Self { hosts, address, routers, containers: [c1, c2] };
        story.wait_fast()?;
        story.containers[0].wait_ping("10.32.0.2", SOON)?;
        Ok(story)
    }

    fn start(&mut self, host: usize) -> Result<()> {
        let options = if host == 0 { by_devices() } else { by_devices().peer(&self.address) };
        self.routers[host] = Some(self.hosts[host].router(options)?);
        Ok(())
    }

    fn end(&mut self, host: usize, how: End) -> Result<()> {
        self.routers[host].take().map_or(Ok(()), |router| how.of(router))
    }

    fn wait_fast(&self) -> Result<()> {
        let [r1, r2] = &self.routers;
        for (router, other) in [(r1, &self.hosts[1]), (r2, &self.hosts[0])] {
            router.iter().try_for_each(|router| wait_overlay(router, other, "fastdp"))?;
        }
        Ok(())
    }

    /// Waits until both bridges know the other container behind a device of the fast datapath.
    fn wait_carried(&self) -> Result<()> {
        for (host, container) in self.hosts.iter().zip(self.containers.iter().rev()) {
            let mac = container.mac()?;
            try_until(&format!("the kernel carries to {mac}"), SOON, || {
                let stations = host.namespace.exec("bridge fdb show br weave")?;
                let is_there = |line: &str| line.starts_with(&mac) && line.contains("vxwe-");
                ensure!(stations.lines().any(is_there), "{stations}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Counts frames, not time: none is lost, and none arrives twice.
#[test]
fn nothing_is_lost_while_routers_are_replaced() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let mut story = Story::begin(&lab, &hosts)?;
    let [c1, c2] = &story.containers;
    let streams =
        [Numbered::start(c1, c2, "10.32.0.2", 5001)?, Numbered::start(c2, c1, "10.32.0.1", 5002)?];
    story.wait_carried()?;
    let before = [devices(&hosts[0])?, devices(&hosts[1])?];
    ensure!(before.iter().all(|devices| devices.len() == 1), "{before:?}");
    let meanwhile = || streams.iter().try_for_each(|stream| stream.wait_more(MEANWHILE, SOON));
    for (gone, how) in [
        (&[1][..], End::Stopped),
        (&[1], End::Killed),
        (&[0], End::Stopped),
        (&[0], End::Killed),
        (&[0, 1], End::Stopped),
        (&[1, 0], End::Killed),
    ] {
        println!("{how:?}: {gone:?}");
        for host in gone {
            story.end(*host, how)?;
        }
        meanwhile()?;
        for host in gone {
            story.start(*host)?;
        }
        story.wait_fast()?;
        meanwhile()?;
        let now = [devices(&hosts[0])?, devices(&hosts[1])?];
        ensure!(now == before, "{now:?} are not {before:?}");
    }
    for stream in streams {
        let delivery = stream.end()?;
        println!("{delivery:?}");
        ensure!(delivery.lost == 0 && delivery.duplicates == 0, "{delivery:?}");
    }
    // Those who come later are found, which takes floods.
    let c3 = hosts[1].container("c3", "10.32.0.3/12")?;
    c3.wait_ping("10.32.0.1", SOON)?;
    let ping = c3.ping("10.32.0.1", 20, "")?;
    ensure!((ping.received, ping.duplicates) == (20, 0), "{ping:?}");
    lab.finish()
}

/// What was left is removed by whoever does not use it.
#[test]
fn what_a_router_leaves_is_removed_with_it() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let [h1, h2] = &hosts;
    let rules = |host: &Host| host.namespace.exec("nft list ruleset");
    let mut story = Story::begin(&lab, &hosts)?;
    story.wait_carried()?;
    story.end(1, End::Stopped)?;
    ensure!(devices(h2)?.len() == 1, "it stays");
    ensure!(rules(h2)?.contains("192.168.1.1"), "only the neighbour gets through: {}", rules(h2)?);
    let options = RouterOptions::sleeve().peer(&story.address);
    story.routers[1] = Some(h2.router(options)?);
    ensure!(devices(h2)?.is_empty(), "{:?}", devices(h2)?);
    ensure!(!rules(h2)?.contains("192.168.1.1"), "{}", rules(h2)?);
    story.containers[0].wait_ping("10.32.0.2", SOON)?;
    story.end(1, End::Stopped)?;

    story.start(1)?;
    story.wait_fast()?;
    story.end(0, End::Killed)?;
    // One of them may be of the id that the other host had before.
    ensure!(!devices(h1)?.is_empty(), "they stay");
    h1.weave("reset")?;
    ensure!(devices(h1)?.is_empty() && !rules(h1)?.contains("6784"), "{}", rules(h1)?);
    lab.finish()
}

/// A password is asked for from now on: nothing goes on in clear.
#[test]
fn what_was_left_in_clear_ends_with_the_first_password() -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let mut story = Story::begin(&lab, &hosts)?;
    story.wait_carried()?;
    story.end(1, End::Stopped)?;
    let options = by_devices().password("correct horse battery staple").peer(&story.address);
    let _r2 = hosts[1].router(options)?;
    ensure!(devices(&hosts[1])?.is_empty(), "{:?}", devices(&hosts[1])?);
    lab.finish()
}
