//! The commands themselves: launch, stop, reset, what they refuse and what they keep secret.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weave_testbed::{Host, Lab, RouterOptions, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_weave");

/// Runs the command on the host; its files are those of the host's routers.
fn weave(host: &Host, line: &str) -> Result<Output> {
    command(host, line).output().context("cannot run weave")
}

fn command(host: &Host, line: &str) -> Command {
    let mut command = host.namespace.command(BINARY);
    command.args(line.split_whitespace()).env("WEAVE_DB_PREFIX", prefix(host));
    command
}

fn prefix(host: &Host) -> PathBuf {
    host.directory().join("weave")
}

/// What it printed, if it succeeded.
fn succeed(host: &Host, line: &str) -> Result<String> {
    let output = weave(host, line)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weave {line}: {} {complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What it complained of with this exit code.
fn fail(host: &Host, line: &str, code: i32) -> Result<String> {
    let output = weave(host, line)?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "weave {line}: {} {complaint}", output.status);
    Ok(complaint)
}

fn file(host: &Host, suffix: &str) -> Result<String> {
    let path = format!("{}{suffix}", prefix(host).display());
    fs::read_to_string(&path).with_context(|| path)
}

fn pid(host: &Host) -> Result<Pid> {
    Ok(Pid::from_raw(file(host, ".pid")?.trim().parse().context("no process id")?))
}

#[test]
fn a_launched_router_works_until_it_is_stopped() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    succeed(&host, "launch --name 00:00:00:00:00:a1 --nickname one 192.0.2.9")?;
    let status = succeed(&host, "status")?;
    assert!(status.starts_with("\n        Version: "), "{status}");
    assert!(status.contains("           Name: 00:00:00:00:00:a1(one)\n"), "{status}");
    assert_eq!(succeed(&host, "status targets")?, "192.0.2.9\n");
    assert!(succeed(&host, "status --output json")?.contains("\"NickName\": \"one\""));
    assert_eq!(succeed(&host, "report -f {{.Router.Name}}")?, "00:00:00:00:00:a1\n");
    assert!(succeed(&host, "version")?.contains("weave router "));

    let refusal = fail(&host, "launch", 1)?;
    assert!(refusal.contains("a router is running already (process "), "{refusal}");
    succeed(&host, "status")?;

    let process = pid(&host)?;
    succeed(&host, "stop")?;
    // What is left is for its parent to see.
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
    assert!(fail(&host, "stop", 1)?.contains("no router is running"));
    assert!(fail(&host, "status", 1)?.contains("Have you launched it?"));
    assert!(!fs::exists(format!("{}.pid", prefix(&host).display()))?);
    host.namespace.ip("link show dev weave")?;
    lab.finish()
}

/// Nothing that others can look at holds this, nor is there a file in memory any more.
fn shows_nothing_of(secret: &str, process: impl std::fmt::Display) -> Result<()> {
    let holds = |text: &[u8]| text.windows(secret.len()).any(|part| part == secret.as_bytes());
    let arguments = fs::read(format!("/proc/{process}/cmdline"))?;
    ensure!(String::from_utf8_lossy(&arguments).contains("router"), "not the router");
    ensure!(!holds(&arguments), "in the arguments");
    ensure!(!holds(&fs::read(format!("/proc/{process}/environ"))?), "in the environment");
    for file in fs::read_dir(format!("/proc/{process}/fd"))? {
        let place = fs::read_link(file?.path()).unwrap_or_default();
        ensure!(!place.starts_with("/memfd:"), "{} is open", place.display());
    }
    Ok(())
}

#[test]
fn the_password_is_seen_nowhere() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let secret = "open-sesame-17";
    let debug = "launch --log-level debug";
    for (line, variable) in [(format!("{debug} --password {secret}"), ""), (debug.into(), secret)] {
        let output = command(&host, &line).env("WEAVE_PASSWORD", variable).output()?;
        ensure!(output.status.success(), "{output:?}");
        shows_nothing_of(secret, pid(&host)?)?;
        assert!(succeed(&host, "status")?.contains("Encryption: enabled"));
        assert!(!succeed(&host, "report")?.contains(secret));
        assert!(!file(&host, ".log")?.contains(secret));
        let state = fs::read(format!("{}data.redb", prefix(&host).display()))?;
        assert!(!state.windows(secret.len()).any(|window| window == secret.as_bytes()));
        succeed(&host, "stop")?;
    }

    let none = RouterOptions::new().argument("--capture=none");
    for options in [none.clone().argument("--password").argument(secret), none.password(secret)] {
        let in_front = host.start(options)?;
        in_front.wait_ready()?;
        shows_nothing_of(secret, in_front.pid())?;
        assert!(in_front.status("")?.contains("Encryption: enabled"));
        in_front.stop()?;
    }
    lab.finish()
}

