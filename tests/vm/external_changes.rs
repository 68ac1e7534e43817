//! Somebody else changes the datapath while routers use it.
//!
//! ```text
//!  c1 --- h1 (its datapath is meddled with) === h2 --- c2
//! ```

use anyhow::{Result, ensure};
use weave_odp::{Client, Datapath, FEATURES};
use weave_testbed::{Host, eventually, try_until};

use crate::flows::{all_arrive, options, wait_transport};
use crate::{SOON, lab};

/// `OVS_DP_F_DISPATCH_UPCALL_PER_CPU`: what `ovs-dpctl` of Open vSwitch 2.16 and later asks of each
/// datapath that it opens, also to list it.
const PER_CPU: u32 = 8;

fn with_datapath<R: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&mut Client, Datapath) -> Result<R> + Send + 'static,
) -> Result<R> {
    host.namespace.enter(move || -> Result<_> {
        let mut client = Client::open()?;
        let datapath = client.datapath("datapath")?;
        work(&mut client, datapath)
    })?
}

#[test]
fn a_datapath_that_others_change_is_mended() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let _switch = lab.switch(&[&h1, &h2], 1500)?;
    let mut r1 = h1.router(options())?;
    let r2 = h2.router(options().peer("192.168.50.1"))?;
    let fast = || wait_transport(&r2, "fastdp");
    fast()?;
    wait_transport(&r1, "fastdp")?;
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;

    let ask =
        |features| with_datapath(&h1, move |client, it| Ok(client.set_features(it.id, features)?));
    let features = || with_datapath(&h1, |_, it| Ok(it.features));
    ask(FEATURES | PER_CPU)?;
    eventually("misses come as before", SOON, || features().is_ok_and(|it| it == Some(FEATURES)))?;
    // Nobody has a flow for that.
    c1.namespace.exec("ip neigh flush all")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    fast()?;

    h1.namespace.ip("link del vxlan-6784")?;
    r1.wait_log("another program deleted port vxlan-6784 of the datapath: it is recreated", SOON)?;
    fast()?;
    wait_transport(&r1, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    all_arrive(&c1, "10.32.0.2", 20)?;

    // A router that comes to such a datapath.
    r1.stop()?;
    ask(FEATURES | PER_CPU)?;
    r1 = h1.router(options().peer("192.168.50.2"))?;
    ensure!(features()? == Some(FEATURES), "{:?}", features()?);
    wait_transport(&r1, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;

    // Without it there is nothing to do, and who looks after the router can start it anew.
    with_datapath(&h1, |client, it| Ok(client.delete_datapath(it.id)?))?;
    try_until("the router ends", SOON, || {
        ensure!(!r1.is_running());
        Ok(())
    })?;
    r1.wait_log("another program deleted the datapath", SOON)?;
    r1.kill()?;
    let r1 = h1.router(options().peer("192.168.50.2"))?;
    wait_transport(&r1, "fastdp")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    r2.stop()?;
    lab.finish()
}
