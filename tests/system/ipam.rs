//! Addresses from the range that all peers share.
//!
//! ```text
//!  c... --- h1 ===== h2 ===== h3 --- c...
//! ```

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weave_testbed::{Container, Host, Router, RouterOptions, try_until};

use crate::{SOON, lab};

const RANGE: &str = "--ipalloc-range=10.32.0.0/12";

/// Makes containers that choose no address; the addresses they got.
fn attach(
    host: &Host,
    names: &[&str],
    among: &mut BTreeSet<String>,
) -> Result<Vec<(Container, String)>> {
    let attach = |name: &&str| {
        let container = host.bare_container(name)?;
        let address = host.weave(&format!("attach {}", container.namespace.name()))?;
        let address = address.trim().to_owned();
        ensure!(among.insert(address.clone()), "{address} was given out twice");
        Ok((container, address))
    };
    names.iter().map(attach).collect()
}

/// Allocates for a container that is but a name.
fn allocate(router: &Router, name: &str) -> Result<String> {
    let answer = router.post(&format!("/ip/{name}"), "")?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(answer.body)
}

fn held(router: &Router, name: &str) -> Result<String> {
    Ok(router.get(&format!("/ip/{name}"))?.body)
}

fn shares(router: &Router, count: usize) -> Result<()> {
    try_until("everyone has a share", SOON, || {
        let page = router.status("ipam")?;
        ensure!(page.lines().filter(|line| line.contains(" IPs (")).count() == count, "{page}");
        Ok(())
    })
}

#[test]
fn three_hosts_allocate_without_duplicates() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let (left, right) = (lab.wire(&h1, &h2, 1500)?, lab.wire(&h2, &h3, 1500)?);
    let options = || RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=3");
    let r1 = h1.router(options())?;
    let _r2 = h2.router(options().peer(left.a()))?;
    let _r3 = h3.router(options().peer(right.a()))?;
    r1.wait_peers(3, SOON)?;
    ensure!(r1.status("")?.contains("Status: idle"), "nobody asked yet");
    for host in [&h1, &h2, &h3] {
        host.weave("prime")?;
    }
    let mut all = BTreeSet::new();
    let on1 = attach(&h1, &["a", "b"], &mut all)?;
    let on2 = attach(&h2, &["c", "d"], &mut all)?;
    let on3 = attach(&h3, &["e", "f"], &mut all)?;
    on1[0].0.wait_ping(&on3[0].1, SOON)?;
    on3[1].0.wait_ping(&on2[1].1, SOON)?;

    // What is shown of it.
    let ps = h1.weave("ps")?;
    for (container, address) in &on1 {
        let line = format!("{} {} {address}/12\n", container.namespace.name(), container.mac()?);
        ensure!(ps.contains(&line), "{line} is not in\n{ps}");
    }
    ensure!(r1.status("")?.contains("Service: ipam\n         Status: ready"), "not ready");
    let metrics = r1.get_status_address("/metrics")?.body;
    ensure!(metrics.contains("weave_ips{state=\"local-used\"} 2\n"), "{metrics}");
    ensure!(r1.report()?["IPAM"]["ActiveIPs"] == 2, "the report differs");

    // The forms of addresses.
    let (container, first) = &on1[0];
    let name = container.namespace.name();
    let chosen = h1.weave(&format!("attach net:10.33.1.0/24 {name}"))?;
    ensure!(chosen.trim().starts_with("10.33.1."), "{chosen}");
    ensure!(h1.weave(&format!("attach ip:192.168.7.1/24 {name}"))?.trim() == "192.168.7.1");
    let taken = h1.weave(&format!("attach ip:{}/12 {name}", on1[1].1));
    let error = taken.err().context("a second holder for one address")?.to_string();
    ensure!(error.contains("Unable to claim: address"), "{error}");
    h1.weave(&format!("detach {name}"))?;
    let held: String = r1.get("/ip")?.body;
    ensure!(!held.contains(&format!("\"{first}/12\"")), "{first} is still held: {held}");
    lab.finish()
}

