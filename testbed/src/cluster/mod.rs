//! A real Kubernetes cluster whose nodes are namespaces of this machine.
//!
//! ```text
//!  n1 10.200.0.1             n2 10.200.0.2             outside 10.200.0.254
//! +---------------------+   +---------------------+   +---------------------+
//! | etcd, API server,   |   |                     |   | no part of the      |
//! | controllers,        |   |                     |   | cluster: kubectl,   |
//! | scheduler           |   |                     |   | tests, and a host   |
//! | containerd, kubelet,|   | containerd, kubelet,|   | that pods can call  |
//! | kube-proxy          |   | kube-proxy          |   |                     |
//! +------- eth0 --------+   +------- eth0 --------+   +------- br0 ---------+
//!           |                         |                         |
//!           +-------------------------+-------------------------+
//! ```
//!
//! A node has processes, mounts, a network, a hostname and control groups of its own, a root that is
//! lost at a reboot and a disk that is not. Everything is in one folder, by which any process can
//! [`Cluster::open`] the cluster, and everything ends with its owner: the first process of each
//! node waits for a lock that the owner holds, and the kernel ends the rest with that process. A
//! folder that a killed owner left is removed when the next cluster starts.

mod bridge;
mod cgroups;
mod daemon;
mod image;
mod node;
mod options;
mod settings;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use daemon::Daemon;
pub use image::{AGNHOST, COREDNS};
pub use node::Node;
pub use options::{Options, ProxyMode};

use crate::namespace::{finish, path_text};
use crate::process::spawn_with_signals;
use crate::wait::{eventually, try_until};

/// First letters of the folder of every cluster.
const PREFIX: &str = "weave-cluster-";
/// The host outside: a name that no node has.
const OUTSIDE: &str = "outside";

/// Two busy processors start everything in a fraction of this.
const START: Duration = Duration::from_secs(180);

/// Whether the cluster outlives the process that started it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// It ends with the value that [`Cluster::start`] returned, at the latest with the process.
    Owner,
    /// It runs until [`Cluster::take_down`].
    Kept,
}

/// A cluster that runs.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    options: Options,
    /// Locked as long as the cluster has to live, if that is in our hands.
    owner: Option<File>,
}

