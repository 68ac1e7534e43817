//! The programs that change a firewall.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::FirewallError;

/// A program of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Program(PathBuf);

impl Program {
    /// Looks in PATH, and where such programs are when a service has a short one.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .map(|directory| directory.join(name))
            .find(|candidate| candidate.is_file())
            .map(Self)
    }

    /// Runs it with this input and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
        let Self(path) = self;
        let line = [&[name(path)], arguments].concat().join(" ");
        let failed = |complaint: String| FirewallError::Program { line: line.clone(), complaint };
        let mut child = Command::new(path)
            .args(arguments)
            // What it says is looked at.
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read to the end says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let lines = complaint.lines().map(str::trim).filter(|line| !line.is_empty());
        let told = lines.collect::<Vec<_>>().join("; ");
        Err(failed(if told.is_empty() { output.status.to_string() } else { told }))
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("program")
}
