//! Hosts that forget under running containers what was given out.
//!
//! ```text
//!  a... --- h1 ===== h2 ===== h3 --- a...
//! ```

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use weave_testbed::{Container, Host, Router, RouterOptions, try_until};

use crate::{SOON, lab};

fn attach(host: &Host, name: &str) -> Result<(Container, String)> {
    let container = host.bare_container(name)?;
    let address = host.weave(&format!("attach {}", container.namespace.name()))?;
    Ok((container, address.trim().to_owned()))
}

/// Who asks first, and by which way, is all the same.
#[test]
fn nothing_of_a_running_container_is_given_out_when_all_state_is_lost() -> Result<()> {
    let lab = lab()?;
    let hosts: [Host; 3] = lab.hosts()?;
    let [h1, h2, h3] = &hosts;
    let (left, right) = (lab.wire(h1, h2, 1500)?, lab.wire(h2, h3, 1500)?);
    let start = || -> Result<Vec<Router<'_>>> {
        let options = || {
            let options = RouterOptions::new().argument("--ipalloc-range=10.32.0.0/26");
            options.argument("--ipalloc-init=consensus=3")
        };
        let peers = [vec![left.b()], vec![left.a(), right.b()], vec![right.a()]];
        hosts
            .iter()
            .zip(peers)
            .map(|(host, peers)| host.router(peers.iter().fold(options(), |o, peer| o.peer(peer))))
            .collect()
    };
    let routers = start()?;
    routers[0].wait_peers(3, SOON)?;
    let mut running = BTreeMap::new();
    for round in 0..3 {
        for host in &hosts {
            let name = format!("{}-{round}", host.name());
            let (container, address) = attach(host, &name)?;
            let twice = running.insert(address.clone(), (name, container));
            ensure!(twice.is_none(), "{address} is given twice while all is well");
        }
    }
    for (router, host) in routers.into_iter().zip(&hosts) {
        router.kill()?;
        let state = format!("{}data.redb", host.database().display());
        fs::remove_file(&state).with_context(|| format!("removing {state}"))?;
    }
    let routers = start()?;
    // At once, on all hosts, by the command and by the interface of the CNI plugin.
    let late: Vec<Container> = hosts
        .iter()
        .map(|h| h.bare_container(&format!("{}-late", h.name())))
        .collect::<Result<_>>()?;
    let binary = env!("CARGO_BIN_EXE_weave");
    let given = std::thread::scope(|scope| -> Result<Vec<(String, String)>> {
        let attaching: Vec<_> = hosts
            .iter()
            .zip(&late)
            .map(|(host, container)| {
                let attach = format!("{binary} attach {}", container.namespace.name());
                let namespace = &host.namespace;
                scope.spawn(move || namespace.exec(&attach))
            })
            .collect();
        let mut given = Vec::new();
        for (router, host) in routers.iter().zip(&hosts) {
            let answer = router.post("/ip/by-interface", "")?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            let address = answer.body.split('/').next().unwrap_or_default().to_owned();
            given.push((format!("{} by interface", host.name()), address));
        }
        for (attached, host) in attaching.into_iter().zip(&hosts) {
            let address = attached.join().ok().context("it panicked")??;
            given.push((format!("{} late", host.name()), address.trim().to_owned()));
        }
        Ok(given)
    })?;
    let mut all: BTreeMap<&str, &str> =
        running.iter().map(|(address, (holder, _))| (address.as_str(), holder.as_str())).collect();
    for (holder, address) in &given {
        let other = all.insert(address, holder);
        ensure!(other.is_none(), "{address} of {other:?} is given to {holder}");
    }
    // Whatever ran before is known again.
    try_until("all addresses are held again", SOON, || {
        let held: String =
            routers.iter().map(|router| Ok(router.get("/ip")?.body)).collect::<Result<_>>()?;
        let missing = all.keys().find(|address| !held.contains(&format!("\"{address}/26\"")));
        ensure!(missing.is_none(), "{missing:?} is not in {held}");
        Ok(())
    })?;
    lab.finish()
}

/// What no router knows is found out on the switch: somebody took an address by hand.
#[test]
fn an_address_that_answers_is_passed_over_after_all_state_is_lost() -> Result<()> {
    let lab = lab()?;
    let hosts: [Host; 2] = lab.hosts()?;
    let [h1, h2] = &hosts;
    let wire = lab.wire(h1, h2, 1500)?;
    let seed = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let options = || RouterOptions::new().argument("--ipalloc-range=10.32.0.0/26").argument(&seed);
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    ensure!(r1.post("/ip/before", "")?.body == "10.32.0.1/26", "not the first address");
    // Not of the router it is attached to, which so has nothing to tell.
    let by_hand = ["10.32.0.1", "10.32.0.2", "10.32.0.4"];
    let containers: Vec<Container> = by_hand
        .iter()
        .enumerate()
        .map(|(number, address)| {
            h2.plain_container(&format!("x{number}"), &format!("{address}/26"), "weave", 1376)
        })
        .collect::<Result<_>>()?;
    r1.kill()?;
    let state = format!("{}data.redb", h1.database().display());
    fs::remove_file(&state).with_context(|| format!("removing {state}"))?;
    let r1 = h1.router(options().peer(wire.b()))?;
    let given: Vec<String> = (0..3)
        .map(|number| Ok(r1.post(&format!("/ip/after{number}"), "")?.body))
        .collect::<Result<_>>()?;
    assert_eq!(given, ["10.32.0.3/26", "10.32.0.5/26", "10.32.0.6/26"]);
    drop((containers, r2));
    lab.finish()
}
