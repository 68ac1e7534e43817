//! Container runtimes of a host: containerd and podman as Debian has them.
//!
//! Runtimes look for networks, plugins and each other at paths that all hosts of a machine share.
//! So each host has a mount namespace in which these are empty folders in memory, and the machine
//! keeps nothing:
//!
//! ```text
//!  /opt             plugins, in cni/bin
//!  /etc/cni         networks, in net.d, and settings of the runtimes
//!  /var/lib         images, containers, notes of plugins
//!  /run/containerd  sockets and what runs
//! ```

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cni::{PluginList, Plugins};
use crate::namespace::{finish, path_text, run};
use crate::wait::try_until;
use crate::{Host, Namespace};

/// Where Debian has the plugins of others.
const OTHERS: &str = "/usr/lib/cni";
/// Those that our list may have behind ours, and those that ours are compared with.
const LINKED: [&str; 4] = ["portmap", "bandwidth", "bridge", "host-local"];

/// `/sys` stays what it is, unlike with `ip netns exec`: runtimes look for control groups in it.
const MOUNTS: &str = "set -e
for folder in /opt /etc/cni /var/lib /run/containerd; do mount -t tmpfs tmpfs $folder; done
mkdir -p /opt/cni/bin /etc/cni/net.d
echo ready
exec sleep infinity";

/// How long a runtime may take to start; processors may be emulated.
const START: Duration = Duration::from_secs(60);
const SOCKET: &str = "/run/containerd/containerd.sock";
const IMAGE: &str = "docker.io/library/busybox:testbed";
/// One folder with a shell and what tests call, as the root of containers.
const ROOT: &str = "/var/lib/busybox";
const APPLETS: [&str; 8] = ["sh", "ip", "ping", "sleep", "true", "nc", "httpd", "mkdir"];

/// The place on a host where its runtimes and their folders are.
#[derive(Debug)]
pub struct Engines<'host> {
    host: &'host Namespace,
    logs: PathBuf,
    /// What the mount namespace lives by.
    holder: Child,
}

impl<'host> Engines<'host> {
    /// Folders with nothing in them but links to Debian's plugins and a root for containers.
    pub fn new(host: &'host Host) -> Result<Self> {
        for folder in ["/etc/cni", "/run/containerd"] {
            fs::create_dir_all(folder)?;
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net={}", host.namespace.path()));
        command.args(["unshare", "--mount", "sh", "-c", MOUNTS]);
        let mut holder =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("nsenter")?;
        let output = holder.stdout.take().context("no output")?;
        let logs = host.directory().to_owned();
        let engines = Self { host: &host.namespace, logs, holder };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the folders of {} cannot be mounted", host.name());
        for plugin in LINKED {
            symlink(Path::new(OTHERS).join(plugin), engines.bin().join(plugin))?;
        }
        let bin = engines.path(ROOT).join("bin");
        fs::create_dir_all(&bin)?;
        fs::copy("/bin/busybox", bin.join("busybox")).context("busybox-static is missing")?;
        for applet in APPLETS {
            symlink("busybox", bin.join(applet))?;
        }
        Ok(engines)
    }

    /// A path of the host, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(&path[1..])
    }

    fn bin(&self) -> PathBuf {
        self.path("/opt/cni/bin")
    }

    /// Installs the plugin and its list by the command for it; the router of this host has to run.
    pub fn setup_cni(&self, host: &Host) -> Result<()> {
        let root = self.path("/");
        host.weave(&format!("setup-cni --host-root {}", root.display())).map(drop)
    }

    /// What the command installed, as plugins.
    pub fn plugins(&self) -> Plugins<'host> {
        Plugins::new(self.host, &self.bin(), &self.notes())
    }

    /// What the command installed, as a list.
    pub fn list(&self) -> Result<PluginList> {
        PluginList::read(&self.path("/etc/cni/net.d/10-weave.conflist"))
    }

    /// Where the plugin keeps its notes.
    pub fn notes(&self) -> PathBuf {
        self.path("/var/lib/weave/cni")
    }

    /// A program in this place; it is killed if this thread ends before it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--mount", "--net", "--target"]);
        command.arg(self.holder.id().to_string()).arg(program).stdin(Stdio::null());
        command
    }
}

impl Drop for Engines<'_> {
    fn drop(&mut self) {
        // The folders go with the last process that sees them.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A containerd with the image of a shell.
#[derive(Debug)]
pub struct Containerd<'a> {
    engines: &'a Engines<'a>,
    process: Child,
}

impl<'a> Containerd<'a> {
    /// Starts it and loads the image, which is made here of one layer.
    pub fn start(engines: &'a Engines<'a>) -> Result<Self> {
        let config = "/etc/cni/containerd.toml";
        let text = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(engines.path(config), text)?;
        let log = fs::File::create(engines.logs.join("containerd.log"))?;
        let mut command = engines.command("containerd");
        command.args(["--config", config, "--root", "/var/lib/containerd", "--address", SOCKET]);
        command.args(["--state", "/run/containerd/state"]);
        let process = command.stdout(log.try_clone()?).stderr(log).spawn().context("containerd")?;
        let this = Self { engines, process };
        try_until("containerd answers", START, || this.ctr(&["version"]))?;
        let image = image(engines)?;
        this.ctr(&["images", "import", "--snapshotter", "native", path_text(&image)?])?;
        Ok(this)
    }

    /// Runs a container on the network that comes first until its shell has run `script`; what that
    /// printed.
    pub fn run(&self, name: &str, script: &str) -> Result<String> {
        self.ctr(&self.run_words(&["--cni"], name, script))
    }

