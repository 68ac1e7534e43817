//! An underlay that delays, reorders and loses datagrams, for as long as asked for:
//! `WEAVE_SOAK_SECONDS`, or `cargo xtask vm soak --minutes 10`.
//!
//! ```text
//!  c1 --- h1 === p1 (switch) p2 === h2 --- c2
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Namespace, Ping, Router, RouterOptions, try_until};

use crate::{SOON, lab};

/// Of each direction. The jitter reorders: a datagram that waits less overtakes. The queue holds
/// all that is on its way, so that nothing but the loss asked for is lost.
const NETEM: &str = "loss 1% delay 5ms 1ms limit 10000";

/// Ports of the switch, and the device of the host at each.
const PORTS: [&str; 2] = ["p1", "p2"];
const DEVICE: &str = "eth0";

/// How long the streams run in `cargo xtask test`.
const SECONDS: u64 = 10;

/// No stream may be without a byte for so long. TCP waits 0.2 s before it repeats a segment, and
/// twice as long each time that is lost too: five in a row are one in 10^10.
const STALL: Duration = Duration::from_secs(5);

/// Pings per second.
const PINGS: u64 = 5;

/// What a router may take: 20 MB are usual, and what is lost in ten minutes would be more than the
/// rest.
const MEMORY: u64 = 32 << 20;

#[test]
fn streams_go_on_over_a_path_that_loses_and_reorders() -> Result<()> {
    streams_go_on(&RouterOptions::sleeve())
}

#[test]
fn streams_go_on_over_a_path_that_loses_and_reorders_sealed() -> Result<()> {
    streams_go_on(&RouterOptions::sleeve().password("p"))
}

#[test]
fn streams_go_on_over_a_path_that_loses_and_reorders_in_the_legacy_format() -> Result<()> {
    streams_go_on(&RouterOptions::sleeve().argument("--sleeve-format=legacy"))
}

fn streams_go_on(options: &RouterOptions) -> Result<()> {
    let duration = duration()?;
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let switch = lab.switch(&[&h1, &h2], 1500)?;
    for host in [&h1, &h2] {
        // A GSO batch is cut before it leaves the host, so that each datagram has a fate of its
        // own.
        host.namespace.exec(&format!("ethtool -K {DEVICE} tx-udp-segmentation off"))?;
    }
    for port in PORTS {
        switch.exec(&format!("tc qdisc add dev {port} root netem {NETEM}"))?;
    }
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer("192.168.50.1"))?;
    let routers = [&r1, &r2];
    for router in routers {
        router.wait_established(1, SOON)?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;

    let (longest, ping) = std::thread::scope(|scope| {
        let ping = scope.spawn(|| {
            let interval = format!("-i {}", 1.0 / PINGS as f64);
            let count = u32::try_from(duration.as_secs() * PINGS)?;
            c1.ping("10.32.0.2", count, &interval)
        });
        let longest = both_ways([&c1, &c2], duration)?;
        let ping = ping.join().map_err(|_| anyhow::anyhow!("ping panicked"))??;
        anyhow::Ok((longest, ping))
    })?;
    println!("longest time without a byte: {} ms; {ping:?}", longest.as_millis());
    answered(ping)?;
    for (sender, receiver, port) in [(&r1, &r2, "p2"), (&r2, &r1, "p1")] {
        accounted_for(sender, receiver, &switch, port)?;
    }
    for router in routers {
        let (_, memory) = router.cost()?;
        println!("peak memory: {memory}");
        ensure!(memory < MEMORY, "a router took {memory} bytes of memory");
        ensure!(!router.log().contains("connection deleted"), "the connection ended");
    }
    r1.stop()?;
    r2.stop()?;
    lab.finish()
}

fn duration() -> Result<Duration> {
    let seconds = match std::env::var("WEAVE_SOAK_SECONDS") {
        Ok(text) => text.parse().context("WEAVE_SOAK_SECONDS")?,
        Err(_) => SECONDS,
    };
    Ok(Duration::from_secs(seconds))
}

