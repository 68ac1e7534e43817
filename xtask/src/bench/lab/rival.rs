//! Overlays that others made: how each is installed and started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use weave_testbed::{Host, Lab, eventually, run};

use super::ends::{ADDRESS, Ends, Joined, Program, containers};
use super::underlay::Underlay;
use crate::tools;

/// How long a program may take to make its device.
const SOON: Duration = Duration::from_secs(15);

/// Address of the second host inside a tunnel that carries no frames of containers.
const INSIDE: &str = "10.9.0.2";

/// One overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rival {
    /// WireGuard in user space, written in Go.
    WireguardGo,
    /// WireGuard in user space, written in Rust.
    Boringtun,
    /// A switch written in Rust.
    Vpncloud {
        /// What seals, as it names it.
        algorithm: &'static str,
    },
    /// A switch written in C.
    Tinc,
    /// A network of IP addresses, written in Go.
    Nebula,
    /// A switch of hosts, written in C.
    N2n,
}

/// Debian packages, and a program of each.
const PACKAGES: [(&str, &str); 5] = [
    ("wireguard-go", "wireguard-go"),
    ("wireguard-tools", "wg"),
    ("tinc", "tincd"),
    ("nebula", "nebula"),
    ("n2n", "edge"),
];

/// Crates, which have a program of the same name.
const CRATES: [&str; 2] = ["vpncloud", "boringtun-cli"];

/// Installs what is missing. What cannot be installed is told and left out.
pub fn install() -> Result<()> {
    for package in PACKAGES {
        if let Err(error) = tools::install(&[package]) {
            println!("{}: {error:#}", package.0);
        }
    }
    for name in CRATES {
        if find(name).is_some() {
            continue;
        }
        println!("building {name}; this takes minutes");
        let mut command = Command::new("cargo");
        command.args(["install", "--quiet", "--root"]).arg(directory()).arg(name);
        command.current_dir("/");
        if let Err(error) = tools::run(&mut command) {
            println!("{name}: {error:#}");
        }
    }
    Ok(())
}

/// Where rivals are that this project has built.
fn directory() -> PathBuf {
    tools::root().join("target/rivals")
}

/// A program that was built here, or is in the usual places.
pub fn find(program: &str) -> Option<PathBuf> {
    let own = directory().join("bin").join(program);
    own.is_file().then_some(own).or_else(|| tools::find(program))
}

impl Rival {
    /// Which of its programs are not there.
    pub fn missing(self) -> Option<String> {
        let missing = self.programs().iter().filter(|name| find(name).is_none());
        let missing: Vec<&str> = missing.copied().collect();
        (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::WireguardGo => &["wireguard-go", "wg"],
            Self::Boringtun => &["boringtun-cli", "wg"],
            Self::Vpncloud { .. } => &["vpncloud"],
            Self::Tinc => &["tincd"],
            Self::Nebula => &["nebula", "nebula-cert"],
            Self::N2n => &["supernode", "edge"],
        }
    }

    /// Starts it on both hosts.
    pub fn join<'h>(
        self,
        lab: &Lab,
        hosts: &'h [Host; 2],
        underlay: &Underlay,
    ) -> Result<Joined<'h>> {
        let site = Site { hosts, addresses: underlay.addresses(), directory: lab.directory() };
        match self {
            // Without it, wireguard-go refuses to run where the kernel has WireGuard.
            Self::WireguardGo => site.wireguard(
                "wireguard-go -f",
                &[("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")],
            ),
            Self::Boringtun => site.wireguard("boringtun-cli -f --disable-drop-privileges", &[]),
            Self::Vpncloud { algorithm } => site.vpncloud(algorithm),
            Self::Tinc => site.tinc(),
            Self::Nebula => site.nebula(),
            Self::N2n => site.n2n(),
        }
    }
}