#[test]
fn a_killed_router_forgets_nothing_that_it_said() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let options = || RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=2");
    let mut r1 = h1.router(options())?;
    let r2 = h2.router(options().peer(wire.a()))?;
    r2.wait_established(1, SOON)?;
    h2.weave("prime")?;
    let (mut all, mut said) = (BTreeSet::new(), Vec::new());
    for round in 0..6 {
        // Each time in the middle of something else.
        for number in 0..=round * 2 {
            let name = format!("c{round}-{number}");
            let address = allocate(&r1, &name)?;
            ensure!(all.insert(address.clone()), "{address} was given out twice");
            said.push((name, address));
        }
        let (pid, done) = (r1.pid(), AtomicUsize::new(0));
        std::thread::scope(|scope| -> Result<()> {
            let killer = scope.spawn(|| -> Result<()> {
                while done.load(Ordering::Relaxed) < round * 3 {
                    std::thread::yield_now();
                }
                Ok(kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?)
            });
            // Until it is gone.
            for number in 0.. {
                let name = format!("x{round}-{number}");
                let Ok(address) = allocate(&r1, &name) else { break };
                ensure!(all.insert(address.clone()), "{address} was given out twice");
                said.push((name, address));
                done.fetch_add(1, Ordering::Relaxed);
            }
            killer.join().ok().context("it panicked")?
        })?;
        r1.kill()?;
        let address = allocate(&r2, &format!("d{round}"))?;
        ensure!(all.insert(address.clone()), "{address} was given out twice");
        r1 = h1.router(options())?;
        for (name, address) in &said {
            let now = held(&r1, name)?;
            ensure!(now == *address, "{name} had {address}, and has {now:?} after a kill");
        }
    }
    lab.finish()
}

#[test]
fn the_space_of_a_dead_peer_is_taken_over() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let seed = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let options = || {
        RouterOptions::new()
            .argument("--ipalloc-range=10.32.0.0/28")
            .argument(&seed)
            .peer(wire.a())
            .peer(wire.b())
    };
    let r1 = h1.router(options())?;
    let r2 = h2.router(options())?;
    r1.wait_established(1, SOON)?;
    shares(&r1, 2)?;
    let mut all = BTreeSet::new();
    // 14 hosts fit: the last ones are asked for from the other peer.
    for number in 0..12 {
        let address = allocate(&r1, &format!("c{number}"))?;
        ensure!(all.insert(address.clone()), "{address} was given out twice");
    }
    let address = allocate(&r2, "d")?;
    ensure!(all.insert(address.clone()), "{address} was given out twice");
    // Its containers live.
    let refused = h1.weave("rmpeer h2").err().context("the space of a living peer is taken")?;
    ensure!(refused.to_string().contains("h2 is in reach"), "{refused}");
    shares(&r1, 2)?;
    r2.kill()?;
    try_until("the other one is out of reach", SOON, || {
        let page = r1.status("ipam")?;
        ensure!(page.contains("- unreachable!"), "{page}");
        Ok(())
    })?;
    let gained = h1.weave("rmpeer h2")?;
    ensure!(gained.ends_with(" IPs taken over from h2\n"), "{gained}");
    shares(&r1, 1)?;
    // Those of the dead peer are free again, so all 14 can be had here.
    let rest: BTreeSet<String> =
        (12..14).map(|number| allocate(&r1, &format!("c{number}"))).collect::<Result<_>>()?;
    ensure!(rest.len() == 2, "{rest:?}");
    ensure!(rest.contains(&address), "the one of the dead peer is not among {rest:?}");

    // Nothing is left, so this one waits until something is.
    let container = h1.bare_container("late")?;
    let attach = format!("{} attach {}", env!("CARGO_BIN_EXE_weave"), container.namespace.name());
    let namespace = &h1.namespace;
    std::thread::scope(|scope| -> Result<()> {
        let late = scope.spawn(|| namespace.exec(&attach));
        try_until("one waits", SOON, || {
            let status = r1.status("")?;
            ensure!(status.contains("Status: waiting for IP(s) to become available"), "{status}");
            Ok(())
        })?;
        ensure!(r1.delete("/ip/c3")?.status == 204, "not released");
        let late = late.join().ok().context("it panicked")??;
        ensure!(late.starts_with("10.32.0."), "{late}");
        Ok(())
    })?;
    ensure!(r1.delete("/ip/c3")?.body.starts_with("Delete: no addresses for c3"), "no reason");
    lab.finish()
}

