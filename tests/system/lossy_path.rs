//! An underlay that loses or repeats datagrams.
//!
//! ```text
//!  c1 --- h1 === p1 (switch) p2 === h2 --- c2
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{Host, Namespace, Router, RouterOptions, try_until};

use crate::{SOON, lab};

/// What becomes of one datagram in so many that come in at a port of the switch.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    Repeated,
}

impl Fate {
    /// Has it happen at `port` to datagrams on their way to `other`.
    fn apply(self, switch: &Namespace, port: &str, other: &str) -> Result<()> {
        let (one_in, verdict) = match self {
            Self::Lost => (100, "drop".to_owned()),
            Self::Repeated => (20, format!("dup to {other}")),
        };
        switch.exec(&format!(
            "nft add chain netdev path {port} {{ type filter hook ingress device {port} priority 0 ; }}"
        ))?;
        let condition = format!("udp dport 6783 numgen random mod {one_in} < 1");
        switch.exec(&format!("nft add rule netdev path {port} {condition} counter {verdict}"))?;
        Ok(())
    }
}

/// How many datagrams of each port it happened to.
fn counted(switch: &Namespace) -> Result<Vec<u64>> {
    let listing = switch.exec("nft list table netdev path")?;
    let counts = listing.split("counter packets ").skip(1);
    counts.map(|rest| Ok(rest.split(' ').next().context("no number")?.parse()?)).collect()
}

/// TCP both ways, while the connection of the routers stays.
fn streams_cross(options: &RouterOptions, fate: Fate) -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    for host in [&h1, &h2] {
        // A GSO batch is cut before it leaves the host, so that each datagram has a fate of its
        // own.
        host.namespace.exec("ethtool -K eth0 tx-udp-segmentation off")?;
    }
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer("192.168.50.1"))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    switch.exec("nft add table netdev path")?;
    fate.apply(&switch, "p1", "p2")?;
    fate.apply(&switch, "p2", "p1")?;
    Stream::start(&c1, &c2, "10.32.0.2", 50_000_000)?.join()?;
    Stream::start(&c2, &c1, "10.32.0.1", 50_000_000)?.join()?;
    let counts = counted(&switch)?;
    ensure!(counts.len() == 2 && counts.iter().all(|count| *count > 100), "{counts:?}");
    for router in [&r1, &r2] {
        ensure!(!router.log().contains("connection deleted"), "the connection ended");
    }
    lab.finish()
}

#[test]
fn one_of_a_hundred_is_lost() -> Result<()> {
    streams_cross(&RouterOptions::sleeve(), Fate::Lost)
}

#[test]
fn one_of_a_hundred_is_lost_sealed() -> Result<()> {
    streams_cross(&RouterOptions::sleeve().password("p"), Fate::Lost)
}

#[test]
fn one_of_a_hundred_is_lost_in_the_legacy_format() -> Result<()> {
    streams_cross(&RouterOptions::sleeve().argument("--sleeve-format=legacy"), Fate::Lost)
}

#[test]
fn one_of_twenty_comes_twice() -> Result<()> {
    streams_cross(&RouterOptions::sleeve(), Fate::Repeated)
}

#[test]
fn one_of_twenty_comes_twice_sealed() -> Result<()> {
    streams_cross(&RouterOptions::sleeve().password("p"), Fate::Repeated)
}

/// GSO batches are longer than anything else on this underlay.
#[test]
fn trains_that_never_arrive_are_done_without() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(RouterOptions::sleeve())?;
    let r2 = h2.router(RouterOptions::sleeve().peer("192.168.50.1"))?;
    r1.wait_established(1, SOON)?;
    r2.wait_established(1, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    switch.exec("nft add table netdev path")?;
    switch
        .exec("nft add chain netdev path p1 { type filter hook ingress device p1 priority 0 ; }")?;
    switch.exec("nft add rule netdev path p1 udp dport 6783 meta length > 2000 counter drop")?;
    let stream = Stream::start(&c1, &c2, "10.32.0.2", 200_000_000)?;
    r1.wait_log("sending them one by one", SOON * 2)?;
    let connections = r1.status("connections")?;
    ensure!(connections.contains(",trains-off-for-"), "{connections}");
    stream.join()?;
    ensure!(counted(&switch)?.iter().all(|count| *count > 0), "nothing was lost");
    lab.finish()
}

/// What a router has counted of its link to this neighbour.
fn count(router: &Router, neighbour: &Host, name: &str) -> Result<u64> {
    let metrics = router.get_status_address("/metrics")?.body;
    let start = format!("weave_link_{name}_total{{peer=\"{}\"", neighbour.peer_name());
    let mut lines = metrics.lines().filter(|line| line.starts_with(&start));
    let line = lines.next().with_context(|| format!("no {start} in:\n{metrics}"))?;
    Ok(line.rsplit(' ').next().context("no number")?.parse()?)
}

/// ```text
///  c2 --- h2 === h1 =( slow )= h3 --- c3
///                |
///                c1
/// ```
#[test]
fn a_slow_path_to_one_neighbour_slows_no_other() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let (fast, slow) = (lab.wire(&h1, &h2, 1500)?, lab.wire(&h1, &h3, 1500)?);
    let r1 = h1.router(RouterOptions::sleeve())?;
    let _r2 = h2.router(RouterOptions::sleeve().no_discovery().peer(fast.a()))?;
    let _r3 = h3.router(RouterOptions::sleeve().no_discovery().peer(slow.a()))?;
    r1.wait_established(2, SOON)?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    let _c3 = h3.container("c3", "10.32.0.3/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    c1.wait_ping("10.32.0.3", SOON)?;
    // A device whose queue holds far more than it sends while the test runs.
    let device = slow.device_a();
    h1.namespace
        .exec(&format!("tc qdisc add dev {device} root tbf rate 1mbit burst 128k limit 200m"))?;
    let socket = c1.udp(0)?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    // Nobody takes it, which the container hears of, too.
                    let _ = socket.send_to(&[7; 1300], ("10.32.0.3", 9));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let result = (|| {
            try_until("too much is sent to the slow one", SOON, || {
                ensure!(count(&r1, &h3, "tx_dropped_queue_full")? > 0);
                Ok(())
            })?;
            let ping = c1.ping("10.32.0.2", 100, "-i 0.01 -s 1300")?;
            ensure!(ping.received == 100, "{ping:?}");
            ensure!(count(&r1, &h2, "tx_dropped_queue_full")? == 0);
            // Nor does the slow one's link miss what keeps it alive.
            let before = count(&r1, &h3, "tx_datagrams_special")?;
            try_until("a heartbeat goes out", SOON, || {
                ensure!(count(&r1, &h3, "tx_datagrams_special")? > before);
                Ok(())
            })
        })();
        ended.store(true, Ordering::Relaxed);
        result
    })?;
    lab.finish()
}
