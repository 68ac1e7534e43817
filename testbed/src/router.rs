//! One router process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::namespace::path_text;
use crate::process::spawn_with_signals;
use crate::wait::{eventually, try_until};
use crate::{Host, Response, http};

const HTTP: &str = "127.0.0.1:6784";
const STATUS: &str = "127.0.0.1:6782";

/// How long a router may take to answer after its start: it runs other programs, and processors may
/// be emulated.
const START: Duration = Duration::from_secs(60);

/// How a router is started.
#[derive(Debug, Clone, Default)]
pub struct RouterOptions {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    peers: Vec<String>,
    name: Option<String>,
    program: Option<PathBuf>,
}

impl RouterOptions {
    /// The defaults, and no peer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same without the fast datapath: for tests of what the router does in user space.
    pub fn sleeve() -> Self {
        Self::new().argument("--no-fastdp")
    }

    /// Adds a peer to connect to.
    pub fn peer(mut self, address: &str) -> Self {
        self.peers.push(address.to_owned());
        self
    }

    /// Sets the password by the environment, as an operator would.
    pub fn password(mut self, password: &str) -> Self {
        self.environment.push(("WEAVE_PASSWORD".to_owned(), password.to_owned()));
        self
    }

    /// Sets the peer name; each host has a default of its own.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only connects to the peers given.
    pub fn no_discovery(self) -> Self {
        self.argument("--no-discovery")
    }

    /// Runs another router, which takes the same flags without a sub-command.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// Any other argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

impl Host {
    /// Starts the router and waits until it answers.
    pub fn router(&self, options: RouterOptions) -> Result<Router<'_>> {
        let router = self.start(options)?;
        router.wait_ready()?;
        Ok(router)
    }

    /// Starts the router without waiting.
    pub fn start(&self, options: RouterOptions) -> Result<Router<'_>> {
        Router::start(self, self.binary(), self.router_log(), options)
    }
}

/// A running router. Killed on drop.
#[derive(Debug)]
pub struct Router<'host> {
    host: &'host Host,
    process: Child,
    log: PathBuf,
}

impl<'host> Router<'host> {
    pub(crate) fn start(
        host: &'host Host,
        binary: &Path,
        log: PathBuf,
        options: RouterOptions,
    ) -> Result<Self> {
        let program = options.program.as_deref().unwrap_or(binary);
        let mut command = host.namespace.command(path_text(program)?);
        if options.program.is_none() {
            command.arg("router");
        }
        command.args(["--nickname", host.name()]);
        // All hosts have the same machine id, so they would all get the same name.
        command.args(["--name", options.name.as_deref().unwrap_or(host.peer_name())]);
        command.arg(format!("--db-prefix={}", host.database().display()));
        command.arg(format!("--http-addr={HTTP}")).arg(format!("--status-addr={STATUS}"));
        command.args(&options.arguments).args(&options.peers);
        command.envs(options.environment).current_dir(host.directory());
        // Restarts append, so that a test can look at the whole story.
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let process = spawn_with_signals(command).context("cannot start the router")?;
        Ok(Self { host, process, log })
    }