    /// The same without any network.
    pub fn run_alone(&self, name: &str, script: &str) -> Result<String> {
        self.ctr(&self.run_words(&[], name, script))
    }

    /// Runs a container beside the caller.
    pub fn start_container(&'a self, name: &'a str, script: &str) -> Result<Task<'a>> {
        let words = self.run_words(&["--cni"], name, script);
        let mut command = self.engines.command("ctr");
        let client = command.args(["--address", SOCKET]).args(words);
        let client = client.stdout(Stdio::null()).spawn().context("ctr")?;
        let task = Task { containerd: self, name, client };
        // What is created, and still waits for its network, can be entered already.
        try_until("the container runs", START, || self.ensure_running(name))?;
        Ok(task)
    }

    fn ensure_running(&self, name: &str) -> Result<()> {
        let container = self.container(name);
        let tasks = self.ctr(&["tasks", "list"])?;
        let is_running = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            matches!(words[..], [name, _, "RUNNING"] if name == container)
        };
        ensure!(tasks.lines().any(is_running), "{tasks}");
        Ok(())
    }

    /// The id that plugins know a container by.
    pub fn id(&self, name: &str) -> String {
        format!("default-{}", self.container(name))
    }

    /// Unique on the machine, for the sake of control groups.
    fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.engines.host.name())
    }

    fn run_words(&self, more: &[&str], name: &str, script: &str) -> Vec<String> {
        let words = ["run", "--rm", "--snapshotter", "native"].iter().chain(more);
        let container = self.container(name);
        words.chain(&[IMAGE, &container, "sh", "-c", script]).map(|&word| word.to_owned()).collect()
    }

    fn ctr(&self, words: &[impl AsRef<str>]) -> Result<String> {
        let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
        let mut command = self.engines.command("ctr");
        let output = command.args(["--address", SOCKET]).args(&words).output();
        finish(&format!("ctr {}", words.join(" ")), output)
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A running container of containerd. Killed on drop.
#[derive(Debug)]
pub struct Task<'a> {
    containerd: &'a Containerd<'a>,
    name: &'a str,
    client: Child,
}

impl Task<'_> {
    /// Has a shell in the container run a script; what that printed.
    pub fn exec(&self, script: &str) -> Result<String> {
        let container = self.containerd.container(self.name);
        self.containerd.ctr(&["tasks", "exec", "--exec-id", "exec", &container, "sh", "-c", script])
    }

    /// Ends it; the network is told.
    pub fn stop(mut self) -> Result<()> {
        self.kill()?;
        self.client.wait()?;
        Ok(())
    }

    fn kill(&self) -> Result<()> {
        let container = self.containerd.container(self.name);
        self.containerd.ctr(&["tasks", "kill", "--signal", "KILL", &container]).map(drop)
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        // It has ended already in the usual case.
        if matches!(self.client.try_wait(), Ok(None)) && self.kill().is_ok() {
            let _ = self.client.wait();
        }
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// An image of one layer.
fn image(engines: &Engines<'_>) -> Result<PathBuf> {
    let folder = engines.path("/var/lib/image");
    fs::create_dir_all(&folder)?;
    let text = path_text(&folder)?;
    let root = engines.path(ROOT);
    let layer = folder.join("layer.tar");
    run("tar", &["-C", path_text(&root)?, "-cf", path_text(&layer)?, "."])?;
    let digest = run("sha256sum", &[path_text(&layer)?])?;
    let digest = digest.split(' ').next().context("no digest")?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] },
    ]);
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    let archive = engines.path("/var/lib/image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run("tar", &[&["-C", text, "-cf", path_text(&archive)?], &files[..]].concat())?;
    Ok(archive)
}

/// A podman with its CNI back end.
#[derive(Debug)]
pub struct Podman<'a> {
    engines: &'a Engines<'a>,
}

const PODMAN_SETTINGS: &str = "/etc/cni/containers.conf";
/// Limits that a host with little rights has, too.
const PODMAN: &str = "[containers]
log_driver = \"k8s-file\"
default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
runtime = \"runc\"
[network]
network_backend = \"cni\"
cni_plugin_dirs = [\"/opt/cni/bin\"]
network_config_dir = \"/etc/cni/net.d\"
default_network = \"weave\"
";

impl<'a> Podman<'a> {
    /// Nothing runs yet; the list of plugins has to be there.
    pub fn new(engines: &'a Engines<'a>) -> Result<Self> {
        fs::write(engines.path(PODMAN_SETTINGS), PODMAN)?;
        Ok(Self { engines })
    }

    /// Runs podman with these words; what it printed.
    pub fn podman(&self, words: &[&str]) -> Result<String> {
        let mut command = self.engines.command("podman");
        command.env("CONTAINERS_CONF", PODMAN_SETTINGS);
        command.args(["--root", "/var/lib/storage", "--runroot", "/run/containerd/podman"]);
        let output = command.args(["--tmpdir", "/run/containerd/libpod"]).args(words).output();
        finish(&format!("podman {}", words.join(" ")), output)
    }

    /// Starts a container in which a shell runs `script`; its id. `more` are further words of
    /// `podman run`.
    pub fn run(&self, more: &[&str], script: &str) -> Result<String> {
        let words = [&["run"], more, &["--rootfs", ROOT, "sh", "-c", script]].concat();
        Ok(self.podman(&words)?.trim().to_owned())
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.podman(&["rm", "--all", "--force", "--time", "0"]);
    }
}
