//! The programs the tasks call: found, installed if missing, run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Debian packages and one program of each.
const PACKAGES: [(&str, &str); 18] = [
    ("g++", "g++"),
    ("iproute2", "ip"),
    ("iputils-ping", "ping"),
    ("ipset", "ipset"),
    ("iptables", "iptables-legacy"),
    ("util-linux", "setpriv"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("iperf3", "iperf3"),
    ("ethtool", "ethtool"),
    ("nftables", "nft"),
    ("binutils", "readelf"),
    ("procps", "sysctl"),
    ("busybox-static", "busybox"),
    ("runc", "runc"),
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("containernetworking-plugins", "/usr/lib/cni/portmap"),
];

/// Cargo packages and the program of each.
const CARGO_PACKAGES: [&str; 3] = ["cargo-nextest", "cargo-deny", "cargo-fuzz"];

/// Top of the repository.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Installs the programs of the machine that are missing.
pub fn install_packages() -> Result<()> {
    install(&PACKAGES)
}

/// Installs those of these Debian packages whose program is missing.
pub fn install(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, program)| find(program).is_none())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    ensure!(
        find("apt-get").is_some(),
        "missing on this machine: the programs of the Debian packages {}",
        missing.join(", ")
    );
    // tshark asks whether users may capture; the answer does not matter here.
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        run(&mut command)
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], missing.as_slice()].concat())
}

/// Installs the cargo commands that are missing. They run for seconds and are built for minutes:
/// built with little optimisation, and with one directory for the dependencies that they share.
pub fn install_cargo_commands() -> Result<()> {
    let missing: Vec<&str> =
        CARGO_PACKAGES.into_iter().filter(|package| find(package).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let mut command = cargo("install --locked --quiet --target-dir target/tools");
    command.args(missing);
    for (setting, value) in [("OPT_LEVEL", "1"), ("LTO", "off"), ("CODEGEN_UNITS", "16")] {
        command.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    run(&mut command)
}

/// Looks a program up in PATH and in the usual places that a short PATH leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .chain(home)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A cargo command in the repository.
pub fn cargo(line: &str) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(line.split_whitespace());
    command
}

/// Runs a command with the caller's output; not succeeding is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("starting {line}"))?;
    ensure!(status.success(), "`{line}`: {status}");
    Ok(())
}

/// Like [`run`], and kills the command after `limit`.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<()> {
    let line = describe(command);
    let mut child =
        command.stdin(Stdio::null()).spawn().with_context(|| format!("starting {line}"))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "`{line}`: {status}");
            return Ok(());
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("`{line}` took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {line}"))?;
    if !output.status.success() {
        bail!("`{line}`: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {line}"))
}

/// Runs a command and returns all that it printed; the error holds it if the command fails.
pub fn output_of_both(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {line}"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{text}`{line}`: {}", output.status);
    Ok(text)
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