impl Cluster {
    /// Starts a cluster of this name. Its nodes have registered and are not ready: it has no network.
    pub fn start(name: &str, options: Options, lifetime: Lifetime) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "namespaces and control groups need root: run this as root"
        );
        remove_leftovers();
        let folder = folder_of(name);
        ensure!(
            !folder.exists(),
            "cluster {name} is up already: take it down with `cargo xtask cluster down --name \
             {name}`, or name another"
        );
        fs::create_dir_all(folder.join("nodes"))?;
        let owner = File::create(folder.join("owner"))?;
        match lifetime {
            Lifetime::Owner => owner.try_lock().context("a new file is locked")?,
            Lifetime::Kept => drop(File::create(folder.join("owner.kept"))?),
        }
        fs::create_dir_all(folder.join("logs"))?;
        options.write(&folder)?;
        own(&folder);
        let owner = (lifetime == Lifetime::Owner).then_some(owner);
        let cluster = Self { folder, options, owner };
        match cluster.start_everything() {
            Ok(()) if lifetime == Lifetime::Kept => {
                disown(&cluster.folder);
                Ok(cluster)
            }
            Ok(()) => Ok(cluster),
            Err(error) => {
                let logs = cluster.last_lines();
                cluster.remove();
                bail!("cluster {name} does not start: {error:#}\nits logs end with\n{logs}")
            }
        }
    }

    /// A cluster that some process has started.
    pub fn open(name: &str) -> Result<Self> {
        let folder = folder_of(name);
        ensure!(folder.join("ready").exists(), "no cluster {name} is up");
        Ok(Self { options: Options::read(&folder)?, folder, owner: None })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let folder = self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        folder.strip_prefix(PREFIX).unwrap_or(folder)
    }

    /// Where it keeps logs, certificates and the disks of nodes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file by which `kubectl` finds it, from [`Cluster::outside`].
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.conf")
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<Node<'_>> {
        Node::open(&self.folder, &self.options, name)
    }

    /// Names of its nodes, in the order they were added.
    pub fn node_names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.join("nodes"))? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| name != OUTSIDE));
        }
        names.sort();
        Ok(names)
    }

    /// A command of this machine on the host outside, for which `kubectl` works.
    pub fn outside(&self, program: &str) -> Result<Command> {
        let outside = Node::open(&self.folder, &self.options, OUTSIDE)?;
        let mut command = outside.network_command(program);
        command.env("KUBECONFIG", self.kubeconfig()).env("WEAVE_CLUSTER", self.name());
        Ok(command)
    }

    /// Runs a command on the host outside, with our input and output, and waits for its end.
    pub fn run_outside(&self, program: &str, arguments: &[&str]) -> Result<ExitStatus> {
        let mut command = self.outside(program)?;
        command.args(arguments).stdin(Stdio::inherit());
        Ok(spawn_with_signals(command)?.wait()?)
    }

    /// What `kubectl` printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let line = format!("kubectl {}", arguments.join(" "));
        finish(&line, self.outside("kubectl")?.args(arguments).output())
    }

    /// Imports an image archive into the container runtime of every node.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        for name in self.node_names()? {
            self.node(&name)?.import_image(archive)?;
        }
        Ok(())
    }

    /// Gives pods the stock `bridge` plugin and routes between nodes, for what has to be seen
    /// without our network.
    pub fn apply_bridge(&self) -> Result<()> {
        let names = self.node_names()?;
        let nodes: Vec<Node<'_>> =
            names.iter().map(|name| self.node(name)).collect::<Result<_>>()?;
        nodes.iter().try_for_each(|node| bridge::apply(node, &nodes))
    }

    /// Adds a node, with the images that the first one was started with.
    pub fn add_node(&self, number: u8) -> Result<()> {
        let node = self.boot(number)?;
        self.join(&node)
    }

    /// Ends all processes of a node at once, as a power cut does.
    pub fn power_off(&self, name: &str) -> Result<()> {
        self.node(name)?.kill();
        Ok(())
    }

    /// Starts a node that was powered off, from its disk.
    pub fn power_on(&self, name: &str) -> Result<()> {
        let number = self.node(name)?.number();
        let node = self.boot(number)?;
        if number == 1 {
            self.start_control_plane(&node)?;
        }
        self.join(&node)
    }

    /// Powers a node off and takes its disk away.
    pub fn remove_node(&self, name: &str) -> Result<()> {
        let node = self.node(name)?;
        node.kill();
        node.remove_disk()
    }

    /// Lets kube-proxy of all nodes work in another mode.
    pub fn set_proxy_mode(&self, mode: ProxyMode) -> Result<()> {
        for name in self.node_names()? {
            let node = self.node(&name)?;
            node.stop(Daemon::Proxy)?;
            node.run("kube-proxy --cleanup --config=/dev/null")
                .or_else(|_| node.run("kube-proxy --cleanup"))?;
            settings::write_proxy(&node, mode)?;
            node.start(Daemon::Proxy)?;
        }
        Ok(())
    }

    /// Removes the cluster and everything of it from this machine.
    pub fn take_down(self) {
        self.remove();
    }

    fn start_everything(&self) -> Result<()> {
        self.write_hosts()?;
        self.pki(&["authority"])?;
        let outside = Node::hold(&self.folder, &self.options, OUTSIDE)?;
        let address = options::OUTSIDE_ADDRESS;
        for line in [
            "link add br0 type bridge".to_owned(),
            format!("addr add {address}/24 dev br0"),
            "link set br0 up".to_owned(),
            "link set lo up".to_owned(),
        ] {
            outside.network_ip(&line)?;
        }
        let images = self.folder.join("images");
        image::make_all(&images, &self.options)?;
        let first = self.boot(1)?;
        self.certificates()?;
        self.start_control_plane(&first)?;
        for number in 2..=self.options.nodes {
            self.boot(number)?;
        }
        for name in self.node_names()? {
            self.join(&self.node(&name)?)?;
        }
        try_until("a service account for pods", START, || {
            self.kubectl(&["get", "serviceaccount", "default"])
        })?;
        fs::write(self.folder.join("ready"), "")?;
        Ok(())
    }

    /// A node with nothing but a container runtime.
    fn boot(&self, number: u8) -> Result<Node<'_>> {
        let name = format!("n{number}");
        let node = Node::boot(&self.folder, &self.options, &name)?;
        node.plug_into(&Node::open(&self.folder, &self.options, OUTSIDE)?)?;
        settings::write_containerd(&node)?;
        node.start(Daemon::Containerd)?;
        Ok(node)
    }

    fn start_control_plane(&self, node: &Node<'_>) -> Result<()> {
        node.start(Daemon::Etcd)?;
        node.start(Daemon::ApiServer)?;
        try_until("the API server", START, || self.kubectl(&["get", "--raw=/readyz"]))?;
        node.start(Daemon::ControllerManager)?;
        node.start(Daemon::Scheduler)
    }

    /// Makes a node that has booted a member, and waits until the API server knows it.
    fn join(&self, node: &Node<'_>) -> Result<()> {
        let user = format!("system:node:{}", node.name());
        if !self.folder.join(format!("pki/{}.conf", node.name())).exists() {
            self.pki(&["client", node.name(), "system:nodes", &user, options::SERVER])?;
        }
        try_until("containerd", START, || node.run("ctr version"))?;
        for archive in image::all(&self.folder.join("images"))? {
            node.import_image(&archive)?;
        }
        settings::write_kubelet(node)?;
        settings::write_proxy(node, self.options.proxy)?;
        node.start(Daemon::Kubelet)?;
        node.start(Daemon::Proxy)?;
        try_until(&format!("node {} at the API server", node.name()), START, || {
            self.kubectl(&["get", "node", node.name()])
        })?;
        Ok(())
    }

    fn write_hosts(&self) -> Result<()> {
        let mut text = String::from("127.0.0.1 localhost\n");
        for number in 1..=options::MOST_NODES {
            text.push_str(&format!("{} n{number}\n", options::address(number)));
        }
        Ok(fs::write(self.folder.join("hosts"), text)?)
    }

    fn certificates(&self) -> Result<()> {
        let names = format!(
            "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
             DNS:kubernetes.default.svc.cluster.local,IP:{},IP:127.0.0.1,IP:{}",
            options::address(1),
            options::API_SERVICE
        );
        self.pki(&["server", "apiserver", "kube-apiserver", &names])?;
        for (file, organisation, name) in [
            ("admin", "system:masters", "admin"),
            ("kubelet-client", "system:masters", "kube-apiserver"),
            ("controllers", "", "system:kube-controller-manager"),
            ("scheduler", "", "system:kube-scheduler"),
            ("proxy", "", "system:kube-proxy"),
        ] {
            self.pki(&["client", file, organisation, name, options::SERVER])?;
        }
        Ok(())
    }

    fn pki(&self, arguments: &[&str]) -> Result<()> {
        let folder = self.folder.join("pki");
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("sh");
        command.current_dir(folder).args(["-c", include_str!("pki.sh"), "pki.sh"]);
        finish("pki.sh", command.args(arguments).output()).map(drop)
    }

    /// The end of each log, for an error.
    fn last_lines(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = fs::read_dir(self.folder.join("logs")) else { return text };
        for path in entries.flatten().map(|entry| entry.path()) {
            let log = fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let last: Vec<&str> = log.lines().rev().take(8).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            text.push_str(&format!("--- {}\n{}\n", path.display(), last.join("\n")));
        }
        text
    }

    fn remove(&self) {
        remove_folder(&self.folder);
        disown(&self.folder);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owner.is_some() {
            self.remove();
        }
    }
}