/// A stream each way for so long; returns the longest time in which one of them got nothing.
fn both_ways(containers: [&Container; 2], duration: Duration) -> Result<Duration> {
    let [c1, c2] = containers;
    let streams = [
        Stream::start(c1, c2, "10.32.0.2", u64::MAX)?,
        Stream::start(c2, c1, "10.32.0.1", u64::MAX)?,
    ];
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    let mut seen = [(0, start); 2];
    while start.elapsed() < duration {
        for (stream, (bytes, when)) in streams.iter().zip(&mut seen) {
            // The other stream was waited for meanwhile.
            let left = STALL.saturating_sub(when.elapsed());
            try_until("a stream goes on", left, || {
                let arrived = stream.arrived();
                ensure!(arrived > *bytes, "{bytes} bytes have arrived");
                longest = longest.max(when.elapsed());
                (*bytes, *when) = (arrived, Instant::now());
                Ok(())
            })?;
        }
    }
    for stream in streams {
        let transfer = stream.stop()?;
        println!("{} bytes in {:.0} s", transfer.bytes, transfer.elapsed.as_secs_f64());
    }
    Ok(longest)
}

/// Pings get lost on their way there or back; more than that are not, and none comes twice.
fn answered(ping: Ping) -> Result<()> {
    let Ping { sent, received, duplicates, .. } = ping;
    ensure!(duplicates == 0, "{ping:?}");
    ensure!(received * 100 >= sent * 90, "{ping:?}");
    Ok(())
}

/// Every datagram of the link that did not arrive was lost by netem, and nothing else was dropped.
fn accounted_for(sender: &Router, receiver: &Router, switch: &Namespace, port: &str) -> Result<()> {
    // What is on its way, heartbeats for example, arrives within milliseconds.
    let account = try_until("the datagrams are accounted for", SOON, || {
        let (out, arrived) = (counters(sender)?, counters(receiver)?);
        for (name, count) in out.iter().chain(&arrived) {
            let link = name.starts_with("sleeve.");
            ensure!(!link || !name.contains("dropped") || *count == 0, "{name}: {count}");
        }
        let number = |counters: &BTreeMap<String, u64>, name: &str| {
            counters.get(name).copied().with_context(|| format!("no counter {name}"))
        };
        let sent = number(&out, "sleeve.tx_datagrams")?;
        let received = number(&arrived, "sleeve.rx_datagrams")?;
        // Before the control connection has told who sends them.
        let unknown = number(&arrived, "sleeve_rx_dropped_unknown_sender")?;
        // The segments of the control connection are lost too.
        let lost = lost(switch, port)?;
        ensure!((received..=received + unknown + lost).contains(&sent), "{sent} were sent");
        ensure!(lost > sent / 200, "netem lost only {lost} of {sent}");
        Ok(format!("{sent} sent, {received} received, {unknown} early, {lost} lost"))
    })?;
    println!("out of {port}: {account}");
    Ok(())
}

/// What the only link of a router counts, and what the router itself does.
fn counters(router: &Router) -> Result<BTreeMap<String, u64>> {
    let report = router.report()?;
    let router = &report["Router"];
    let mut all = BTreeMap::new();
    for counters in [&router["Connections"][0]["Counters"], &router["Counters"]] {
        for (name, count) in counters.as_object().context("no counters")? {
            all.insert(name.clone(), count.as_u64().context("no number")?);
        }
    }
    Ok(all)
}

/// How many packets netem has dropped on their way out of a port.
fn lost(switch: &Namespace, port: &str) -> Result<u64> {
    let statistics = switch.exec(&format!("tc -s qdisc show dev {port}"))?;
    let dropped = statistics.split("(dropped ").nth(1).context("no number")?;
    Ok(dropped.split(',').next().context("no number")?.parse()?)
}
