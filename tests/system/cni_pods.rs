//! Pods of Kubernetes: by which name they are shown, what a node says of itself while its router is
//! away, and what is left of them when the machine was started again.
//!
//! ```text
//!  a, b eth0 --- weave h1
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weave_testbed::cni::Plugins;
use weave_testbed::{Host, Lab, Router, RouterOptions, try_until};

use crate::lab;

/// Half a minute of grace, two looks of 5 s, and a busy machine.
const REAPED: Duration = Duration::from_secs(90);

fn plugins<'lab>(lab: &Lab, host: &'lab Host) -> Result<Plugins<'lab>> {
    let folder = lab.directory().join("cni");
    fs::create_dir_all(&folder)?;
    symlink(env!("CARGO_BIN_EXE_weave-plugin"), folder.join("weave-net"))?;
    Ok(Plugins::new(&host.namespace, &folder, &folder.join("state")))
}

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "weave", "type": "weave-net" })
}

fn options() -> RouterOptions {
    let options = RouterOptions::new().argument("--ipalloc-range=10.32.0.0/12");
    options.argument("--ipalloc-init=consensus=1")
}

fn label(router: &Router, holder: &str) -> Result<Option<String>> {
    let report = router.report()?;
    let holders = report["IPAM"]["Holders"].as_array().context("no holders")?;
    let found = holders.iter().find(|entry| entry["Holder"] == holder).context("not held")?;
    ensure!(found["Presence"] == "here", "{found}");
    Ok(found["Label"].as_str().map(str::to_owned))
}

#[test]
fn a_pod_is_named_beside_its_address() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let plugins = plugins(&lab, &host)?;
    let mut router = host.router(options())?;
    let said = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
    let hostile = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=\u{1b}[31m&namespace=false";
    let [a, b] = [host.bare_container("a")?, host.bare_container("b")?];
    let add = |id: &str, netns: &str, arguments: &str| {
        plugins.with_arguments(arguments).call("ADD", id, netns, &config())?.done()
    };
    add("ida", &a.namespace.path(), said)?;
    add("idb", &b.namespace.path(), hostile)?;
    for _ in 0..2 {
        assert_eq!(label(&router, "ida")?.as_deref(), Some("shop/web-0"));
        assert_eq!(label(&router, "idb")?, None);
        let page = router.status("ipam")?;
        ensure!(page.contains(" here      ida shop/web-0\n"), "{page}");
        for command in ["ps ida", "ps --holders ida"] {
            let page = host.weave(command)?;
            ensure!(page.trim_end().ends_with("(shop/web-0)"), "{command}: {page}");
        }
        // It is stored with the address.
        router.kill()?;
        router = host.router(options())?;
    }
    let refused = router.post("/ip/x?label=two%20words", "")?;
    ensure!(refused.status == 400 && refused.body.contains("no label"), "{}", refused.body);
    router.stop()?;
    // Addresses are shown without the router too.
    ensure!(host.weave("ps ida")?.starts_with("ida "), "{}", host.weave("ps ida")?);
    lab.finish()
}

#[test]
fn a_router_that_is_replaced_does_not_make_its_node_unready() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let plugins = plugins(&lab, &host)?;
    let status = || plugins.call("STATUS", "", "", &config());
    let note = lab.directory().join("cni/state/.away");
    let (code, text) = status()?.refused()?;
    ensure!(code == 50 && text.contains("not ready"), "before the first router: {code} {text}");
    let router = host.router(options())?;
    status()?.done()?;
    ensure!(!note.exists(), "it is there");
    router.kill()?;
    for _ in 0..2 {
        status()?.done()?;
    }
    // As if the first of these calls had been long ago.
    let text = fs::read_to_string(&note)?;
    let [boot, first, last] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        anyhow::bail!("{text}")
    };
    let first: f64 = first.parse()?;
    fs::write(&note, format!("{boot} {} {last}", first - 31.0))?;
    let (code, _) = status()?.refused()?;
    assert_eq!(code, 50);
    let router = host.router(options())?;
    status()?.done()?;
    ensure!(!note.exists(), "it is back");
    router.stop()?;
    lab.finish()
}

/// The bridge, the containers and their namespaces are gone, and the disk remembers all of them.
#[test]
fn a_machine_that_was_started_again_gets_its_addresses_back() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let plugins = plugins(&lab, &host)?;
    let router = host.router(options())?;
    for number in 0..5 {
        let container = host.bare_container(&format!("c{number}"))?;
        let netns = container.namespace.path();
        plugins.call("ADD", &format!("id{number}"), &netns, &config())?.done()?;
    }
    router.kill()?;
    host.namespace.ip("link del weave")?;
    let router = host.router(options())?;
    // The sandbox of a pod that is started again has another id, and need not wait for that.
    let again = host.bare_container("again")?;
    plugins.call("ADD", "id5", &again.namespace.path(), &config())?.done()?;
    try_until("only what is there holds addresses", REAPED, || {
        let all: Value = serde_json::from_str(&router.get("/ip")?.body)?;
        let entries = all["owned"].as_array().context("nobody")?;
        let ids: Vec<_> =
            entries.iter().filter_map(|entry| entry["containerid"].as_str()).collect();
        ensure!(ids == ["id5", "weave:expose"], "{ids:?}");
        Ok(())
    })?;
    router.stop()?;
    lab.finish()
}
