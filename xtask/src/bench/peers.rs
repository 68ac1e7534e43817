//! `cargo xtask bench peers`: one router with many neighbours, whose frames the kernel carries in
//! VXLAN.
//!
//! ```text
//!             ┌── h1 ── c1
//!   c0 ── h0 ─┼── h2 ── c2       on one switch; each hI connects to h0 alone
//!             └── ... h50
//! ```
//!
//! All of them are on this machine, so what it costs is an upper limit; but its limit is of one
//! machine with two processors, not of one router.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, clean_up_on_signals, try_until};

use crate::demo::release_binary;
use crate::tools::install_packages;
use crate::usage::Usage;

/// All routers begin at about the same time, on few processors.
const SOON: Duration = Duration::from_secs(120);
/// How long the idle mesh is watched.
const IDLE: Duration = Duration::from_secs(10);
/// Neighbours that get a container.
const CONTAINERS: usize = 5;
/// Bytes of each stream.
const STREAM: u64 = 200_000_000;

struct Options {
    peers: u8,
    weave: Option<PathBuf>,
}

fn parse(arguments: &[&str]) -> Result<Options, Usage> {
    let mut options = Options { peers: 50, weave: None };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let value = words.next().copied();
        match (*word, value) {
            ("--peers", Some(value)) => {
                let peers = value.parse().ok().filter(|peers| (5..=200).contains(peers));
                let wrong =
                    || Usage(format!("--peers takes a number from 5 to 200, not `{value}`"));
                options.peers = peers.ok_or_else(wrong)?;
            }
            ("--weave", Some(value)) => {
                let path = std::path::absolute(value).ok().filter(|path| path.is_file());
                options.weave =
                    Some(path.ok_or_else(|| Usage(format!("--weave: there is no file {value}")))?);
            }
            _ => {
                let usage = "usage: cargo xtask bench peers [--peers N] [--weave PATH]";
                return Err(Usage(usage.to_owned()));
            }
        }
    }
    Ok(options)
}

/// Measures, and prints what was measured.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let options = parse(arguments)?;
    clean_up_on_signals()?;
    install_packages()?;
    let weave = match options.weave {
        Some(path) => path,
        None => release_binary()?,
    };
    let lab = Lab::new(weave)?;
    star(&lab, options.peers)?;
    lab.finish()
}

fn star(lab: &Lab, peers: u8) -> Result<()> {
    let count = usize::from(peers);
    let hosts: Vec<Host> =
        (0..=count).map(|i| lab.host(&format!("h{i}"))).collect::<Result<_>>()?;
    let _switch = lab.switch(&hosts.iter().collect::<Vec<_>>(), 1500)?;
    let [center, around @ ..] = hosts.as_slice() else { return Ok(()) };
    let options = RouterOptions::new().no_discovery();
    let hub = center.router(options.clone())?;

    let begin = Instant::now();
    let routers: Vec<Router<'_>> = around
        .iter()
        .map(|host| host.start(options.clone().peer("192.168.50.1")))
        .collect::<Result<_>>()?;
    wait_fastdp(&hub, count)?;
    let converged = begin.elapsed();
    for router in &routers {
        wait_fastdp(router, 1)?;
    }
    println!(
        "{count} neighbours by fastdp at the hub: {:.1} s after their start",
        converged.as_secs_f64()
    );
    let made = devices(center)?;
    ensure!(made == count, "{made} devices for {count} neighbours");

    let (cpu, _) = hub.cost()?;
    std::thread::sleep(IDLE);
    let (after, memory) = hub.cost()?;
    let idle = (after - cpu) / IDLE.as_secs_f64() * 100.0;
    println!("hub, idle: {idle:.1} % of a processor; {:.1} MB at most so far", memory as f64 / 1e6);

    let c0 = center.container("c0", "10.32.0.1/12")?;
    let step = (count / CONTAINERS).max(1);
    let mut containers: Vec<(String, Container)> = Vec::new();
    for (number, host) in around.iter().step_by(step).take(CONTAINERS).enumerate() {
        let address = format!("10.32.1.{}", number + 1);
        let container = host.container(&format!("c{}", number + 1), &format!("{address}/12"))?;
        c0.wait_ping(&address, SOON)?;
        containers.push((address, container));
    }
    for (address, container) in &containers {
        let ping = c0.ping(address, 100, "")?;
        ensure!((ping.received, ping.duplicates) == (100, 0), "{address}: {ping:?}");
        let (_, mean) = ping.round_trip_ms.context("no round trip")?;
        let ((cpu, _), begin) = (hub.cost()?, Instant::now());
        Stream::start(&c0, container, address, STREAM)?.join()?;
        let gigabits = STREAM as f64 * 8.0 / 1e9 / begin.elapsed().as_secs_f64();
        let cpu = (hub.cost()?.0 - cpu) / (STREAM as f64 / 1e9);
        println!("c0 to {address}: ping {mean:.3} ms, TCP {gigabits:.1} Gbit/s, hub {cpu:.2} s/GB");
    }
    // What one neighbour sends to another one goes through the hub.
    if let [(_, from), .., (address, _)] = containers.as_slice() {
        from.wait_ping(address, SOON)?;
        let ping = from.ping(address, 100, "")?;
        ensure!((ping.received, ping.duplicates) == (100, 0), "relayed: {ping:?}");
        let (_, mean) = ping.round_trip_ms.context("no round trip")?;
        println!("relayed by the hub: ping {mean:.3} ms");
    }

    let begin = Instant::now();
    let half = routers.len() / 2;
    let mut routers = routers.into_iter();
    routers.by_ref().take(half).try_for_each(Router::stop)?;
    try_until("the devices of those that are gone are removed", SOON, || {
        let left = devices(center)?;
        ensure!(left == count - half, "{left} devices");
        Ok(())
    })?;
    println!(
        "{half} neighbours end: their devices are gone {:.1} s after the first",
        begin.elapsed().as_secs_f64()
    );
    let begin = Instant::now();
    hub.stop()?;
    let left = devices(center)?;
    ensure!(left == 0, "{left} devices are left");
    println!(
        "the hub ends, with {} neighbours: {:.2} s, no device is left",
        count - half,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

fn wait_fastdp(router: &Router<'_>, count: usize) -> Result<()> {
    try_until(&format!("{count} connections by fastdp"), SOON, || {
        let page = router.status("connections")?;
        let by_fastdp = page.lines().filter(|line| line.contains(" established fastdp ")).count();
        ensure!(by_fastdp == count, "{by_fastdp} are");
        Ok(())
    })
}

fn devices(host: &Host) -> Result<usize> {
    Ok(host.namespace.exec("ip -o link show type vxlan")?.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_usage_is_one_line() {
        for arguments in [&["--peers"][..], &["--peers", "0"], &["--weave", "/no/such"], &["50"]] {
            let Err(Usage(text)) = parse(arguments) else { panic!("{arguments:?} were taken") };
            assert!(!text.contains('\n'), "{text}");
        }
        assert_eq!(parse(&["--peers", "7"]).unwrap().peers, 7);
    }
}
