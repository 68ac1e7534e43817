//! The measurements of one contender.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weave_testbed::{Container, Router, eventually};

/// What was measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// The contender.
    pub name: &'static str,
    /// One TCP stream (cubic), Gbit/s.
    pub tcp_gigabits: f64,
    /// UDP with 64 bytes of payload, thousands of packets per second that arrived.
    pub udp_kilopackets: f64,
    /// Median round trip, milliseconds.
    pub ping_median: f64,
    /// 99th percentile of the round trip, milliseconds.
    pub ping_p99: f64,
    /// Processor seconds of both routers per GB of TCP.
    pub router_cpu: f64,
    /// Processor seconds of the whole machine per GB of TCP.
    pub machine_cpu: f64,
    /// Largest resident memory of a router, MB.
    pub memory: f64,
}

/// Pings in one measurement.
const PINGS: u32 = 500;

/// Measures between two containers that reach each other.
pub fn row(
    name: &'static str,
    containers: [&Container; 2],
    address: &str,
    routers: &[Router],
    seconds: u32,
) -> Result<Row> {
    let [from, to] = containers;
    let (ping_median, ping_p99) = ping(from, address)?;
    let _server = Server::start(to)?;

    let (router_before, machine_before) = (router_cpu(routers)?, machine_cpu()?);
    let tcp = iperf(from, address, &format!("-C cubic -t {seconds}"))?;
    let gigabytes = number(&tcp["end"]["sum_received"]["bytes"])? / 1e9;
    let tcp_gigabits = number(&tcp["end"]["sum_received"]["bits_per_second"])? / 1e9;
    let (router_after, machine_after) = (router_cpu(routers)?, machine_cpu()?);

    let udp = iperf(from, address, &format!("-u -b 0 -l 64 -t {seconds}"))?;
    let sum = &udp["end"]["sum"];
    let arrived = number(&sum["packets"])? - number(&sum["lost_packets"])?;
    let memory = routers.iter().map(|router| Ok(router.cost()?.1)).collect::<Result<Vec<_>>>()?;
    Ok(Row {
        name,
        tcp_gigabits,
        udp_kilopackets: arrived / number(&sum["seconds"])? / 1e3,
        ping_median,
        ping_p99,
        router_cpu: (router_after - router_before) / gigabytes,
        machine_cpu: (machine_after - machine_before) / gigabytes,
        memory: memory.into_iter().max().unwrap_or(0) as f64 / 1e6,
    })
}

/// Median and 99th percentile.
fn ping(from: &Container, address: &str) -> Result<(f64, f64)> {
    let text = from.namespace.exec(&format!("ping -c {PINGS} -i 0.005 -W 1 {address}"))?;
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    at(50).zip(at(99)).context("ping printed no times")
}

/// An iperf3 server, killed on drop.
struct Server(Child);

impl Server {
    fn start(container: &Container) -> Result<Self> {
        let mut command = container.namespace.command("iperf3");
        command.arg("-s").stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().context("cannot start iperf3")?);
        // 5201, in hexadecimal, in the state LISTEN.
        eventually("iperf3 listens", Duration::from_secs(5), || {
            let table = container.namespace.exec("cat /proc/net/tcp /proc/net/tcp6");
            table.is_ok_and(|table| table.contains(":1451 "))
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn iperf(from: &Container, address: &str, arguments: &str) -> Result<Value> {
    let text = from.namespace.exec(&format!("iperf3 -J -c {address} {arguments}"))?;
    let report: Value = serde_json::from_str(&text).context("iperf3 wrote no JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    Ok(report)
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("a number is missing in the report of iperf3")
}

fn router_cpu(routers: &[Router]) -> Result<f64> {
    routers.iter().map(|router| Ok(router.cost()?.0)).sum()
}

/// Seconds in which a processor was not idle (user, nice, system, interrupts) since the machine started.
fn machine_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = text
        .lines()
        .next()
        .context("/proc/stat is empty")?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq; USER_HZ is 100 on every Linux there is.
    Ok([0, 1, 2, 5, 6].iter().filter_map(|i| fields.get(*i)).sum::<f64>() / 100.0)
}
