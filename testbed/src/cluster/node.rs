//! One node: namespaces that live as long as their first process, and what runs in them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::options::{OUTSIDE_ADDRESS, Options, address};
use super::{Daemon, OUTSIDE, cgroups, path_name, words};
use crate::namespace::{finish, path_text, run};
use crate::process::spawn_with_signals;
use crate::wait::{eventually, try_until};

/// A machine that is busy takes seconds to copy plugins and mount a dozen folders.
const BOOT: Duration = Duration::from_secs(60);
/// The kernel ends hundreds of processes in less.
const END: Duration = Duration::from_secs(20);
/// Daemons finish what they do when they are told to end.
const STOP: Duration = Duration::from_secs(30);

/// What `unshare` makes for a node, and for the host outside, which sees the files of this machine.
const NODE: &[&str] = &["--mount", "--uts", "--ipc", "--net", "--pid"];
const NETWORK_ONLY: &[&str] = &["--net", "--pid"];

/// Starts a program that nobody waits for, and notes its process.
const START: &str = r#"log=$1; program=$2; shift
command -v "$program" > /dev/null || { echo "there is no program $program" >&2; exit 1; }
setsid "$@" >> "$log" 2>&1 < /dev/null &
echo $! > "/run/$program.pid""#;

/// A node by name: it runs, or was powered off.
#[derive(Debug)]
pub struct Node<'cluster> {
    name: String,
    folder: &'cluster Path,
    options: &'cluster Options,
}

impl<'cluster> Node<'cluster> {
    pub(super) fn open(
        folder: &'cluster Path,
        options: &'cluster Options,
        name: &str,
    ) -> Result<Self> {
        let node = Self { name: name.to_owned(), folder, options };
        ensure!(node.home().exists(), "the cluster has no node {name}");
        Ok(node)
    }

    /// Starts the first process of a node and waits until its root is made.
    pub(super) fn boot(
        folder: &'cluster Path,
        options: &'cluster Options,
        name: &str,
    ) -> Result<Self> {
        let node = Self { name: name.to_owned(), folder, options };
        fs::create_dir_all(node.home())?;
        cgroups::make(&path_name(folder), name)?;
        let script = concat!(include_str!("node.sh"), include_str!("hold.sh"));
        node.start_first_process(NODE, script, "/cluster/owner")?;
        Ok(node)
    }

    /// Starts the first process of a network with the files of this machine.
    pub(super) fn hold(
        folder: &'cluster Path,
        options: &'cluster Options,
        name: &str,
    ) -> Result<Self> {
        let node = Self { name: name.to_owned(), folder, options };
        fs::create_dir_all(node.home())?;
        let script = concat!("touch $STATE/nodes/$NODE/up\n", include_str!("hold.sh"));
        node.start_first_process(NETWORK_ONLY, script, path_text(&folder.join("owner"))?)?;
        Ok(node)
    }

    fn start_first_process(&self, namespaces: &[&str], script: &str, owner: &str) -> Result<()> {
        let up = self.home().join("up");
        let _ = fs::remove_file(&up);
        let log_path = self.folder.join(format!("logs/{}.log", self.name));
        let log = File::options().create(true).append(true).open(&log_path)?;
        let mut command = Command::new("unshare");
        command.args(namespaces).args(["--fork", "--kill-child", "sh", "-c", script, "init"]);
        command.env("STATE", self.folder).env("NODE", &self.name).env("OWNER", owner);
        command.env("GATEWAY", OUTSIDE_ADDRESS).env("PROGRAMS", words(&self.options.programs)?);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A signal from the terminal is for the owner, which ends the cluster in order.
        command.process_group(0);
        let mut holder = spawn_with_signals(command).context("cannot start unshare")?;
        try_until(&format!("the root of {}", self.name), BOOT, || {
            self.note_first_process(&mut holder)?;
            ensure!(up.exists(), "not made yet");
            Ok(())
        })
        .with_context(|| fs::read_to_string(&log_path).unwrap_or_default())
    }

    fn note_first_process(&self, holder: &mut Child) -> Result<()> {
        let id = holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let first = children.split_whitespace().next().context("no process yet")?;
        let started = start_time(first.parse()?).context("its first process ended")?;
        Ok(fs::write(self.home().join("init"), format!("{first} {started}"))?)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number in its name.
    pub fn number(&self) -> u8 {
        self.name.trim_start_matches('n').parse().unwrap_or(0)
    }

    /// Its address on the underlay.
    pub fn address(&self) -> String {
        address(self.number())
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder
    }

    fn home(&self) -> PathBuf {
        self.folder.join("nodes").join(&self.name)
    }

    /// The first process, as this machine numbers it, if the node runs.
    fn first_process(&self) -> Option<i32> {
        let text = fs::read_to_string(self.home().join("init")).ok()?;
        let (pid, started) = text.split_once(' ')?;
        let pid = pid.parse().ok()?;
        (start_time(pid)? == started).then_some(pid)
    }

    /// Whether it is powered on.
    pub fn is_up(&self) -> bool {
        self.first_process().is_some()
    }

    /// A command on the node. When the node is off, it fails.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.enter(&["-m", "-u", "-i", "-n", "-p", "-r", "-w"]);
        command.env("PATH", self.options.path()).arg(program);
        command
    }

    /// A command of this machine in the network of the node.
    pub(super) fn network_command(&self, program: &str) -> Command {
        let mut command = self.enter(&["-n"]);
        command.env("PATH", self.options.path_outside()).arg(program);
        command
    }