#[test]
fn relative_paths_are_those_of_who_launches() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let mut command = command(&host, "launch --db-prefix here --capture none");
    let output = command.current_dir(host.directory()).output()?;
    ensure!(output.status.success(), "{output:?}");
    assert!(host.directory().join("heredata.redb").exists());
    succeed(&host, &format!("stop --db-prefix {}", host.directory().join("here").display()))?;
    lab.finish()
}

#[test]
fn what_passes_the_port_is_recorded() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let recorded = lab.directory().join("recorded.pcap");
    let option = format!("--capture-file={}", recorded.display());
    let router = host.router(RouterOptions::new().argument(&option))?;
    let container = host.container("c1", "10.32.0.1/12")?;
    // Nobody has that address: the question for it goes to all, and so through the port.
    let ask = || container.ping("10.32.0.77", 1, "");
    let questions = || {
        let path = recorded.display().to_string();
        let shown = weave_testbed::run("tcpdump", &["-n", "-r", &path, "arp"]).unwrap_or_default();
        shown.matches("who-has 10.32.0.77").count()
    };
    let within = Duration::from_secs(20);
    eventually("a question in the file", within, || ask().is_ok() && questions() > 0)?;
    host.namespace.ip("link del vethwe-tap")?;
    router.wait_log("vethwe-tap is new", within)?;
    let before = questions();
    eventually("a later one", within, || ask().is_ok() && questions() > before)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&recorded)?.permissions());
    assert_eq!(mode & 0o777, 0o600);
    router.stop()?;
    lab.finish()
}

#[test]
fn a_killed_router_is_replaced_without_loss() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    succeed(&host, "launch --name 00:00:00:00:00:a1 192.0.2.1 192.0.2.2")?;
    let [one, two] = [host.bare_container("c1")?, host.bare_container("c2")?];
    for (container, address) in [(&one, "10.32.0.1"), (&two, "10.32.0.2")] {
        let line = format!("attach {address}/24 {}", container.namespace.name());
        assert_eq!(succeed(&host, &line)?, format!("{address}\n"));
    }
    one.wait_ping("10.32.0.2", Duration::from_secs(5))?;
    succeed(&host, "connect 192.0.2.3")?;
    succeed(&host, "forget 192.0.2.1")?;
    let bridge = host.namespace.ip("-o link show dev weave")?;

    let process = pid(&host)?;
    kill(process, Signal::SIGKILL)?;
    eventually("the killed router is gone", Duration::from_secs(5), || {
        kill(process, None).is_err()
    })?;
    one.wait_ping("10.32.0.2", Duration::from_secs(5))?;

    succeed(&host, "launch")?;
    assert_eq!(succeed(&host, "status targets")?, "192.0.2.2\n192.0.2.3\n");
    assert_eq!(succeed(&host, "report -f {{.Router.Name}}")?, "00:00:00:00:00:a1\n");
    let same = host.namespace.ip("-o link show dev weave")?;
    assert_eq!(same.split(':').next(), bridge.split(':').next(), "another bridge");
    one.wait_ping("10.32.0.2", Duration::from_secs(5))?;

    let line = format!("detach {}", one.namespace.name());
    assert_eq!(succeed(&host, &line)?, "10.32.0.1\n");
    assert!(one.namespace.ip("link show dev ethwe").is_err());
    succeed(&host, "stop")?;
    lab.finish()
}

#[test]
fn a_second_router_leaves_the_first_alone() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    succeed(&host, "launch --name 00:00:00:00:00:a1")?;
    let other = lab.directory().join("other");
    let line = format!("router --db-prefix {} --name 00:00:00:00:00:a2", other.display());
    let complaint = fail(&host, &line, 1)?;
    assert!(complaint.contains("cannot listen for HTTP control on 127.0.0.1:6784"), "{complaint}");
    let line = format!("{line} --http-addr= --status-addr=");
    let complaint = fail(&host, &line, 1)?;
    assert!(complaint.contains("cannot listen on UDP 0.0.0.0:6783"), "{complaint}");
    let complaint = fail(&host, &format!("{line} --port 7000"), 1)?;
    assert!(complaint.contains("another router is running on bridge weave"), "{complaint}");
    let line = format!("reset --db-prefix {}", other.display());
    let complaint = fail(&host, &line, 1)?;
    assert!(complaint.contains("another router is running on bridge weave"), "{complaint}");
    assert!(host.namespace.ip("-o link show dev weave")?.contains("00:00:00:00:00:a1"));
    succeed(&host, "status")?;
    succeed(&host, "stop")?;
    lab.finish()
}