/// Clusters that were divided apart say who has to be reset, and stay apart.
#[test]
fn clusters_that_began_apart_are_told_apart() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let options = || RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=1");
    let r1 = h1.router(options())?;
    let r2 = h2.router(options())?;
    for host in [&h1, &h2] {
        host.weave("prime")?;
    }
    h1.weave(&format!("connect {}", wire.b()))?;
    r2.wait_log("IP allocation was seeded by different peers", SOON)?;
    r1.wait_log("reset the peers of one of them", Duration::from_secs(30))?;
    lab.finish()
}

/// The host takes its addresses from the ring like a container, and what ended containers had comes
/// back.
#[test]
fn the_host_and_the_dead_share_the_ring() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let options = RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=1");
    let router = host.router(options)?;
    let mut all = BTreeSet::new();
    let mut containers = attach(&host, &["gone", "there"], &mut all)?;
    // Plugged in by the original or by hand, as far as its interface goes.
    let by_hand = host.bare_container("by-hand")?;
    let name = by_hand.namespace.name();
    host.namespace.ip(&format!("link add by-hand type veth peer name ethwe netns {name}"))?;
    host.namespace.ip("link set by-hand master weave up")?;
    let address_by_hand = host.weave(&format!("attach {name}"))?.trim().to_owned();
    // It ends without a word.
    let (gone, address_of_gone) = containers.remove(0);
    drop(gone);

    ensure!(host.weave("expose")? == "10.32.0.4\n", "not the next address");
    ensure!(host.weave("expose net:10.33.0.0/24")? == "10.33.0.1\n", "not in the subnet");
    ensure!(held(&router, "weave:expose")? == "10.32.0.4/12 10.33.0.1/24", "not held");
    let (there, address) = &containers[0];
    there.wait_ping("10.32.0.4", SOON)?;
    let taken = host.weave(&format!("expose {address}/12")).err().context("exposed twice")?;
    ensure!(taken.to_string().contains("is already owned by"), "{taken}");

    // Taken by hand, of which the ring knows nothing.
    there.namespace.ip("addr add 10.32.0.9/12 dev ethwe")?;
    let late = host.bare_container("late")?;
    for line in ["expose 10.32.0.9/12", &format!("attach 10.32.0.9/12 {}", late.namespace.name())] {
        let taken = host.weave(line).err().with_context(|| format!("{line} is not refused"))?;
        ensure!(
            taken.to_string().contains("10.32.0.9 is in use already, by the interface"),
            "{taken}"
        );
        ensure!(!router.get("/ip")?.body.contains("10.32.0.9/"), "{line}: still held");
    }

    ensure!(host.weave("hide net:10.33.0.0/24")? == "10.33.0.1\n", "not hidden");
    ensure!(host.weave("hide")? == "10.32.0.4\n", "not hidden");
    ensure!(held(&router, "weave:expose")?.is_empty(), "still held");
    try_until("what the dead one had comes back", Duration::from_secs(60), || {
        let held = router.get("/ip")?.body;
        ensure!(!held.contains(&format!("\"{address_of_gone}/12\"")), "{held}");
        Ok(())
    })?;
    for living in [address, &address_by_hand] {
        ensure!(
            router.get("/ip")?.body.contains(&format!("\"{living}/12\"")),
            "a living one lost its own"
        );
    }
    ensure!(host.weave(&format!("attach {}", late.namespace.name()))?.trim() == address_of_gone);
    lab.finish()
}

