//! The CNI plugin as a runtime calls it, with an IPAM plugin that takes the address from the name
//! of the container.
//!
//! ```text
//!  c1 eth0 ---+
//!             +--- weave (10.32.0.1) h1
//!  c2 eth0 ---+
//! ```

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use weave_testbed::cni::{Answer, Plugins};
use weave_testbed::{Container, Host, Lab, RouterOptions};

use crate::{SOON, lab};

/// Gives container `c7` the address 10.32.1.7.
const IPAM: &str = r#"#!/bin/sh
cat > /dev/null
test "$CNI_COMMAND" != ADD || echo "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.32.1.${CNI_CONTAINERID#c}/12\"}]}"
"#;

struct Runtime<'lab> {
    plugins: Plugins<'lab>,
    folder: PathBuf,
}

impl<'lab> Runtime<'lab> {
    fn new(lab: &Lab, host: &'lab Host) -> Result<Self> {
        let folder = lab.directory().join("cni");
        fs::create_dir_all(&folder)?;
        symlink(env!("CARGO_BIN_EXE_weave-plugin"), folder.join("weave-net"))?;
        let ipam = folder.join("by-name");
        fs::write(&ipam, IPAM)?;
        fs::set_permissions(&ipam, fs::Permissions::from_mode(0o755))?;
        Ok(Self { plugins: Plugins::new(&host.namespace, &folder, &folder.join("state")), folder })
    }

    /// What the plugin answers.
    fn call(&self, command: &str, id: &str, netns: &str, more: &[(&str, Value)]) -> Result<Answer> {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "weave-net",
            "ipam": { "type": "by-name" },
        });
        for (key, value) in more {
            config[key] = value.clone();
        }
        self.plugins.call(command, id, netns, &config)
    }

    fn succeed(
        &self,
        command: &str,
        id: &str,
        container: &Container,
        more: &[(&str, Value)],
    ) -> Result<Value> {
        let answer = self.call(command, id, &container.namespace.path(), more)?;
        answer.done().with_context(|| format!("{command} {id}"))
    }

    fn fail(
        &self,
        command: &str,
        id: &str,
        container: &Container,
        more: &[(&str, Value)],
    ) -> Result<(u64, String)> {
        let answer = self.call(command, id, &container.namespace.path(), more)?;
        answer.refused().with_context(|| format!("{command} {id}"))
    }

    fn notes(&self) -> usize {
        fs::read_dir(self.folder.join("state/net")).map_or(0, Iterator::count)
    }
}

fn ports(host: &Host) -> Result<usize> {
    let links = host.namespace.ip("-o link show master weave")?;
    Ok(links.lines().filter(|line| line.contains("vethwepl")).count())
}