/// Where a rival is set up.
struct Site<'h, 'u> {
    hosts: &'h [Host; 2],
    /// On the underlay.
    addresses: [&'u str; 2],
    /// For its files.
    directory: &'u Path,
}

impl<'h> Site<'h, '_> {
    /// Each host with its own number (from 1), and the address of the other host.
    fn each(&self) -> [(usize, &'h Host, &str); 2] {
        [(1, &self.hosts[0], self.addresses[1]), (2, &self.hosts[1], self.addresses[0])]
    }

    fn start(&self, host: &Host, line: &str, environment: &[(&str, &str)]) -> Result<Program> {
        let mut words = line.split_whitespace();
        let program = words.next().and_then(find).context("no program")?;
        let log = std::fs::File::create(self.directory.join(format!("{}.log", host.name())))?;
        let mut command = host.namespace.command(&program.to_string_lossy());
        command.args(words).envs(environment.iter().copied()).current_dir(self.directory);
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Program(command.spawn().with_context(|| format!("starting {line}"))?))
    }

    /// Waits until a device is there; if it is not, the program's last words are in the error.
    fn wait_device(&self, host: &Host, device: &str) -> Result<()> {
        let there = || host.namespace.ip(&format!("link show {device}")).is_ok();
        eventually(&format!("device {device} on {}", host.name()), SOON, there).with_context(|| {
            let log = std::fs::read_to_string(self.directory.join(format!("{}.log", host.name())));
            log.unwrap_or_default().lines().last().unwrap_or("no log").to_owned()
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    fn between_hosts(&self, filter: &str, programs: Vec<Program>) -> Joined<'h> {
        Joined::new(Ends::Hosts(self.hosts), INSIDE, filter, programs)
    }

    fn wireguard(&self, line: &str, environment: &[(&str, &str)]) -> Result<Joined<'h>> {
        let mut programs = Vec::new();
        let mut keys = Vec::new();
        // The control socket has the name of the device and is the same for all namespaces.
        let device = |i: usize| format!("wg{}n{i}", std::process::id());
        for (i, host, _) in self.each() {
            let key = run("wg", &["genkey"])?;
            std::fs::write(self.path(&format!("key{i}")), &key)?;
            keys.push(public_key(&key)?);
            programs.push(self.start(host, &format!("{line} {}", device(i)), environment)?);
        }
        for (i, host, other) in self.each() {
            let (device, key, peer) = (device(i), self.path(&format!("key{i}")), &keys[2 - i]);
            self.wait_device(host, &device)?;
            let configured = || {
                host.namespace.exec(&format!(
                    "wg set {device} private-key {key} listen-port 51820 peer {peer} \
                     endpoint {other}:51820 allowed-ips 10.9.0.0/24 persistent-keepalive 5"
                ))
            };
            eventually("wg set", SOON, || configured().is_ok())?;
            host.namespace.ip(&format!("addr add 10.9.0.{i}/24 dev {device}"))?;
            host.namespace.ip(&format!("link set {device} mtu 1420 up"))?;
        }
        Ok(self.between_hosts("udp port 51820", programs))
    }

    fn vpncloud(&self, algorithm: &str) -> Result<Joined<'h>> {
        let mut programs = Vec::new();
        for (_, host, other) in self.each() {
            // It finds its own address and the MTU by the default route.
            host.namespace.ip(&format!("route add default via {other}"))?;
            programs.push(self.start(
                host,
                &format!(
                    "vpncloud -t tap -d vpn0 -p secret -l 3210 -c {other}:3210 \
                     --algorithm {algorithm} --no-port-forwarding"
                ),
                &[],
            )?);
        }
        for host in self.hosts {
            self.wait_device(host, "vpn0")?;
        }
        let path = "/sys/class/net/vpn0/mtu";
        let mtu = self.hosts[0].namespace.exec(&format!("cat {path}"))?.trim().parse()?;
        let ends = Ends::Containers(containers(self.hosts, ["vpn0"; 2], mtu)?);
        Ok(Joined::new(ends, ADDRESS, "udp port 3210", programs))
    }

