//! The collection of hosts of one test, and the underlay between them.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::Container;
use crate::namespace::{self, Namespace, finish, path_text, run};

/// First letters of every name we make.
const PREFIX: &str = "wlab";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Hosts, wires and routers that live as long as this value.
pub struct Lab {
    prefix: String,
    directory: PathBuf,
    binary: PathBuf,
    hosts: Cell<u8>,
    wires: Cell<u8>,
    logs: Rc<RefCell<Vec<(String, PathBuf)>>>,
    finished: Cell<bool>,
}

impl Lab {
    /// An empty lab whose routers run `binary`.
    pub fn new(binary: impl AsRef<Path>) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "network namespaces need root: run this as root (sudo -E env PATH=\"$PATH\" …)"
        );
        remove_leftovers();
        let prefix =
            format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&prefix);
        // A directory of an earlier process with this id is nobody's any more.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        Ok(Self {
            prefix,
            directory,
            binary: binary.as_ref().to_owned(),
            hosts: Cell::new(0),
            wires: Cell::new(0),
            logs: Rc::default(),
            finished: Cell::new(false),
        })
    }

    /// A directory that lives as long as the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A namespace of any use.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::new(&format!("{}-{name}", self.prefix))
    }

    /// A host without any link.
    pub fn host(&self, name: &str) -> Result<Host> {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        let namespace = self.namespace(name)?;
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory)?;
        Ok(Host {
            namespace,
            name: name.to_owned(),
            peer_name: format!("02:00:00:00:01:{number:02x}"),
            prefix: self.prefix.clone(),
            directory,
            binary: self.binary.clone(),
            logs: Rc::clone(&self.logs),
        })
    }

    /// Hosts named `h1`, `h2`, … without any link.
    pub fn hosts<const N: usize>(&self) -> Result<[Host; N]> {
        let hosts: Vec<Host> =
            (1..=N).map(|i| self.host(&format!("h{i}"))).collect::<Result<_>>()?;
        hosts.try_into().map_err(|_| anyhow::anyhow!("wrong number of hosts"))
    }

    /// Joins two hosts by a wire with a subnet of its own.
    pub fn wire(&self, a: &Host, b: &Host, mtu: u32) -> Result<Wire> {
        let number = self.wires.get() + 1;
        self.wires.set(number);
        let wire = Wire {
            a: (a.namespace.name().to_owned(), format!("u{number}a")),
            b: (b.namespace.name().to_owned(), format!("u{number}b")),
            addresses: [format!("192.168.{number}.1"), format!("192.168.{number}.2")],
        };
        let ((ns_a, dev_a), (ns_b, dev_b)) = (&wire.a, &wire.b);
        add_veth([(dev_a, ns_a), (dev_b, ns_b)])?;
        a.namespace.ip(&format!("addr add {}/24 dev {dev_a}", wire.addresses[0]))?;
        b.namespace.ip(&format!("addr add {}/24 dev {dev_b}", wire.addresses[1]))?;
        wire.set_mtu(mtu)?;
        a.namespace.ip(&format!("link set {dev_a} up"))?;
        b.namespace.ip(&format!("link set {dev_b} up"))?;
        Ok(wire)
    }

    /// Joins all hosts by one switch; host number i (from 1) gets 192.168.50.i on device `eth0`.
    /// The switch is gone when the returned namespace is dropped.
    pub fn switch(&self, hosts: &[&Host], mtu: u32) -> Result<Namespace> {
        let switch = self.namespace("switch")?;
        switch.ip("link add name bridge type bridge")?;
        for (i, host) in (1..).zip(hosts) {
            let (port, namespace) = (format!("p{i}"), &host.namespace);
            add_veth([(&port, switch.name()), ("eth0", namespace.name())])?;
            switch.ip(&format!("link set {port} mtu {mtu} master bridge up"))?;
            namespace.ip(&format!("addr add 192.168.50.{i}/24 dev eth0"))?;
            namespace.ip(&format!("link set eth0 mtu {mtu} up"))?;
        }
        switch.ip("link set dev bridge up")?;
        Ok(switch)
    }

    /// To be called at the end of a test that has passed: without it, dropping the lab prints the
    /// logs of all routers. Fails if one of them has panicked.
    pub fn finish(&self) -> Result<()> {
        for (name, path) in self.logs.borrow().iter() {
            let log = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                bail!("router {name} panicked: {line}");
            }
        }
        self.finished.set(true);
        Ok(())
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "the logs belong into the report of a failed test")]
    fn drop(&mut self) {
        if !self.finished.get() {
            for (name, path) in self.logs.borrow().iter() {
                let log = std::fs::read_to_string(path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines.len().saturating_sub(120);
                eprintln!("----- last lines of the log of router {name}");
                lines.iter().skip(tail).for_each(|line| eprintln!("{line}"));
            }
        }
        sweep(&self.prefix);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Removes every namespace whose name starts with `prefix`, and its processes.
fn sweep(prefix: &str) {
    let prefix = format!("{prefix}-");
    for name in namespace::all().iter().filter(|name| name.starts_with(&prefix)) {
        namespace::remove(name);
    }
}

/// Removes whatever the labs of this process made; for a signal handler that ends the process next.
pub(crate) fn sweep_process() {
    for lab in 0..NEXT.load(Ordering::Relaxed) {
        let prefix = format!("{PREFIX}{}-{lab}", std::process::id());
        sweep(&prefix);
        let _ = std::fs::remove_dir_all(std::env::temp_dir().join(prefix));
    }
}

/// Removes what processes that no longer exist have left.
fn remove_leftovers() {
    for name in namespace::all() {
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if owner.parse::<u32>().is_ok() && !Path::new("/proc").join(owner).exists() {
            namespace::remove(&name);
        }
    }
}

/// A host: a namespace on which one router can run.
#[derive(Debug)]
pub struct Host {
    /// Where its processes and devices are.
    pub namespace: Namespace,
    name: String,
    peer_name: String,
    prefix: String,
    directory: PathBuf,
    binary: PathBuf,
    logs: Rc<RefCell<Vec<(String, PathBuf)>>>,
}

impl Host {
    /// Its name, which is also the nickname of its router.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The peer name of its router, unless another is chosen.
    pub fn peer_name(&self) -> &str {
        &self.peer_name
    }

    /// Where its router keeps its state and log.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Beginning of the paths of its router's files.
    pub fn database(&self) -> PathBuf {
        self.directory.join("weave")
    }

    /// The file that a router of this host writes its log to, which a failed test prints.
    pub(crate) fn router_log(&self) -> PathBuf {
        let log = self.directory.join("router.log");
        if !self.logs.borrow().iter().any(|(name, _)| *name == self.name) {
            self.logs.borrow_mut().push((self.name.clone(), log.clone()));
        }
        log
    }

    /// The router under test.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs the `weave` command on the host and returns what it printed.
    pub fn weave(&self, line: &str) -> Result<String> {
        let mut command = self.namespace.command(path_text(&self.binary)?);
        command.env("WEAVE_DB_PREFIX", self.database());
        finish(&format!("weave {line}"), command.args(line.split_whitespace()).output())
    }

    /// A container that `weave attach` has plugged into the router's bridge.
    pub fn container(&self, name: &str, cidr: &str) -> Result<Container> {
        let container = self.bare_container(name)?;
        self.weave(&format!("attach {} {cidr}", container.namespace.name()))?;
        Ok(container)
    }

    /// A container without any interface.
    pub fn bare_container(&self, name: &str) -> Result<Container> {
        Ok(Container { namespace: Namespace::new(&format!("{}-{name}", self.prefix))? })
    }

    /// A container that plain `ip` commands have plugged into a bridge of the host.
    pub fn plain_container(
        &self,
        name: &str,
        cidr: &str,
        bridge: &str,
        mtu: u32,
    ) -> Result<Container> {
        let container = self.bare_container(name)?;
        let (inside, port) = (&container.namespace, format!("v-{name}"));
        add_veth([(&port, self.namespace.name()), ("ethwe", inside.name())])?;
        inside.ip(&format!("link set ethwe mtu {mtu} up"))?;
        inside.ip(&format!("addr add {cidr} dev ethwe"))?;
        self.namespace.ip(&format!("link set {port} mtu {mtu} master {bridge} up"))?;
        Ok(container)
    }
}

/// A veth pair between two hosts.
#[derive(Debug)]
pub struct Wire {
    a: (String, String),
    b: (String, String),
    addresses: [String; 2],
}

impl Wire {
    /// Address of the first host.
    pub fn a(&self) -> &str {
        &self.addresses[0]
    }

    /// Address of the second host.
    pub fn b(&self) -> &str {
        &self.addresses[1]
    }

    /// Name of the device on the first host.
    pub fn device_a(&self) -> &str {
        &self.a.1
    }

    /// Name of the device on the second host.
    pub fn device_b(&self) -> &str {
        &self.b.1
    }

    /// Changes the MTU at both ends.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        self.set(&format!("mtu {mtu}"))
    }

    /// Takes the wire down or up at both ends.
    pub fn set_up(&self, up: bool) -> Result<()> {
        self.set(if up { "up" } else { "down" })
    }

    fn set(&self, what: &str) -> Result<()> {
        for (namespace, device) in [&self.a, &self.b] {
            let mut words = vec!["-n", namespace, "link", "set", device];
            words.extend(what.split(' '));
            run("ip", &words)?;
        }
        Ok(())
    }
}

/// Makes a pair of devices, each with a name in a namespace.
fn add_veth([(a, in_a), (b, in_b)]: [(&str, &str); 2]) -> Result<()> {
    let pair = ["type", "veth", "peer", "name", b, "netns", in_b];
    run("ip", &[&["link", "add", a, "netns", in_a][..], &pair].concat()).map(drop)
}

/// Removes everything of this process and ends it when SIGINT or SIGTERM arrives. Call it before
/// any other thread is started.
pub fn clean_up_on_signals() -> Result<()> {
    on_signals(sweep_process)
}

/// Does `work` and ends this process when SIGINT or SIGTERM arrives.
pub(crate) fn on_signals(work: impl FnOnce() + Send + 'static) -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Ok(signal) = signals.wait() {
            work();
            std::process::exit(128 + signal as i32);
        }
    })?;
    Ok(())
}
