//! Two peers that drew the same short id.
//!
//! ```text
//!  c1 --- h1 === h2 --- c2
//!                 |
//!             an intruder: a member of the mesh that carries nothing
//! ```

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use tokio::sync::oneshot;
use weave_core::driver::{self, Settings, TokioClock};
use weave_core::mesh::{Config, LinkRequest, PeerName, ShortId, Uid};
use weave_core::switch::{Link, NullOverlay, Overlay, PrepareError, Switch, Waker};
use weave_core::time::Instant;
use weave_testbed::stream::Stream;
use weave_testbed::{Host, try_until};

use crate::flows::{
    all_arrive, flows, is_tunnelled, options, short_id, tunnel_ids, wait_transport,
};
use crate::{SOON, lab};

/// Less than those of all routers: what it claims is its own.
const INTRUDER: u64 = 1;

/// A transport by name alone.
struct Silent;

impl Overlay for Silent {
    fn name(&self) -> &'static str {
        "sleeve"
    }

    fn prepare(
        &mut self,
        now: Instant,
        request: &LinkRequest,
        waker: Waker,
    ) -> Result<Box<dyn Link>, PrepareError> {
        NullOverlay.prepare(now, request, waker)
    }
}

/// Joins the mesh with this short id until it is told that it is enough.
async fn intrude(id: ShortId, enough: oneshot::Receiver<()>) -> Result<()> {
    let clock = TokioClock::start();
    let name = PeerName::from_u64(INTRUDER).context("no such name")?;
    let config = Config { short_id: Some(id), ..Config::new(name, Uid(INTRUDER)) };
    let switch = Arc::new(Switch::new(name, 0));
    let router = weave_core::router::Router::new(
        config,
        switch,
        vec![Box::new(Silent)],
        [1; 32],
        clock.now(),
    );
    let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
    let handle = driver::start(router, settings, clock)?;
    let connected = handle.connect(vec!["127.0.0.1:6783".to_owned()], false).await;
    connected.map_err(|_| anyhow!("it has ended"))?.map_err(|error| anyhow!("{error:?}"))?;
    // Dropping the other end is as good as a word.
    let _ = enough.await;
    Ok(())
}

#[test]
fn a_short_id_that_two_have_is_given_up_and_links_stay() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    for router in [&r1, &r2] {
        wait_transport(router, "fastdp")?;
    }
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    let before = short_id(&r1, &h2)?;
    let id = u16::try_from(before).ok().and_then(ShortId::new).context("no short id")?;
    let (enough, waits) = oneshot::channel();
    let intruder = h2.namespace.spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(intrude(id, waits))
    })?;
    r2.wait_log("the former one was taken", SOON)?;
    let uses = |host: &Host| -> Result<bool> {
        let of = |id: u32| [id & 0xfff, id >> 12].contains(&before);
        Ok(flows(host)?.iter().any(|flow| tunnel_ids(flow).any(of)))
    };
    try_until("everybody knows the new one", SOON, || {
        let now = short_id(&r1, &h2)?;
        ensure!(now != before, "it is {now}");
        for host in [&h1, &h2] {
            ensure!(!uses(host)?, "{:#?}", flows(host)?);
        }
        Ok(())
    })?;
    // The tunnel is that of before, and carries.
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(&c1, "10.32.0.2", 30)?;
    Stream::start(&c2, &c1, "10.32.0.1", 1_000_000)?.join()?;
    for (router, host) in [(&r1, &h1), (&r2, &h2)] {
        ensure!(flows(host)?.iter().any(is_tunnelled));
        ensure!(router.status("connections")?.contains(" fastdp "));
        let log = router.log();
        ensure!(log.matches("connection fully established").count() == 1, "{log}");
    }
    drop(enough);
    intruder.join().map_err(|_| anyhow!("the intruder panicked"))??;
    lab.finish()
}
