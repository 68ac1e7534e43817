//! What crosses a device, as tcpdump and tshark see it.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::path_text;
use crate::process::spawn_with_signals;
use crate::wait::{eventually, try_until};
use crate::{Lab, Namespace, run};

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    process: Child,
    file: PathBuf,
}

impl Capture {
    /// Starts capturing whole packets for which `filter` (as in tcpdump) holds.
    pub fn start(lab: &Lab, inside: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let file = lab.directory().join(format!("{}-{device}.pcap", inside.name()));
        let errors = file.with_extension("stderr");
        let mut command = inside.command("tcpdump");
        command.args(["-i", device, "-s", "0", "-U", "-n", "-Z", "root", "-B", "65536"]);
        // Otherwise the kernel keeps packets for up to a second, and those of the last one are
        // lost.
        command.args(["--immediate-mode", "-w"]);
        command.arg(&file).arg(filter).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&errors)?);
        let process = spawn_with_signals(command).context("cannot start tcpdump")?;
        let capture = Self { process, file };
        eventually("tcpdump listens", Duration::from_secs(10), || {
            std::fs::read_to_string(&errors).is_ok_and(|text| text.contains("listening on"))
        })?;
        Ok(capture)
    }

    /// Waits until tshark finds a packet for which `display_filter` holds.
    pub fn wait_for(&self, display_filter: &str, limit: Duration) -> Result<()> {
        try_until(&format!("a packet with {display_filter}"), limit, || {
            // The file grows while it is read: a cut off last packet is no error here.
            let output = std::process::Command::new("tshark")
                .args(["-n", "-r"])
                .arg(&self.file)
                .args(["-Y", display_filter])
                .output()?;
            if output.stdout.is_empty() {
                bail!("none: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        })
    }

    /// Waits until this many bytes are in the file: what the kernel has not handed over yet is lost
    /// at the end.
    pub fn wait_length(&self, bytes: u64, limit: Duration) -> Result<()> {
        eventually(&format!("{bytes} bytes are captured"), limit, || {
            std::fs::metadata(&self.file).is_ok_and(|file| file.len() >= bytes)
        })
    }

    /// Ends the capture and returns what it caught.
    pub fn finish(mut self) -> Result<Captured> {
        let pid = i32::try_from(self.process.id()).context("process id")?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        self.process.wait()?;
        Ok(Captured { bytes: std::fs::read(&self.file)?, file: self.file.clone() })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Ended already in the usual case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A finished capture.
#[derive(Debug)]
pub struct Captured {
    bytes: Vec<u8>,
    file: PathBuf,
}

impl Captured {
    /// Whether these bytes occur anywhere in the captured packets.
    pub fn contains(&self, needle: &[u8]) -> bool {
        self.bytes.windows(needle.len()).any(|window| window == needle)
    }

    /// How many bytes were captured, headers of the file included.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// One line of tab-separated `fields` for each packet for which tshark's `display_filter`
    /// holds.
    pub fn fields(&self, display_filter: &str, fields: &[&str]) -> Result<Vec<String>> {
        ensure!(!fields.is_empty(), "no field");
        let path = path_text(&self.file)?;
        let mut arguments = vec!["-n", "-r", path, "-Y", display_filter, "-T", "fields"];
        fields.iter().for_each(|field| arguments.extend(["-e", field]));
        Ok(run("tshark", &arguments)?.lines().map(str::to_owned).collect())
    }

    /// How many packets there are for which tshark's `display_filter` holds.
    pub fn count(&self, display_filter: &str) -> Result<usize> {
        Ok(self.fields(display_filter, &["frame.number"])?.len())
    }
}
