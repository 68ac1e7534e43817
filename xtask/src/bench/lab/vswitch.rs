//! Open vSwitch as its own daemons run it: ovs-vswitchd with the kernel's datapath and a tunnel of
//! VXLAN.
//!
//! ```text
//!  c1 ─── v-c1 ┐                          ┌ v-c2 ─── c2
//!              ├ bridge ─ vx === h2 ... ──┤                 one database and one daemon for each host
//! ```
//!
//! Or, as our router does it by default, with a Linux bridge before the switch:
//!
//! ```text
//!  c1 ─── v-c1 ┐
//!              ├ bridge ─ to-switch ─── to-bridge ─ switch ─ vx === h2 ...
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::{Container, Host, eventually, run};

use super::ends::{ADDRESS, Ends, Joined, Program};
use super::underlay::Underlay;
use crate::tools;

/// The package, and the program of it that is started.
pub const PACKAGE: (&str, &str) = ("openvswitch-switch", "ovs-vswitchd");

/// Where the package has the form of its database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// What VXLAN takes off 1500.
const MTU: u32 = 1450;

/// How long a daemon may take to begin, on emulated processors.
const SOON: Duration = Duration::from_secs(30);

/// Why it cannot be measured on this machine.
pub fn missing() -> Option<String> {
    let (package, program) = PACKAGE;
    if tools::find(program).is_none() {
        return Some(format!("not installed: {package}"));
    }
    datapath_missing()
}

/// Why nothing can be measured that needs the kernel's datapath.
pub fn datapath_missing() -> Option<String> {
    // Where it cannot be loaded it may be built in.
    let _ = run("modprobe", &["-a", "-q", "openvswitch", "vport_vxlan"]);
    let families = run("genl", &["ctrl", "list"]).unwrap_or_default();
    (!families.contains("Name: ovs_datapath\n")).then(|| "no openvswitch in this kernel".to_owned())
}

/// A switch on each host, with a tunnel to the other one and a container.
pub fn join<'h>(hosts: &'h [Host; 2], underlay: &Underlay, bridged: bool) -> Result<Joined<'h>> {
    let [a, b] = underlay.addresses();
    let [h1, h2] = hosts;
    let (first, mut programs) = switch(h1, a, b)?;
    let (second, more) = switch(h2, b, a)?;
    programs.extend(more);
    let join = |switch: &Switch, host, name, cidr| match bridged {
        true => switch.bridged_container(host, name, cidr),
        false => switch.container(host, name, cidr),
    };
    let containers =
        [join(&first, h1, "c1", "10.32.0.1/12")?, join(&second, h2, "c2", "10.32.0.2/12")?];
    Ok(Joined::new(Ends::Containers(containers), ADDRESS, "udp dst port 4789", programs))
}

/// The switch of a host.
struct Switch {
    folder: PathBuf,
}

fn switch(host: &Host, local: &str, remote: &str) -> Result<(Switch, Vec<Program>)> {
    let switch = Switch { folder: host.directory().join("vswitch") };
    std::fs::create_dir_all(&switch.folder)?;
    let database = switch.file("conf.db");
    run("ovsdb-tool", &["create", &database, SCHEMA])?;
    let server = switch.start(host, "ovsdb-server", &[&database, &switch.remote("p")])?;
    eventually("the database of the switch", SOON, || Path::new(&switch.file("db.sock")).exists())?;
    switch.ask(&["--no-wait", "init"])?;
    let daemon = switch.start(host, "ovs-vswitchd", &[&switch.remote("")])?;
    let (local, remote) =
        (format!("options:local_ip={local}"), format!("options:remote_ip={remote}"));
    switch.ask(&["add-br", "br0"])?;
    switch.ask(&[
        "add-port",
        "br0",
        "vx",
        "--",
        "set",
        "interface",
        "vx",
        "type=vxlan",
        "options:key=42",
        &local,
        &remote,
    ])?;
    Ok((switch, vec![daemon, server]))
}

impl Switch {
    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The socket of the database; `kind` is `p` for who listens there.
    fn remote(&self, kind: &str) -> String {
        let option = if kind == "p" { "--remote=" } else { "" };
        format!("{option}{kind}unix:{}", self.file("db.sock"))
    }

    /// All that these programs write stays in the host's folder.
    fn start(&self, host: &Host, program: &str, arguments: &[&str]) -> Result<Program> {
        let path = tools::find(program).with_context(|| format!("no {program}"))?;
        let mut command = host.namespace.command(path.to_str().context("a path that is no text")?);
        self.environment(&mut command);
        command.args(arguments).args(["--unixctl", &self.file(&format!("{program}.ctl"))]);
        command
            .args(["-vconsole:warn", "-vsyslog:off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Program(command.spawn().with_context(|| format!("cannot start {program}"))?))
    }

    fn environment(&self, command: &mut Command) {
        for name in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(name, &self.folder);
        }
    }

    /// Waits until the switch has done it.
    fn ask(&self, arguments: &[&str]) -> Result<()> {
        let database = format!("--db={}", self.remote(""));
        run("ovs-vsctl", &[&["--timeout=30", &database], arguments].concat()).map(drop)
    }

    fn container(&self, host: &Host, name: &str, cidr: &str) -> Result<Container> {
        let container = host.bare_container(name)?;
        let (port, inside) = (format!("v-{name}"), &container.namespace);
        let (outside, within) = (host.namespace.name(), inside.name());
        run(
            "ip",
            &[
                "link", "add", &port, "netns", outside, "type", "veth", "peer", "name", "ethwe",
                "netns", within,
            ],
        )?;
        inside.ip(&format!("link set ethwe mtu {MTU} up"))?;
        inside.ip(&format!("addr add {cidr} dev ethwe"))?;
        host.namespace.ip(&format!("link set {port} mtu {MTU} up"))?;
        self.ask(&["add-port", "br0", &port])?;
        Ok(container)
    }

    fn bridged_container(&self, host: &Host, name: &str, cidr: &str) -> Result<Container> {
        for line in [
            "link add name bridge type bridge".to_owned(),
            "link set dev bridge up".to_owned(),
            "link add to-switch type veth peer name to-bridge".to_owned(),
            format!("link set to-switch mtu {MTU} master bridge up"),
            format!("link set to-bridge mtu {MTU} up"),
        ] {
            host.namespace.ip(&line)?;
        }
        self.ask(&["add-port", "br0", "to-bridge"])?;
        host.plain_container(name, cidr, "bridge", MTU)
    }
}
