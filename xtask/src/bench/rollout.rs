//! `cargo xtask bench rollout`: how long a TCP stream stands still while a router is replaced.
//!
//! ```text
//!   c1 ── h1 ═════ h2 ── c2
//! ```
//!
//! Once with what the kernel carries by itself (VXLAN devices), and once with sleeve, where every
//! frame needs the router.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weave_testbed::stream::Stream;
use weave_testbed::{Host, Lab, Router, RouterOptions, clean_up_on_signals, eventually, try_until};

use crate::demo::release_binary;
use crate::tools::install_packages;
use crate::usage::Usage;

const SOON: Duration = Duration::from_secs(120);
/// A stream that is stopped ends when all of it has arrived.
const ENDLESS: u64 = u64::MAX;
/// Bytes before a router ends, and after the next one is there.
const WARM_UP: u64 = 20_000_000;
/// How long there is no router, as in a rollout with an image that is there.
const AWAY: Duration = Duration::from_secs(2);
/// How often each is measured.
const ROUNDS: usize = 5;

/// Measures, and prints what was measured.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let weave = match arguments {
        [] => None,
        ["--weave", path] => Some(PathBuf::from(path)),
        _ => {
            let usage = "usage: cargo xtask bench rollout [--weave PATH]";
            return Err(Usage(usage.to_owned()).into());
        }
    };
    clean_up_on_signals()?;
    install_packages()?;
    let weave = weave.map_or_else(release_binary, Ok)?;
    println!("| transport | router | longest gaps of the stream, ms |\n|---|---|---|");
    for (name, options) in [
        ("fastdp", RouterOptions::new().argument("--capture=tap")),
        ("sleeve", RouterOptions::sleeve()),
    ] {
        for killed in [false, true] {
            let lab = Lab::new(&weave)?;
            let gaps = gaps(&lab, name, &options, killed)?;
            let end = if killed { "killed" } else { "stopped" };
            println!("| {name} | {end} | {} |", gaps.join(", "));
            lab.finish()?;
        }
    }
    Ok(())
}

/// The longest gap of the stream for each time that the router of the receiver was replaced.
fn gaps(lab: &Lab, transport: &str, options: &RouterOptions, killed: bool) -> Result<Vec<String>> {
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let r1 = h1.router(options.clone())?;
    let second = || options.clone().peer(wire.a());
    let mut r2 = h2.router(second())?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    let mut gaps = Vec::new();
    for _ in 0..ROUNDS {
        wait_transport(&r1, &h2, transport)?;
        wait_transport(&r2, &h1, transport)?;
        c1.wait_ping("10.32.0.2", SOON)?;
        let stream = Stream::start(&c1, &c2, "10.32.0.2", ENDLESS)?;
        let wait_more = || {
            let enough = stream.arrived() + WARM_UP;
            eventually("more of the stream", SOON, || stream.arrived() >= enough)
        };
        wait_more()?;
        let begun = Instant::now();
        if killed {
            r2.kill()?;
        } else {
            r2.stop()?;
        }
        std::thread::sleep(AWAY.saturating_sub(begun.elapsed()));
        r2 = h2.router(second())?;
        wait_transport(&r1, &h2, transport)?;
        wait_more()?;
        gaps.push(stream.stop()?.longest_gap.as_millis().to_string());
    }
    Ok(gaps)
}

fn wait_transport(router: &Router<'_>, neighbour: &Host, transport: &str) -> Result<()> {
    try_until(&format!("{transport} to {}", neighbour.name()), SOON, || {
        let page = router.status("connections")?;
        let wanted = format!(" established {transport} ");
        let peer = format!("({})", neighbour.name());
        let shown = page.lines().any(|line| line.contains(&wanted) && line.contains(&peer));
        ensure!(shown, "not in:\n{page}");
        Ok(())
    })
}
