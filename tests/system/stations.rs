//! The Ethernet address of a container, claimed elsewhere: by a lie, and because it moved.
//!
//! ```text
//!  c1 --- h1 ---+
//!  v, w - h2 ---+ switch
//!  a ---- h3 ---+
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_testbed::raw::RawPort;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions, try_until};

use crate::fastdp::wait_overlay;
use crate::frames::mac_bytes;
use crate::{SOON, lab};

/// A container that moved answers by then: two seconds of silence where it was, and the time of its
/// next frame.
const MOVED: Duration = Duration::from_secs(8);

struct Three<'lab> {
    routers: [Router<'lab>; 3],
    _switch: weave_testbed::Namespace,
}

/// Starts the routers, and waits until this overlay joins each to each.
fn three<'lab>(
    lab: &Lab,
    hosts: &'lab [Host; 3],
    options: &RouterOptions,
    overlay: &str,
) -> Result<Three<'lab>> {
    let [h1, h2, h3] = hosts;
    let switch = lab.switch(&[h1, h2, h3], 1500)?;
    let r1 = h1.router(options.clone())?;
    let r2 = h2.router(options.clone().peer("192.168.50.1"))?;
    let r3 = h3.router(options.clone().peer("192.168.50.1"))?;
    for router in [&r1, &r2, &r3] {
        router.wait_established(2, SOON)?;
    }
    for host in [h2, h3] {
        wait_overlay(&r1, host, overlay)?;
    }
    wait_overlay(&r2, h3, overlay)?;
    Ok(Three { routers: [r1, r2, r3], _switch: switch })
}