/// Addresses that somebody took by hand do not stop the allocation: it goes on behind them.
#[test]
fn what_was_taken_by_hand_is_passed_over() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let options = RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=1");
    let router = host.router(options)?;
    let mut all = BTreeSet::new();
    let containers = attach(&host, &["squatter"], &mut all)?;
    let squatter = &containers[0].0.namespace;
    for address in ["10.32.0.2", "10.32.0.3", "10.32.0.5", "10.33.0.1"] {
        squatter.ip(&format!("addr add {address}/12 dev ethwe"))?;
    }
    let late = host.bare_container("late")?;
    ensure!(host.weave(&format!("attach {}", late.namespace.name()))? == "10.32.0.4\n");
    let other = host.bare_container("other")?;
    let command = format!("attach net:10.33.0.0/24 {}", other.namespace.name());
    ensure!(host.weave(&command)? == "10.33.0.2\n", "not the next of the subnet");
    ensure!(host.weave("expose")? == "10.32.0.6\n", "not the next free address");
    for address in ["10.32.0.2", "10.32.0.3", "10.32.0.5"] {
        ensure!(held(&router, &format!("in-use:{address}"))? == format!("{address}/12"));
    }

    // They come back as soon as nobody answers for them.
    squatter.ip("addr del 10.32.0.2/12 dev ethwe")?;
    try_until("what is set aside comes back", Duration::from_secs(60), || {
        ensure!(!router.get("/ip")?.body.contains("in-use:"), "still set aside");
        Ok(())
    })?;
    let next = host.bare_container("next")?;
    ensure!(host.weave(&format!("attach {}", next.namespace.name()))? == "10.32.0.2\n");
    let further = host.bare_container("further")?;
    ensure!(host.weave(&format!("attach {}", further.namespace.name()))? == "10.32.0.7\n");
    lab.finish()
}

#[test]
fn a_peer_that_is_reset_hands_its_space_over() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let seed = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let options = || RouterOptions::new().argument(RANGE).argument(&seed);
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    shares(&r1, 2)?;
    h2.weave("reset")?;
    drop(r2);
    shares(&r1, 1)?;
    ensure!(r1.status("ipam")?.contains("100.0% of total"), "{}", r1.status("ipam")?);
    lab.finish()
}

/// The range that nobody chose hides no network of the host.
#[test]
fn a_range_that_hides_a_network_is_refused_or_warned_of() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    h1.namespace.ip(&format!("route add 10.40.0.0/16 via {}", wire.b()))?;
    let refused = h1.weave("launch").err().context("it starts")?.to_string();
    ensure!(
        refused
            .contains("the range for containers, 10.32.0.0/12, overlaps the route to 10.40.0.0/16"),
        "{refused}"
    );
    ensure!(refused.contains("choose another with --ipalloc-range"), "{refused}");
    let router = h1.router(RouterOptions::new().argument(RANGE))?;
    router.wait_log("overlaps the route to 10.40.0.0/16", SOON)?;
    lab.finish()
}

/// A container that says of every address that it is its own keeps nobody else from getting one.
#[test]
fn who_answers_for_every_address_is_not_believed() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let options = RouterOptions::new().argument(RANGE).argument("--ipalloc-init=consensus=1");
    let _router = host.router(options)?;
    let mut all = BTreeSet::new();
    let containers = attach(&host, &["liar"], &mut all)?;
    let liar = &containers[0].0.namespace;
    // The kernel answers for what it takes for its own.
    liar.ip("route add local 10.32.0.0/12 dev lo")?;
    let other = host.bare_container("other")?;
    let attached = host.weave(&format!("attach {}", other.namespace.name()))?;
    ensure!(all.insert(attached.trim().to_owned()), "{attached} twice");
    let exposed = host.weave("expose")?;
    ensure!(all.insert(exposed.trim().to_owned()), "{exposed} twice");
    lab.finish()
}
