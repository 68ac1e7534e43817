//! A pod with two interfaces on the switch, and what a runtime may ask for.
//!
//! ```text
//!  pod eth0 ---+
//!      net1 ---+--- weave h1
//!  other eth0 -+
//! ```

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weave_testbed::cni::Plugins;
use weave_testbed::{Container, Host, Lab, Router, RouterOptions};

use crate::{SOON, lab};

struct Runtime<'lab> {
    plugins: Plugins<'lab>,
}

impl<'lab> Runtime<'lab> {
    fn new(lab: &Lab, host: &'lab Host) -> Result<Self> {
        let folder = lab.directory().join("cni");
        fs::create_dir_all(&folder)?;
        symlink(env!("CARGO_BIN_EXE_weave-plugin"), folder.join("weave-net"))?;
        Ok(Self { plugins: Plugins::new(&host.namespace, &folder, &folder.join("state")) })
    }

    /// Calls it for an interface of a container whose id is the name after the dash.
    fn call(
        &self,
        command: &str,
        container: &Container,
        interface: &str,
        config: &Value,
    ) -> Result<Value> {
        let (id, path) = (id(container), container.namespace.path());
        let answer = self.plugins.on_interface(interface).call(command, &id, &path, config)?;
        answer.done().with_context(|| format!("{command} {id} {interface}"))
    }
}

fn id(container: &Container) -> String {
    container.namespace.name().rsplit('-').next().unwrap_or_default().to_owned()
}

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "weave", "type": "weave-net" })
}

fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// The only address in a result.
fn address(result: &Value) -> Result<String> {
    let ips = result["ips"].as_array().context("no addresses")?;
    ensure!(ips.len() == 1 && ips[0]["interface"] == 1, "{result}");
    let text = ips[0]["address"].as_str().context("no address")?;
    Ok(text.split('/').next().unwrap_or(text).to_owned())
}

fn options() -> RouterOptions {
    let options = RouterOptions::new().argument("--ipalloc-range=10.32.0.0/12");
    options.argument("--ipalloc-init=consensus=1")
}

/// Who has which address, but for the host.
fn holders(router: &Router) -> Result<Vec<String>> {
    let all: Value = serde_json::from_str(&router.get("/ip")?.body)?;
    let entries = all["owned"].as_array().into_iter().flatten();
    let holder = |entry: &Value| {
        let name = entry["containerid"].as_str().unwrap_or_default();
        (name != "weave:expose").then(|| format!("{name} {}", entry["addrs"]))
    };
    Ok(entries.filter_map(holder).collect())
}

fn mac(container: &Container, interface: &str) -> Result<String> {
    let text = container.namespace.exec(&format!("cat /sys/class/net/{interface}/address"))?;
    Ok(text.trim().to_owned())
}

/// Each address of a pod is answered for by the interface that has it, whenever it is asked.
fn ensure_found_at(other: &Container, address: &str, mac: &str) -> Result<()> {
    for _ in 0..6 {
        other.namespace.ip("neigh flush all")?;
        other.wait_ping(address, SOON)?;
        let shown = other.namespace.ip(&format!("neigh show {address}"))?;
        ensure!(shown.contains(mac), "{address} is of {mac}, not: {shown}");
    }
    Ok(())
}

#[test]
fn a_pod_is_attached_twice_to_one_network() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options())?;
    let [pod, other] = [host.bare_container("pod")?, host.bare_container("other")?];
    // As Debian has it.
    pod.namespace.sysctl("ipv4/conf/all/rp_filter", "1")?;
    runtime.call("ADD", &other, "eth0", &config())?;
    let first = runtime.call("ADD", &pod, "eth0", &config())?;
    let second = runtime.call("ADD", &pod, "net1", &config())?;
    let (a, b) = (address(&first)?, address(&second)?);
    ensure!(a != b, "both interfaces have {a}");
    assert_eq!(runtime.call("ADD", &pod, "eth0", &config())?, first, "not the same again");
    // There is one default route, by the first interface, and the second result says so.
    assert_eq!(first["routes"].as_array().map(Vec::len), Some(1));
    ensure!(second["routes"].is_null(), "{second}");
    let routes = pod.namespace.ip("route show default")?;
    ensure!(routes.lines().count() == 1 && routes.contains("dev eth0"), "{routes}");
    for (interface, result) in [("eth0", &first), ("net1", &second)] {
        let config = with(config(), "prevResult", result.clone());
        runtime.call("CHECK", &pod, interface, &config)?;
    }
    ensure_found_at(&other, &a, &mac(&pod, "eth0")?)?;
    ensure_found_at(&other, &b, &mac(&pod, "net1")?)?;
    let shown = holders(&router)?;
    ensure!(shown.contains(&format!("pod [\"{a}/12\"]")), "{shown:?}");
    ensure!(shown.contains(&format!("pod@net1 [\"{b}/12\"]")), "{shown:?}");

    // Either goes without the other.
    runtime.call("DEL", &pod, "net1", &config())?;
    ensure!(pod.namespace.ip("link show dev net1").is_err(), "not unplugged");
    ensure!(holders(&router)?.contains(&format!("pod [\"{a}/12\"]")), "the first lost its own");
    ensure!(holders(&router)?.len() == 2, "still held: {:?}", holders(&router)?);
    ensure_found_at(&other, &a, &mac(&pod, "eth0")?)?;
    let again = address(&runtime.call("ADD", &pod, "net1", &config())?)?;
    runtime.call("DEL", &pod, "eth0", &config())?;
    ensure!(pod.namespace.ip("link show dev eth0").is_err(), "not unplugged");
    ensure_found_at(&other, &again, &mac(&pod, "net1")?)?;
    runtime.call("DEL", &pod, "net1", &config())?;
    let left = holders(&router)?;
    ensure!(left.len() == 1 && left[0].starts_with("other "), "{left:?}");
    router.stop()?;
    lab.finish()
}