/// Sends frames in the name of another station until the flag is set.
fn lie(
    from: &Container,
    station: [u8; 6],
) -> Result<(Arc<AtomicBool>, thread::JoinHandle<Result<()>>)> {
    let port = RawPort::open(from)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let liar = thread::spawn(move || {
        let frame = [&[0xff; 6][..], &station, &[0x88, 0xb5], &[0; 46]].concat();
        while !flag.load(Ordering::Relaxed) {
            port.send(&frame)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    Ok((stop, liar))
}

fn counter(router: &Router, name: &str) -> Result<u64> {
    let metrics = router.get("/metrics")?.body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    Ok(line.context("no such counter")?.rsplit(' ').next().unwrap_or_default().parse()?)
}

fn contests(router: &Router) -> Result<u64> {
    counter(router, "weave_station_contests_total")
}

fn a_lie_takes_nothing(options: &RouterOptions, overlay: &str) -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let three = three(&lab, &hosts, options, overlay)?;
    let [h1, h2, h3] = &hosts;
    let [r1, r2, _] = &three.routers;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let v = h2.container("v", "10.32.1.2/12")?;
    let w = h2.container("w", "10.32.1.3/12")?;
    let a = h3.container("a", "10.32.1.4/12")?;
    for from in [&c1, &w, &a] {
        from.wait_ping("10.32.1.2", SOON)?;
    }
    // It speaks, if only now and then.
    let mut talk = v.namespace.command("ping");
    talk.args(["-q", "-i", "0.5", "10.32.1.1"]).stdout(std::process::Stdio::null());
    let mut talk = talk.spawn()?;
    let (stop, liar) = lie(&a, mac_bytes(&v)?)?;
    let outcome = (|| {
        try_until("the lie is noticed", SOON, || {
            c1.ping("10.32.1.2", 5, "")?;
            ensure!(contests(r1)? > 0 && contests(r2)? > 0, "not yet");
            Ok(())
        })?;
        // From another host, and from its own.
        for round in 0..3 {
            for from in [&c1, &w] {
                let ping = from.ping("10.32.1.2", 100, "")?;
                // The kernel's bridge may be misled for a moment, once a minute.
                ensure!(ping.received >= 75, "round {round}: {ping:?}");
            }
        }
        Ok(())
    })();
    stop.store(true, Ordering::Relaxed);
    liar.join().expect("the liar")?;
    outcome?;
    talk.kill()?;
    talk.wait()?;
    // Who lied has done no harm to itself.
    a.wait_ping("10.32.1.2", SOON)?;
    c1.wait_ping("10.32.1.4", SOON)?;
    lab.finish()
}

#[test]
fn a_lie_takes_nothing_by_sleeve() -> Result<()> {
    a_lie_takes_nothing(&RouterOptions::sleeve(), "sleeve")
}

#[test]
fn a_lie_takes_nothing_by_fastdp() -> Result<()> {
    a_lie_takes_nothing(&RouterOptions::new().argument("--capture=tap"), "fastdp")
}

/// One forged frame is enough where a station is silent. It never speaks but to answer: it knows
/// the Ethernet addresses of those it answers, as they know its own.
fn an_idle_station_answers_where_it_is(options: &RouterOptions, overlay: &str) -> Result<()> {
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let three = three(&lab, &hosts, options, overlay)?;
    let [h1, h2, h3] = &hosts;
    let [r1, ..] = &three.routers;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let v = h2.container("v", "10.32.1.2/12")?;
    let a = h3.container("a", "10.32.1.4/12")?;
    for (from, address, to) in [(&c1, "10.32.1.2", &v), (&v, "10.32.1.1", &c1)] {
        from.wait_ping(address, SOON)?;
        let neighbour = format!("neigh replace {address} lladdr {} dev ethwe", to.mac()?);
        from.namespace.ip(&format!("{neighbour} nud permanent"))?;
    }
    a.wait_ping("10.32.1.1", SOON)?;
    let port = RawPort::open(&a)?;
    let forged = [&[0xff; 6][..], &mac_bytes(&v)?, &[0x88, 0xb5], &[0; 46]].concat();
    for round in 0..3 {
        let before = counter(r1, "weave_station_disputes_total")?;
        try_until("the station was silent for long enough", SOON, || {
            port.send(&forged)?;
            ensure!(counter(r1, "weave_station_disputes_total")? > before, "not yet");
            Ok(())
        })?;
        let ping = c1.ping("10.32.1.2", 20, "")?;
        // The kernel's bridge believes the liar until the router hears of it.
        ensure!(ping.received >= 15, "round {round}: {ping:?}");
    }
    ensure!(counter(r1, "weave_station_moves_total")? == 0, "it did not move");
    let status = r1.status("")?;
    ensure!(status.contains("claimed while silent"), "{status}");
    lab.finish()
}

#[test]
fn an_idle_station_answers_where_it_is_by_sleeve() -> Result<()> {
    an_idle_station_answers_where_it_is(&RouterOptions::sleeve(), "sleeve")
}

#[test]
fn an_idle_station_answers_where_it_is_by_fastdp() -> Result<()> {
    let options = RouterOptions::new().argument("--capture=tap");
    an_idle_station_answers_where_it_is(&options, "fastdp")
}

fn a_container_that_moves_is_followed(options: &RouterOptions, overlay: &str) -> Result<()> {
    const STATION: &str = "02:77:00:00:00:01";
    let lab = lab()?;
    let hosts = lab.hosts()?;
    let _three = three(&lab, &hosts, options, overlay)?;
    let [h1, h2, h3] = &hosts;
    let c1 = h1.container("c1", "10.32.1.1/12")?;
    let place = |host: &Host, name: &str| -> Result<Container> {
        let container = host.plain_container(name, "10.32.1.2/12", "weave", 1376)?;
        container.namespace.ip(&format!("link set ethwe address {STATION}"))?;
        Ok(container)
    };
    let mut before = place(h2, "m0")?;
    c1.wait_ping("10.32.1.2", SOON)?;
    for (number, host) in [h3, h2, h3].into_iter().enumerate() {
        // It speaks until it goes, as one does that is moved while it runs.
        ensure!(c1.ping("10.32.1.2", 20, "")?.received > 0, "move {number}");
        drop(before);
        before = place(host, &format!("m{}", number + 1))?;
        before.wait_ping("10.32.1.1", MOVED)?;
        c1.wait_ping("10.32.1.2", MOVED)?;
    }
    lab.finish()
}

#[test]
fn a_container_that_moves_is_followed_by_sleeve() -> Result<()> {
    a_container_that_moves_is_followed(&RouterOptions::sleeve(), "sleeve")
}

#[test]
fn a_container_that_moves_is_followed_by_fastdp() -> Result<()> {
    a_container_that_moves_is_followed(&RouterOptions::new().argument("--capture=tap"), "fastdp")
}