    fn tinc(&self) -> Result<Joined<'h>> {
        let mut programs = Vec::new();
        let directory = |i: usize| self.directory.join(format!("tinc{i}"));
        for (i, ..) in self.each() {
            std::fs::create_dir_all(directory(i).join("hosts"))?;
            let connect = if i == 2 { "ConnectTo = n1\n" } else { "" };
            let text = format!(
                "Name = n{i}\nMode = switch\nInterface = tinc0\nAddressFamily = ipv4\n{connect}"
            );
            std::fs::write(directory(i).join("tinc.conf"), text)?;
            let address = format!("Address = {}\n", self.addresses[i - 1]);
            std::fs::write(directory(i).join(format!("hosts/n{i}")), address)?;
            let program = find("tincd").context("no tincd")?;
            let own = directory(i);
            run(&program.to_string_lossy(), &["-c", &own.to_string_lossy(), "-K2048"])?;
        }
        for (i, j) in [(1, 2), (2, 1)] {
            let name = format!("hosts/n{j}");
            std::fs::copy(directory(j).join(&name), directory(i).join(&name))?;
        }
        for (i, host, _) in self.each() {
            let own = directory(i);
            let own = own.to_string_lossy();
            programs.push(self.start(
                host,
                &format!("tincd -c {own} -D --pidfile={own}/pid"),
                &[],
            )?);
        }
        for host in self.hosts {
            self.wait_device(host, "tinc0")?;
        }
        let containers = containers(self.hosts, ["tinc0"; 2], 1400)?;
        // It sends by TCP until it knows the MTU of the path, for which it takes seconds and
        // traffic.
        let warm_up = format!("ping -q -c 80 -i 0.1 -W 2 -s 1200 {}", ADDRESS);
        containers[0].namespace.exec(&warm_up)?;
        let ends = Ends::Containers(containers);
        Ok(Joined::new(ends, ADDRESS, "udp port 655", programs))
    }

    fn nebula(&self) -> Result<Joined<'h>> {
        let mut programs = Vec::new();
        let certificate = |arguments: &[&str]| {
            let program = find("nebula-cert").context("no nebula-cert")?;
            let mut command = Command::new(program);
            tools::output(command.current_dir(self.directory).args(arguments))
        };
        certificate(&["ca", "-name", "lab"])?;
        let [a, b] = self.addresses;
        for (i, host, _) in self.each() {
            certificate(&["sign", "-name", host.name(), "-ip", &format!("10.9.0.{i}/24")])?;
            let files = [
                self.path("ca.crt"),
                self.path(&format!("h{i}.crt")),
                self.path(&format!("h{i}.key")),
            ];
            let [authority, own, key] = files;
            let (is_lighthouse, lighthouses) =
                if i == 1 { ("true", "") } else { ("false", "\"10.9.0.1\"") };
            let text = format!(
                "pki: {{ca: {authority}, cert: {own}, key: {key}}}\n\
                 static_host_map: {{\"10.9.0.1\": [\"{a}:4242\"], \"10.9.0.2\": [\"{b}:4242\"]}}\n\
                 lighthouse: {{am_lighthouse: {is_lighthouse}, hosts: [{lighthouses}]}}\n\
                 listen: {{host: {}, port: 4242}}\n\
                 tun: {{dev: neb0, mtu: 1300}}\n\
                 firewall: {{outbound: [{{port: any, proto: any, host: any}}], \
                 inbound: [{{port: any, proto: any, host: any}}]}}\n",
                self.addresses[i - 1]
            );
            let file = self.path(&format!("nebula{i}.yml"));
            std::fs::write(&file, text)?;
            programs.push(self.start(host, &format!("nebula -config {file}"), &[])?);
        }
        for host in self.hosts {
            self.wait_device(host, "neb0")?;
        }
        Ok(self.between_hosts("udp port 4242", programs))
    }

    fn n2n(&self) -> Result<Joined<'h>> {
        let [first, _] = self.hosts;
        let mut programs = vec![self.start(first, "supernode -l 7654", &[])?];
        for (i, host, _) in self.each() {
            programs.push(self.start(
                host,
                &format!(
                    "edge -d n2n0 -a 10.9.0.{i} -s 255.255.255.0 -c lab -k secret -p 770{i} \
                     -m 02:01:02:03:04:0{i} -l {}:7654",
                    self.addresses[0]
                ),
                &[],
            )?);
        }
        for host in self.hosts {
            self.wait_device(host, "n2n0")?;
        }
        Ok(self.between_hosts("udp portrange 7701-7702 or udp port 7654", programs))
    }
}

fn public_key(private: &str) -> Result<String> {
    use std::io::Write as _;
    let mut command = Command::new("wg");
    command.arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("starting wg")?;
    // Dropped at the end of the statement, which ends the input.
    child.stdin.take().context("no input")?.write_all(private.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