#[test]
fn containers_come_and_go_and_can_be_checked() -> Result<()> {
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let [c1, c2] = [host.bare_container("c1")?, host.bare_container("c2")?];
    // Without a bridge there is nothing to plug into, and nothing is left.
    let (code, msg) = runtime.fail("ADD", "c1", &c1, &[])?;
    assert!(code == 11 && runtime.notes() == 0, "{code} {msg}");

    let router = host.router(RouterOptions::new())?;
    host.weave("expose 10.32.0.1/12")?;
    let result = runtime.succeed("ADD", "c1", &c1, &[])?;
    assert_eq!(result["ips"][0]["address"], "10.32.1.1/12");
    assert_eq!(result["ips"][0]["gateway"], "10.32.0.1");
    assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0", "gw": "10.32.0.1" }]));
    assert_eq!(result["interfaces"][1]["sandbox"], c1.namespace.path());
    let port = result["interfaces"][0]["name"].as_str().context("no port")?.to_owned();
    let shown = host.namespace.ip(&format!("-d -o link show dev {port}"))?;
    assert!(shown.contains("hairpin on") && shown.contains("master weave"), "{shown}");
    assert_eq!(runtime.succeed("ADD", "c1", &c1, &[])?, result);
    runtime.succeed("ADD", "c2", &c2, &[("hairpinMode", json!(false)), ("mtu", json!(1300))])?;
    c1.wait_ping("10.32.1.2", SOON)?;
    c2.wait_ping("10.32.0.1", SOON)?;
    assert!(c2.namespace.ip("-o link show dev eth0")?.contains(" mtu 1300 "));
    assert!(c1.namespace.ip("route show")?.contains("default via 10.32.0.1 dev eth0"));

    // Another router between ADD and the rest.
    router.stop()?;
    let router = host.router(RouterOptions::new())?;
    let previous = [("prevResult", result)];
    runtime.succeed("CHECK", "c1", &c1, &previous)?;
    for (damage, repair, complaint) in [
        (
            "route del default",
            "route add default via 10.32.0.1",
            "the route to 0.0.0.0/0 is missing",
        ),
        ("addr add 10.1.1.1/32 dev eth0", "addr del 10.1.1.1/32 dev eth0", ""),
        ("link set eth0 down", "link set eth0 up", "interface eth0 is down"),
        ("link set eth0 name eth1", "link set eth1 name eth0", "interface eth0 is missing"),
    ] {
        c1.namespace.ip(damage)?;
        if complaint.is_empty() {
            runtime.succeed("CHECK", "c1", &c1, &previous)?;
        } else {
            let (code, msg) = runtime.fail("CHECK", "c1", &c1, &previous)?;
            assert!(code == 102 && msg.contains(complaint), "{code} {msg}");
        }
        c1.namespace.ip(repair)?;
    }
    // On no bridge, it would be back on ours in a moment.
    host.namespace.ip("link add other type bridge")?;
    host.namespace.ip(&format!("link set {port} master other"))?;
    let (code, msg) = runtime.fail("CHECK", "c1", &c1, &previous)?;
    assert!(code == 102 && msg.contains("is on bridge other"), "{code} {msg}");
    host.namespace.ip(&format!("link set {port} nomaster"))?;

    runtime.succeed("DEL", "c1", &c1, &[])?;
    assert!(c1.namespace.ip("link show dev eth0").is_err());
    runtime.succeed("DEL", "c1", &c1, &[])?;
    // The runtime may have lost the namespace, or never named it.
    runtime.call("DEL", "c2", "", &[])?.done()?;
    assert_eq!((ports(&host)?, runtime.notes()), (0, 0));

    // What a runtime lost altogether is collected.
    runtime.succeed("ADD", "c1", &c1, &[])?;
    runtime.succeed("ADD", "c2", &c2, &[])?;
    let valid = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    runtime.call("GC", "", "", &[("cni.dev/valid-attachments", valid)])?.done()?;
    assert_eq!((ports(&host)?, runtime.notes()), (1, 1));
    c2.wait_ping("10.32.0.1", SOON)?;
    router.stop()?;
    lab.finish()
}

#[test]
fn many_containers_come_and_go_at_once() -> Result<()> {
    const MANY: usize = 20;
    let lab = lab()?;
    let host = lab.host("h1")?;
    let runtime = Runtime::new(&lab, &host)?;
    let router = host.router(RouterOptions::new())?;
    host.weave("expose 10.32.0.1/12")?;
    let containers: Vec<_> =
        (1..=MANY).map(|n| host.bare_container(&format!("c{n}"))).collect::<Result<_>>()?;
    let all_at_once = |command: &str| -> Result<()> {
        let calls: Vec<_> = std::thread::scope(|scope| {
            let call = |(number, container): (usize, &Container)| {
                let (runtime, netns) = (&runtime, container.namespace.path());
                let command = command.to_owned();
                scope.spawn(move || runtime.call(&command, &format!("c{number}"), &netns, &[]))
            };
            let threads: Vec<_> = (1..).zip(&containers).map(call).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for call in calls {
            call.map_err(|_| anyhow::anyhow!("a thread panicked"))??.done()?;
        }
        Ok(())
    };
    all_at_once("ADD")?;
    assert_eq!((ports(&host)?, runtime.notes()), (MANY, MANY));
    for container in &containers {
        container.wait_ping("10.32.0.1", SOON)?;
    }
    all_at_once("DEL")?;
    assert_eq!((ports(&host)?, runtime.notes()), (0, 0));
    router.stop()?;
    lab.finish()
}