    fn enter(&self, namespaces: &[&str]) -> Command {
        let pid = self.first_process().map_or_else(|| "off".to_owned(), |pid| pid.to_string());
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid]).args(namespaces).arg("--").stdin(Stdio::null());
        command
    }

    /// Runs a command line (split at blanks) on the node and returns what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command line")?;
        let output = self.command(program).args(words).output();
        finish(line, output).with_context(|| format!("on node {}", self.name))
    }

    /// Runs a shell script on the node and returns what it printed.
    pub fn shell(&self, script: &str) -> Result<String> {
        let output = self.command("sh").args(["-c", script]).output();
        finish(script, output).with_context(|| format!("on node {}", self.name))
    }

    pub(super) fn network_ip(&self, arguments: &str) -> Result<String> {
        let output = self.network_command("ip").args(arguments.split_whitespace()).output();
        finish(&format!("ip {arguments}"), output)
    }

    /// Gives it a device `eth0` on the switch that is the host outside.
    pub(super) fn plug_into(&self, outside: &Node<'_>) -> Result<()> {
        let first = |node: &Node<'_>| {
            node.first_process()
                .map(|pid| pid.to_string())
                .with_context(|| format!("{} is off", node.name))
        };
        let (here, there) = (first(self)?, first(outside)?);
        let pair = ["type", "veth", "peer", "name", &self.name, "netns", &there];
        run("ip", &[&["link", "add", "eth0", "netns", &here][..], &pair].concat())?;
        outside.network_ip(&format!("link set {} master br0 up", self.name))?;
        for line in [
            format!("addr add {}/24 dev eth0", self.address()),
            "link set eth0 up".to_owned(),
            format!("route add default via {OUTSIDE_ADDRESS}"),
        ] {
            self.network_ip(&line)?;
        }
        Ok(())
    }

    /// Starts a daemon of the node; what it prints is in the folder `logs` of the cluster.
    pub fn start(&self, daemon: Daemon) -> Result<()> {
        let log = format!("/cluster/logs/{}-{}.log", self.name, daemon.program());
        let mut command = self.command("sh");
        command.args(["-c", START, "start", &log, daemon.program()]);
        command
            .args(daemon.arguments(&self.name, &self.address()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let output = spawn_with_signals(command)?.wait_with_output();
        finish(&format!("starting {} on {}", daemon.program(), self.name), output).map(drop)
    }

    /// Tells a daemon to end, and waits until it has.
    pub fn stop(&self, daemon: Daemon) -> Result<()> {
        self.signal(daemon, "TERM")?;
        eventually(&format!("the end of {}", daemon.program()), STOP, || !self.runs(daemon))
    }

    /// Kills a daemon.
    pub fn kill_daemon(&self, daemon: Daemon) -> Result<()> {
        self.signal(daemon, "KILL")?;
        eventually(&format!("the end of {}", daemon.program()), STOP, || !self.runs(daemon))
    }

    fn signal(&self, daemon: Daemon, signal: &str) -> Result<()> {
        self.shell(&format!("kill -{signal} $(cat /run/{}.pid)", daemon.program())).map(drop)
    }

    /// Whether a daemon that was started has not ended.
    pub fn runs(&self, daemon: Daemon) -> bool {
        self.shell(&format!("kill -0 $(cat /run/{}.pid)", daemon.program())).is_ok()
    }

    /// Imports an image archive into its container runtime.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        let file = File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        let mut command = self.command("ctr");
        command.args(["-n", "k8s.io", "images", "import", "-"]).stdin(file);
        finish(&format!("importing {}", archive.display()), command.output()).map(drop)
    }

    /// Ends everything on the node at once. Nothing is reported: it may be off or half made.
    pub(super) fn kill(&self) {
        let Some(first) = self.first_process() else { return };
        let all = processes(first);
        // The kernel ends the other processes of the namespace with the first one.
        let _ = kill(Pid::from_raw(first), Signal::SIGKILL);
        let _ = eventually("the end of a node", END, || all.iter().all(|pid| has_ended(*pid)));
        let _ = fs::remove_file(self.home().join("init"));
        if self.name != OUTSIDE {
            cgroups::remove(&format!("{}/{}", path_name(self.folder), self.name));
        }
    }

    /// Takes a node that is off out of the cluster's folder.
    pub(super) fn remove_disk(&self) -> Result<()> {
        if self.is_up() {
            bail!("{} is powered on", self.name);
        }
        Ok(fs::remove_dir_all(self.home())?)
    }
}

/// Processes of the namespace of this one, and of those within.
fn processes(first: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let (parents, pids): (Vec<_>, Vec<i32>) =
        pids.filter_map(|pid| Some(((pid, parent(pid)?), pid))).unzip();
    let parent_of = |pid: i32| parents.iter().find(|(child, _)| *child == pid).map(|(_, up)| *up);
    let descends = |pid: &i32| {
        let mut up = Some(*pid);
        while let Some(pid) = up.filter(|pid| *pid > 1 && *pid != first) {
            up = parent_of(pid);
        }
        up == Some(first)
    };
    pids.into_iter().filter(descends).collect()
}

/// Gone, or waiting for its parent to ask how it ended.
fn has_ended(pid: i32) -> bool {
    stat(pid).is_none_or(|stat| stat.starts_with('Z'))
}

fn parent(pid: i32) -> Option<i32> {
    stat(pid)?.split(' ').nth(1)?.parse().ok()
}

/// When a process was started: with its number, it names one process for good.
fn start_time(pid: i32) -> Option<String> {
    stat(pid).filter(|stat| !stat.starts_with('Z'))?.split(' ').nth(19).map(str::to_owned)
}

/// What the kernel tells of a process from the third field on; the second may contain blanks.
fn stat(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        let started = start_time(own).unwrap();
        assert!(started.parse::<u64>().is_ok(), "{started}");
        assert_eq!(start_time(own), Some(started));
        assert!(processes(own).contains(&own));
        assert!(!processes(own).contains(&1));
    }
}
