//! One network namespace: made, entered, removed.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::eventually;

/// Where `ip netns` keeps its names.
const NAMESPACES: &str = "/run/netns";

/// A killed process is gone in milliseconds, unless the kernel is busy with it.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// A named network namespace that is removed on drop, together with the processes in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace and sets its loopback device up.
    pub fn new(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        let namespace = Self { name: name.to_owned() };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of its handle.
    pub fn path(&self) -> String {
        format!("{NAMESPACES}/{}", self.name)
    }

    /// A command that will run inside, and be killed if this thread ends before it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.name, program]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command line (split at blanks) inside and returns what it printed.
    pub fn exec(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("empty command line")?;
        finish(line, self.command(program).args(words).output())
    }

    /// Runs `ip` with these arguments on the namespace.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        run("ip", &[&["-n", self.name.as_str()], words.as_slice()].concat())
    }

    /// Writes a kernel setting, named as under `/proc/sys/net`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        let value = value.to_owned();
        self.enter(move || std::fs::write(&path, value).with_context(|| format!("writing {path}")))?
    }

    /// Runs `work` in a thread of this process whose sockets belong to the namespace.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.spawn(work)?.join().map_err(|_| anyhow!("the thread inside {} panicked", self.name))
    }

    /// Like [`Namespace::enter`], without waiting for the end.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>> {
        let handle = File::open(self.path()).with_context(|| format!("opening {}", self.path()))?;
        // The namespace is entered before the caller goes on, so that a removal cannot come first.
        let (entered, wait) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(self.name.clone()).spawn(move || {
            let outcome = setns(&handle, CloneFlags::CLONE_NEWNET);
            let failed = outcome.is_err();
            // The receiver waits below; it cannot be gone.
            let _ = entered.send(outcome);
            (!failed).then(work)
        })?;
        wait.recv()
            .context("thread ended early")?
            .with_context(|| format!("entering {}", self.name))?;
        // `Some` whenever entering worked, and a failure has returned above.
        Ok(thread::Builder::new().spawn(move || match thread.join() {
            Ok(Some(value)) => value,
            Ok(None) => unreachable!("the namespace was entered"),
            Err(panic) => std::panic::resume_unwind(panic),
        })?)
    }

    /// Ids of the processes whose network this is.
    pub fn pids(&self) -> Vec<i32> {
        pids(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace and kills the processes in it. Nothing is reported: this also runs for
/// namespaces that are half made or half gone.
pub(crate) fn remove(name: &str) {
    for pid in pids(name) {
        // A process that has ended meanwhile is what we want.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ =
        eventually("the end of the namespace's processes", LAST_BREATH, || pids(name).is_empty());
    let _ = run("ip", &["netns", "del", name]);
}

fn pids(name: &str) -> Vec<i32> {
    let Ok(list) = run("ip", &["netns", "pids", name]) else { return Vec::new() };
    let own = std::process::id();
    list.lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|pid| *pid as u32 != own)
        .collect()
}

/// Names of all namespaces of this machine.
pub(crate) fn all() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Runs a program of the machine and returns what it printed; its error text is the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let line = format!("{program} {}", arguments.join(" "));
    finish(&line, Command::new(program).args(arguments).stdin(Stdio::null()).output())
}

pub(crate) fn finish(line: &str, output: std::io::Result<Output>) -> Result<String> {
    let output = output.with_context(|| format!("cannot start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}`: {}\n{}{}", output.status, text, error.trim_end());
    }
    Ok(text)
}

/// A path as an argument of a command line.
pub(crate) fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}
