//! `cargo xtask demo`: three hosts in a line on this machine, two containers, traffic, and what the
//! commands show. Everything is removed at the end, also after Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use weave_testbed::stream::Stream;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, clean_up_on_signals};

use crate::tools::{cargo, install_packages, root, run};

/// An update that was lost while the mesh forms comes again with the gossip of every 30 s.
const SOON: Duration = Duration::from_secs(45);
const TRANSFER: Duration = Duration::from_secs(5);

const PICTURE: &str = "
  Three hosts in a line, and a container at each end. Each host is a network namespace of this
  machine with a router of its own. h1 and h3 share no network: only h2 can reach both.

    c1 10.32.0.1                                              c3 10.32.0.3
        |                                                         |
       h1 ======================= h2 ======================== h3
          192.168.1.1   192.168.1.2  192.168.2.1   192.168.2.2
";

/// Builds the release binary and shows it.
pub fn demo() -> Result<()> {
    clean_up_on_signals()?;
    install_packages()?;
    let binary = release_binary()?;
    print!("{PICTURE}");
    let lab = Lab::new(&binary)?;
    show(&lab)?;
    lab.finish()?;
    drop(lab);
    say("Done. Routers, containers and hosts are removed.");
    Ok(())
}

/// Builds the binary as it is shipped.
pub fn release_binary() -> Result<PathBuf> {
    println!("Building the release binary; the first time takes some minutes.");
    run(&mut cargo("build --release --quiet --bin weave"))?;
    Ok(root().join("target/release/weave"))
}

fn show(lab: &Lab) -> Result<()> {
    let [h1, h2, h3] = lab.hosts()?;
    let left = lab.wire(&h1, &h2, 1500)?;
    let right = lab.wire(&h2, &h3, 1500)?;

    say("The routers start. h1 and h3 are told the address of h2, and all share a password:");
    let options = RouterOptions::new().password("correct horse battery staple").no_discovery();
    let (to_left, to_right) = (left.b(), right.a());
    command(&h2, "weave router --no-discovery");
    let r2 = h2.router(options.clone())?;
    command(&h1, &format!("weave router --no-discovery {to_left}"));
    let r1 = h1.router(options.clone().peer(to_left))?;
    command(&h3, &format!("weave router --no-discovery {to_right}"));
    let r3 = h3.router(options.peer(to_right))?;
    r2.wait_established(2, SOON)?;
    for router in [&r1, &r2, &r3] {
        router.wait_peers(3, SOON)?;
    }
    println!(
        "    They have found each other: gossip told h1 about h3, which it cannot reach itself."
    );

    say("Two containers are plugged in, with addresses of one subnet:");
    let c1 = container(&h1, "c1", "10.32.0.1/12")?;
    let c3 = container(&h3, "c3", "10.32.0.3/12")?;

    say("c1 pings c3. The frames cross both wires; h2 passes them on without having a container:");
    c1.wait_ping("10.32.0.3", SOON)?;
    let ping = c1.ping("10.32.0.3", 200, "")?;
    let (smallest, mean) = ping.round_trip_ms.unwrap_or_default();
    println!(
        "    {} of {} answered, round trip {smallest:.2} ms at best, {mean:.2} ms on average",
        ping.received, ping.sent
    );

    say(&format!("c1 sends to c3 by TCP for {} seconds:", TRANSFER.as_secs()));
    transfer(&c1, &c3, [&r1, &r2, &r3])?;

    say("What h2 says about itself:");
    command(&h2, "weave status");
    indent(&h2.weave("status")?);
    command(&h2, "weave status connections");
    indent(&h2.weave("status connections")?);
    command(&h2, "weave status peers");
    indent(&h2.weave("status peers")?);
    Ok(())
}

fn container(host: &Host, name: &str, cidr: &str) -> Result<Container> {
    command(host, &format!("weave attach {name} {cidr}"));
    host.container(name, cidr)
}

fn transfer(from: &Container, to: &Container, routers: [&Router; 3]) -> Result<()> {
    let cost = || -> Result<f64> { routers.iter().map(|router| Ok(router.cost()?.0)).sum() };
    let before = cost()?;
    let stream = Stream::start(from, to, "10.32.0.3", u64::MAX)?;
    std::thread::sleep(TRANSFER);
    let transfer = stream.stop()?;
    let gigabytes = transfer.bytes as f64 / 1e9;
    println!(
        "    {:.2} GB arrived, every byte right: {:.2} Gbit/s, encrypted on both wires; the three\n    \
         routers used {:.1} CPU-seconds per GB, on the same processors as everything else here",
        gigabytes,
        transfer.gigabits(),
        (cost()? - before) / gigabytes
    );
    Ok(())
}

fn say(text: &str) {
    println!("\n{text}");
}

fn command(host: &Host, line: &str) {
    println!("    {}# {line}", host.name());
}

fn indent(text: &str) {
    text.trim_matches('\n').lines().for_each(|line| println!("      {line}"));
}