#[test]
fn reset_leaves_nothing() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let before = host.namespace.ip("-o link show")?;
    succeed(&host, "launch --capture pcap 192.0.2.1")?;
    let container = host.bare_container("c1")?;
    succeed(&host, &format!("attach 10.32.0.1/24 {}", container.namespace.name()))?;
    let removed = succeed(&host, "reset")?;
    assert!(removed.contains("weave") && removed.contains("vethwe-bridge"), "{removed}");
    assert_eq!(host.namespace.ip("-o link show")?, before);
    assert!(container.namespace.ip("link show dev ethwe").is_err());
    succeed(&host, "reset")?;
    succeed(&host, "launch")?;
    assert_eq!(succeed(&host, "status targets")?, "");
    succeed(&host, "reset --force")?;
    lab.finish()
}

#[test]
fn what_is_missing_is_named() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let shared = lab.directory().join("everybody");
    fs::create_dir(&shared)?;
    run_chmod(&shared)?;
    let mut command = host.namespace.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    command.args([BINARY, "router", "--name", "00:00:00:00:00:a1"]);
    command.arg(format!("--db-prefix={}", shared.join("weave").display()));
    let output = command.output().context("cannot run setpriv")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    let last = complaint.lines().last().unwrap_or_default();
    assert!(last.starts_with("weave: cannot ") && last.contains("CAP_NET_ADMIN"), "{complaint}");

    host.namespace.ip("link add weave type veth peer name other")?;
    let complaint = fail(&host, "router", 1)?;
    assert!(complaint.contains("interface weave is a veth"), "{complaint}");
    lab.finish()
}

/// A directory in which everybody may write.
fn run_chmod(directory: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for path in directory.ancestors().take_while(|path| path.starts_with("/tmp/")) {
        let mode = if path == directory { 0o777 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[test]
fn its_state_is_told_on_demand() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let router = host.router(RouterOptions::new().argument("--capture=none"))?;
    router.signal(Signal::SIGQUIT)?;
    router.wait_log("state: {\"Ready\":true", Duration::from_secs(5))?;
    assert!(router.status("")?.contains("Service: router"));
    router.stop()?;
    lab.finish()
}

#[test]
fn signals_that_mean_nothing_do_nothing() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let mut router = host.router(RouterOptions::new().argument("--capture=none"))?;
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        router.signal(signal)?;
        router.wait_log(&format!("{signal}: nothing to do"), Duration::from_secs(5))?;
    }
    assert!(router.is_running());
    router.stop()?;
    lab.finish()
}

#[test]
fn a_killed_router_is_replaced_at_once() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    succeed(&host, "launch")?;
    for _ in 0..5 {
        kill(pid(&host)?, Signal::SIGKILL)?;
        succeed(&host, "launch")?;
    }
    succeed(&host, "stop")?;
    lab.finish()
}

/// Under whatever umask it is started.
#[test]
fn nobody_else_writes_to_the_files_of_a_router() -> Result<()> {
    let lab = Lab::new(BINARY)?;
    let host = lab.host("h1")?;
    let mut shell = host.namespace.command("sh");
    shell.args(["-c", "umask 000; exec \"$0\" launch", BINARY]);
    let launched = shell.env("WEAVE_DB_PREFIX", prefix(&host)).output()?;
    ensure!(launched.status.success(), "{}", String::from_utf8_lossy(&launched.stderr));
    let mut files = 0;
    for entry in fs::read_dir(host.directory())? {
        let entry = entry?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata()?.permissions());
        ensure!(mode & 0o022 == 0, "{} has mode {mode:o}", entry.path().display());
        files += usize::from(entry.file_name().to_string_lossy().starts_with("weave"));
    }
    ensure!(files >= 2, "there is a state and a process id");
    succeed(&host, "stop")?;
    lab.finish()
}
