//! A member of the mesh that lies about the addresses.
//!
//! ```text
//!  a --- h1 ===== h2 --- b
//!         \\
//!          liar
//! ```

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use tokio::sync::oneshot;
use weave_core::driver::{self, Settings, TokioClock};
use weave_core::mesh::gossip::{Channel, Data, GossipError, Outbox};
use weave_core::mesh::{Config, PeerName, Uid};
use weave_core::router::Router;
use weave_core::switch::{Overlay, Switch};
use weave_core::time::Instant;
use weave_core::wire::gob::AtMost;
use weave_ipam::message::{CHANNEL, State};
use weave_ipam::ring::{Entry, RawRing};
use weave_sleeve::native::Capabilities;
use weave_sleeve::{Clock, Sleeve};
use weave_testbed::{Host, RouterOptions, try_until};

use crate::{SOON, lab};

/// How often the lie is told.
const AGAIN: Duration = Duration::from_millis(500);

/// A lie, told to all.
#[derive(Clone)]
struct Lie(Bytes);

impl Data for Lie {
    fn merge(&self, newer: &dyn Data) -> Arc<dyn Data> {
        let newer: &dyn std::any::Any = newer;
        Arc::new(newer.downcast_ref::<Self>().unwrap_or(self).clone())
    }

    fn encode(&self) -> Vec<Bytes> {
        vec![self.0.clone()]
    }
}

/// Says the same whatever it hears.
struct Liar {
    lie: Lie,
    next: Instant,
}

impl Channel for Liar {
    fn handle_unicast(
        &mut self,
        _: Instant,
        source: PeerName,
        _: &[u8],
        out: &mut Outbox,
    ) -> Result<(), GossipError> {
        out.unicast(source, [&[1], self.lie.0.as_ref()].concat().into());
        Ok(())
    }

    fn handle_broadcast(
        &mut self,
        _: Instant,
        _: PeerName,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Ok(None)
    }

    fn handle_gossip(
        &mut self,
        _: Instant,
        _: &[u8],
        _: &mut Outbox,
    ) -> Result<Option<Arc<dyn Data>>, GossipError> {
        Ok(None)
    }

    fn complete_state(&mut self, _: Instant) -> Option<Arc<dyn Data>> {
        Some(Arc::new(self.lie.clone()))
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.next = now + AGAIN;
        out.broadcast(Arc::new(self.lie.clone()));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// A liar on this host, until the sender is dropped.
fn lie_from(host: &Host, to: &str, state: &State) -> Result<oneshot::Sender<()>> {
    let (name, to) = (host.peer_name().parse::<PeerName>()?, to.to_owned());
    let (stop, stopped) = oneshot::channel::<()>();
    let lie = Lie(state.encode().into());
    drop(host.namespace.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let clock = TokioClock::start();
            let switch = Arc::new(Switch::new(name, 1));
            let listen = Settings::default().listen;
            let time = Clock::new(move || clock.now());
            let sleeve = Sleeve::bind(listen, 1, Capabilities::default(), time)?;
            let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(sleeve)];
            let config = Config::new(name, Uid(66));
            let mut router = Router::new(config, switch, overlays, [6; 32], clock.now());
            let liar = Box::new(Liar { lie, next: clock.now() });
            router.update(clock.now(), |mesh| mesh.add_channel(CHANNEL, liar));
            let handle = driver::start(router, Settings::default(), clock)?;
            // That the peer is there is seen there.
            let _connected = handle.connect(vec![to], true).await;
            let _told_to_stop = stopped.await;
            handle.shut_down().await;
            anyhow::Ok(())
        })
    })?);
    Ok(stop)
}

/// "All ranges are mine, in version 1,000": h1 keeps its own, and believes h2 about the rest.
#[test]
fn one_lie_about_addresses_parts_nobody() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let (wire, side) = (lab.wire(&h1, &h2, 1500)?, lab.wire(&h1, &h3, 1500)?);
    let seed = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let options = || RouterOptions::new().argument("--ipalloc-range=10.32.0.0/24").argument(&seed);
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer(wire.a()))?;
    r1.wait_established(1, SOON)?;
    let (a, b) = (h1.bare_container("a")?, h2.bare_container("b")?);
    h1.weave(&format!("attach {}", a.namespace.name()))?;
    let address = h2.weave(&format!("attach {}", b.namespace.name()))?.trim().to_owned();
    a.wait_ping(&address, SOON)?;
    let before = r1.status("ipam")?;

    let start = u32::from_be_bytes([10, 32, 0, 0]);
    let name = |host: &Host| host.peer_name().parse::<PeerName>();
    let entry = |token, peer, version| Entry { token: start + token, peer, version, free: 0 };
    let entries = vec![entry(0, name(&h3)?, 1000), entry(128, name(&h3)?, 1000)];
    let seeds = vec![name(&h1)?, name(&h2)?];
    let (end, peer) = (start + 256, name(&h3)?);
    let (entries, seeds) = (AtMost(entries), AtMost(seeds));
    let ring = Some(RawRing { start, end, peer, entries, seeds });
    let liar = lie_from(&h3, side.a(), &State { ring, ..State::default() })?;
    r1.wait_log("claims the range at 10.32.0.0", SOON)?;
    try_until("the status of h1 says what to do", SOON, || {
        let (status, page) = (r1.status("")?, r1.status("ipam")?);
        ensure!(status.contains("Conflicts: with 02:00:00:00:01:03"), "{status}");
        ensure!(page.contains("`weave accept 02:00:00:00:01:03` here"), "{page}");
        Ok(())
    })?;
    // Nothing else comes of it, however often it is told.
    let said = r1.get_status_address("/metrics")?.body;
    ensure!(said.contains("weave_ipam_conflicts 1\n"), "{said}");
    let lost = a.namespace.exec(&format!("ping -c 30 -i 0.2 -w 12 {address}"))?;
    ensure!(lost.contains(" 0% packet loss"), "{lost}");
    for (router, other) in [(&r1, "h2"), (&r2, "h1")] {
        let page = router.status("connections")?;
        let link = page.lines().find(|line| line.contains(&format!("({other})")));
        ensure!(link.is_some_and(|line| line.contains(" established ")), "{page}");
        ensure!(!router.log().contains("Received update for IP range I own"), "a link ended");
    }
    let first = |page: &str| page.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    let shares = |page: &str| -> Vec<String> {
        let line = |line: &String| line.split(" of total").next().map(str::to_owned);
        first(page).iter().filter_map(line).collect()
    };
    let page = r1.status("ipam")?;
    ensure!(shares(&page) == shares(&before), "{page}");
    let late = h2.bare_container("late")?;
    h2.weave(&format!("attach {}", late.namespace.name()))?;
    drop(liar);
    lab.finish()
}
