//! The examples that want interfaces.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weave_testbed::{Lab, Namespace, eventually};

fn example(name: &str) -> Result<PathBuf> {
    let binary = Path::new(env!("CARGO_BIN_EXE_weave"));
    let example = binary.parent().context("no folder")?.join("examples").join(name);
    ensure!(example.exists(), "{} was not built", example.display());
    Ok(example)
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ```text
///   tap0 10.9.0.1 ── tunnel ── 192.168.50.1 ═══ 192.168.50.2 ── tunnel ── tap0 10.9.0.2
/// ```
#[test]
fn a_tunnel_joins_two_devices() -> Result<()> {
    let lab = Lab::new(env!("CARGO_BIN_EXE_weave"))?;
    let hosts = [lab.namespace("near")?, lab.namespace("far")?];
    let [near, far] = &hosts;
    near.ip(&format!("link add eth0 type veth peer name eth0 netns {}", far.name()))?;
    let tunnel = example("tunnel")?;
    let mut running = Vec::new();
    for (number, host) in (1..).zip(&hosts) {
        host.ip(&format!("addr add 192.168.50.{number}/24 dev eth0"))?;
        host.ip("link set eth0 up")?;
        host.ip("tuntap add dev tap0 mode tap")?;
        host.ip(&format!("addr add 10.9.0.{number}/24 dev tap0"))?;
    }
    let start = |host: &Namespace, arguments: &[&str]| -> Result<Running> {
        let mut command = host.command(&tunnel.to_string_lossy());
        command.args(arguments).stdout(Stdio::null());
        Ok(Running(command.spawn()?))
    };
    running.push(start(far, &["tap0", "192.168.50.2:6783", "listen", "a passphrase"])?);
    eventually("the far end listens", Duration::from_secs(10), || {
        far.exec("ss -Hltn sport = :6783").is_ok_and(|sockets| sockets.contains("6783"))
    })?;
    running.push(start(near, &["tap0", "192.168.50.1:6783", "192.168.50.2:6783", "a passphrase"])?);
    for host in &hosts {
        host.ip("link set tap0 mtu 1300 up")?;
    }
    near.exec("ping -q -i 0.2 -c 20 -w 20 10.9.0.2")?;
    drop(running);
    lab.finish()
}