/// Removes everything of a cluster of this name, whatever state it is in, and tells whether there
/// was any.
pub fn take_down(name: &str) -> bool {
    let folder = folder_of(name);
    let found = folder.exists();
    remove_folder(&folder);
    found
}

/// Folders of the clusters that end with this process.
static OWNED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn own(folder: &Path) {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

fn disown(folder: &Path) {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).retain(|owned| owned != folder);
}

/// Takes the clusters of this process down and ends it when SIGINT or SIGTERM arrives. Call it
/// before any other thread is started.
pub fn take_down_on_signals() -> Result<()> {
    crate::lab::on_signals(|| {
        let owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        owned.iter().for_each(|folder| remove_folder(folder));
    })
}

/// Names of the clusters of this machine.
pub fn names() -> Vec<String> {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix(PREFIX).map(str::to_owned)).collect()
}

fn folder_of(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{name}"))
}

/// Removes clusters whose owner was killed.
fn remove_leftovers() {
    for name in names() {
        let folder = folder_of(&name);
        let abandoned = !folder.join("owner.kept").exists()
            && File::open(folder.join("owner")).is_ok_and(|owner| owner.try_lock().is_ok());
        if abandoned {
            remove_folder(&folder);
        }
    }
}

/// Nothing is reported: this also runs for clusters that are half made or half gone.
fn remove_folder(folder: &Path) {
    let Ok(options) = Options::read(folder) else {
        let _ = fs::remove_dir_all(folder);
        return;
    };
    let Ok(entries) = fs::read_dir(folder.join("nodes")) else { return };
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let nodes = names.iter().filter_map(|name| Node::open(folder, &options, name).ok());
    nodes.for_each(|node| node.kill());
    cgroups::remove(&path_name(folder));
    let _ = eventually("the end of the cluster's folder", Duration::from_secs(5), || {
        fs::remove_dir_all(folder).is_ok() || !folder.exists()
    });
}

/// The last part of a path, under which control groups are kept.
fn path_name(folder: &Path) -> String {
    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Checks a name that becomes part of paths and interface names.
pub fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 32 || !name.bytes().all(good) {
        bail!("`{name}` names no cluster: 1 to 32 of a-z, 0-9 and -");
    }
    Ok(())
}

/// Reads a text file of the cluster.
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Folders as a shell word list; a blank in one of them cannot be told from a separator.
fn words(folders: &[PathBuf]) -> Result<String> {
    let folders: Vec<&str> =
        folders.iter().map(|folder| path_text(folder)).collect::<Result<_>>()?;
    ensure!(folders.iter().all(|folder| !folder.contains(' ')), "a path with a blank");
    Ok(folders.join(" "))
}
