//! Names.
//!
//! ```text
//!  h1 ===== h2 ===== h3
//! ```

use anyhow::Result;
use weave_testbed::RouterOptions;

use crate::{SOON, lab};

const NAME: &str = "02:00:00:00:00:77";

#[test]
fn two_neighbours_of_one_name_refuse_each_other() -> Result<()> {
    let lab = lab()?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let mut r1 = h1.router(RouterOptions::new().name(NAME))?;
    let mut r2 = h2.router(RouterOptions::new().name(NAME).peer(wire.a()))?;
    r2.wait_log("collision", SOON)?;
    r1.wait_log("collision", SOON)?;
    assert!(r1.is_running() && r2.is_running());
    r1.wait_established(0, SOON)?;
    lab.finish()
}

#[test]
fn of_one_name_at_both_ends_of_a_line_the_middle_keeps_the_one_that_answers() -> Result<()> {
    let lab = lab()?;
    let [h1, h2, h3] = lab.hosts()?;
    let left = lab.wire(&h1, &h2, 1500)?;
    let right = lab.wire(&h2, &h3, 1500)?;
    let r1 = h1.router(RouterOptions::new().name(NAME).no_discovery())?;
    let options = RouterOptions::new().no_discovery().peer(left.a()).peer(right.b());
    let r2 = h2.router(options)?;
    r1.wait_established(1, SOON)?;
    let r3 = h3.router(RouterOptions::new().name(NAME).no_discovery())?;
    for router in [&r2, &r3] {
        router.wait_log("name collision: two routers say they are", SOON)?;
    }
    r3.wait_log("refused by the peer", SOON)?;
    let page = r2.status("connections")?;
    assert!(page.contains("name collision: two routers say they are"), "{page}");
    let c1 = h1.container("c1", "10.32.0.1/12")?;
    let _c2 = h2.container("c2", "10.32.0.2/12")?;
    c1.wait_ping("10.32.0.2", SOON)?;
    assert!(!r1.log().contains("connection shutting down"), "{}", r1.log());
    // When it is gone, the other is a peer like any.
    r1.kill()?;
    r3.wait_established(1, SOON)?;
    lab.finish()
}

#[test]
fn a_name_is_kept_over_a_restart() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::new())?;
    let (name, uid) = (router.name()?, router.report()?["Router"]["Peers"][0]["UID"].clone());
    router.stop()?;
    let router = host.router(RouterOptions::new())?;
    assert_eq!(router.name()?, name);
    assert_ne!(router.report()?["Router"]["Peers"][0]["UID"], uid, "an incarnation of its own");
    lab.finish()
}