#[test]
fn a_pod_is_attached_to_two_networks() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options())?;
    let [pod, other] = [host.bare_container("pod")?, host.bare_container("other")?];
    let ipam = json!({ "subnet": "10.33.0.0/16", "routes": [
        { "dst": "0.0.0.0/0", "gw": "10.33.0.9" }, { "dst": "10.99.0.0/16", "gw": "10.33.0.9" },
    ]});
    let two = with(with(config(), "name", json!("two")), "ipam", ipam);
    let first = runtime.call("ADD", &pod, "eth0", &config())?;
    let second = runtime.call("ADD", &pod, "net1", &two)?;
    runtime.call("ADD", &other, "eth0", &config())?;
    runtime.call("ADD", &other, "net1", &two)?;
    // What was not made is not told.
    assert_eq!(second["routes"], json!([{ "dst": "10.99.0.0/16", "gw": "10.33.0.9" }]));
    let routes = pod.namespace.ip("route show default")?;
    ensure!(routes.lines().count() == 1 && routes.contains("dev eth0"), "{routes}");
    for (interface, config, result) in [("eth0", config(), &first), ("net1", two.clone(), &second)]
    {
        runtime.call("CHECK", &pod, interface, &with(config, "prevResult", result.clone()))?;
    }
    let (a, b) = (address(&first)?, address(&second)?);
    ensure!(b.starts_with("10.33."), "{b}");
    ensure_found_at(&other, &a, &mac(&pod, "eth0")?)?;
    ensure_found_at(&other, &b, &mac(&pod, "net1")?)?;
    for order in [["eth0", "net1"], ["net1", "eth0"]] {
        for interface in order {
            let config = if interface == "eth0" { config() } else { two.clone() };
            runtime.call("DEL", &pod, interface, &config)?;
        }
        ensure!(holders(&router)?.iter().all(|line| line.starts_with("other")), "still held");
        runtime.call("ADD", &pod, "eth0", &config())?;
        runtime.call("ADD", &pod, "net1", &two)?;
    }
    router.stop()?;
    lab.finish()
}

#[test]
fn what_is_exposed_for_others_is_no_gateway() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options())?;
    let pod = host.bare_container("pod")?;
    // A part of the network, and another network; then one that covers it, which serves.
    for (exposed, serves) in
        [("10.32.5.1/24", false), ("172.30.1.1/24", false), ("10.32.9.1/12", true)]
    {
        host.weave(&format!("expose {exposed}"))?;
        let result = runtime.call("ADD", &pod, "eth0", &config())?;
        let gateway = result["ips"][0]["gateway"].as_str().context("no gateway")?;
        let same = exposed.split('/').next() == Some(gateway);
        ensure!(same == serves, "{exposed} is exposed, and the gateway is {gateway}");
        let routes = pod.namespace.ip("route show default")?;
        ensure!(routes.starts_with(&format!("default via {gateway} dev eth0")), "{routes}");
        pod.wait_ping(gateway, SOON)?;
        host.namespace.exec(&format!("ping -q -c 1 -W 2 {}", address(&result)?))?;
        runtime.call("DEL", &pod, "eth0", &config())?;
        // All that the host has, also what the plugin exposed.
        host.weave("hide")?;
        let left = router.get("/ip")?.body;
        ensure!(left == "{\"owned\":null}\n", "{exposed}: still held: {left}");
    }
    router.stop()?;
    lab.finish()
}

#[test]
fn what_a_runtime_asks_for_is_done_or_refused() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(options())?;
    let [pod, other] = [host.bare_container("pod")?, host.bare_container("other")?];
    let wishes = json!({ "ips": ["10.32.7.7"], "mac": "02:00:00:00:00:77" });
    let wished = with(config(), "runtimeConfig", wishes);
    let wished = with(wished, "capabilities", json!({ "ips": true, "mac": true }));
    let result = runtime.call("ADD", &pod, "eth0", &wished)?;
    assert_eq!(
        (address(&result)?.as_str(), mac(&pod, "eth0")?.as_str()),
        ("10.32.7.7", "02:00:00:00:00:77")
    );
    assert_eq!(result["interfaces"][1]["mac"], "02:00:00:00:00:77");
    assert_eq!(runtime.call("ADD", &pod, "eth0", &wished)?, result, "not the same again");

    let (id_of_other, path) = (id(&other), other.namespace.path());
    let before = (holders(&router)?, host.namespace.ip("-o link show")?);
    for (arguments, config, text) in [
        ("IP=10.32.7.7", config(), "already owned by pod"),
        ("IP=10.99.0.1", config(), "is no address of a container in 10.32.0.0/12"),
        ("IPV4=10.32.7.8", config(), "unknown key"),
        (
            "",
            with(config(), "capabilities", json!({ "portMappings": true })),
            "put the plugin portmap",
        ),
        ("", with(config(), "ipMasquerade", json!(true)), "unsupported key"),
    ] {
        let plugins = runtime.plugins.with_arguments(arguments);
        let (_, said) = plugins.call("ADD", &id_of_other, &path, &config)?.refused()?;
        ensure!(said.contains(text), "{arguments} {config}: {said}");
        assert_eq!((holders(&router)?, host.namespace.ip("-o link show")?), before, "{said}");
    }
    let plugins = runtime.plugins.with_arguments("IgnoreUnknown=1;K8S_POD_NAME=x;IP=10.32.7.8");
    let result = plugins.call("ADD", &id_of_other, &path, &config())?.done()?;
    assert_eq!(address(&result)?, "10.32.7.8");
    other.wait_ping("10.32.7.7", SOON)?;
    router.stop()?;
    lab.finish()
}