    /// Waits until `/status` answers with success.
    pub fn wait_ready(&self) -> Result<()> {
        try_until(&format!("router {} is ready", self.host.name()), START, || {
            match self.get("/status")?.status {
                200 => Ok(()),
                status => bail!("status {status}"),
            }
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        // `ip netns exec` replaces itself by the router, so this is not a parent of it.
        self.process.id()
    }

    /// Asks the control address.
    pub fn get(&self, path: &str) -> Result<Response> {
        http::request(&self.host.namespace, HTTP, "GET", path, "", "")
    }

    /// Asks the address for status and metrics.
    pub fn get_status_address(&self, path: &str) -> Result<Response> {
        http::request(&self.host.namespace, STATUS, "GET", path, "", "")
    }

    /// Posts a form to the control address.
    pub fn post(&self, path: &str, form: &str) -> Result<Response> {
        let header = "Content-Type: application/x-www-form-urlencoded\r\n";
        http::request(&self.host.namespace, HTTP, "POST", path, header, form)
    }

    /// Deletes something at the control address.
    pub fn delete(&self, path: &str) -> Result<Response> {
        http::request(&self.host.namespace, HTTP, "DELETE", path, "", "")
    }

    /// A status page: "", "connections", "peers", …
    pub fn status(&self, page: &str) -> Result<String> {
        let path = if page.is_empty() { "/status".to_owned() } else { format!("/status/{page}") };
        let answer = self.get(&path)?;
        if answer.status != 200 {
            bail!("{path}: {} {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// The report.
    pub fn report(&self) -> Result<Value> {
        let header = "Accept: application/json\r\n";
        let answer = http::request(&self.host.namespace, HTTP, "GET", "/report", header, "")?;
        serde_json::from_str(&answer.body).with_context(|| format!("report: {}", answer.body))
    }

    /// Own peer name.
    pub fn name(&self) -> Result<String> {
        let report = self.report()?;
        Ok(report["Router"]["Name"].as_str().context("no Router.Name in the report")?.to_owned())
    }

    /// Waits until this many connections are established.
    pub fn wait_established(&self, count: usize, limit: Duration) -> Result<()> {
        let what = format!("{count} connections of {} established", self.host.name());
        try_until(&what, limit, || {
            let page = self.status("connections")?;
            let established = page.lines().filter(|line| line.contains(" established ")).count();
            if established == count { Ok(()) } else { bail!("{established} are:\n{page}") }
        })
    }

    /// Waits until the topology has this many peers.
    pub fn wait_peers(&self, count: usize, limit: Duration) -> Result<()> {
        try_until(&format!("{} knows {count} peers", self.host.name()), limit, || {
            let report = self.report()?;
            let known = report["Router"]["Peers"].as_array().map_or(0, Vec::len);
            if known == count { Ok(()) } else { bail!("{known} are known") }
        })
    }

    /// Waits until every established connection shows an overlay MTU for which `accept` holds.
    pub fn wait_mtu(&self, limit: Duration, accept: impl Fn(u32) -> bool) -> Result<()> {
        try_until(&format!("overlay MTU of {}", self.host.name()), limit, || {
            let page = self.status("connections")?;
            let mtus: Vec<u32> = page
                .lines()
                .filter_map(|line| {
                    line.split("mtu=").nth(1)?.split_whitespace().next()?.parse().ok()
                })
                .collect();
            if !mtus.is_empty() && mtus.iter().all(|mtu| accept(*mtu)) {
                Ok(())
            } else {
                bail!("MTUs {mtus:?}:\n{page}")
            }
        })
    }

    /// Everything logged so far, restarts included.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log contains a text.
    pub fn wait_log(&self, text: &str, limit: Duration) -> Result<()> {
        eventually(&format!("\"{text}\" in the log of {}", self.host.name()), limit, || {
            self.log().contains(text)
        })
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Processor seconds and resident memory (peak, bytes) so far.
    pub fn cost(&self) -> Result<(f64, u64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok());
        let ticks = ticks(11).zip(ticks(12)).context("no times in /proc/…/stat")?;
        // USER_HZ is 100 on every Linux there is.
        let seconds = (ticks.0 + ticks.1) / 100.0;
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
            .map_or(0, |kib: u64| kib * 1024);
        Ok((seconds, peak))
    }

    /// Asks the process to end and waits for it; an exit code other than 0 is an error.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = try_until("router ends after SIGTERM", Duration::from_secs(10), || {
            self.process.try_wait()?.context("still running")
        })?;
        if !status.success() {
            bail!("router {} ended with {status}", self.host.name());
        }
        Ok(())
    }

    /// Kills the process without notice.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("process id")?;
        kill(Pid::from_raw(pid), signal).context("cannot signal the router")
    }
}

impl Drop for Router<'_> {
    fn drop(&mut self) {
        // Ended already in the usual case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
