//! iperf3: the load, and its report.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weave_testbed::{Namespace, eventually};

/// More seconds than an end of the control connection needs.
const MARGIN: u32 = 15;

/// What a TCP run moved.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tcp {
    /// Gbit/s that arrived.
    pub gigabits: f64,
    /// GB that arrived.
    pub gigabytes: f64,
}

/// What a UDP run moved.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Udp {
    /// Thousands of packets per second that arrived.
    pub kilopackets: f64,
    /// Per cent that did not.
    pub loss: f64,
}

/// Runs a client against `address`.
pub fn run(from: &Namespace, address: &str, seconds: u32, arguments: &str) -> Result<Value> {
    let limit = seconds + MARGIN;
    // The other signals are blocked in this process and its children.
    let line = format!("timeout -s KILL {limit} iperf3 -J -c {address} -t {seconds} {arguments}");
    report(&from.exec(&line)?)
}

/// Sends so much that `arguments` say, and waits for its end.
pub fn run_bytes(from: &Namespace, address: &str, arguments: &str) -> Result<()> {
    report(&from.exec(&format!("timeout -s KILL 60 iperf3 -J -c {address} {arguments}"))?)?;
    Ok(())
}

fn report(text: &str) -> Result<Value> {
    let report: Value = serde_json::from_str(text).context("iperf3 wrote no JSON")?;
    match report["error"].as_str() {
        Some(error) => bail!("iperf3: {error}"),
        None => Ok(report),
    }
}

/// Reads the report of a TCP run.
pub fn tcp(report: &Value) -> Result<Tcp> {
    let sum = &report["end"]["sum_received"];
    Ok(Tcp {
        gigabits: number(&sum["bits_per_second"])? / 1e9,
        gigabytes: number(&sum["bytes"])? / 1e9,
    })
}

/// Reads the report of a UDP run.
pub fn udp(report: &Value) -> Result<Udp> {
    let sum = &report["end"]["sum"];
    let (sent, lost) = (number(&sum["packets"])?, number(&sum["lost_packets"])?);
    if sent <= 0.0 {
        bail!("iperf3 sent nothing");
    }
    Ok(Udp {
        kilopackets: (sent - lost) / number(&sum["seconds"])? / 1e3,
        loss: lost / sent * 100.0,
    })
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("a number is missing in the report of iperf3")
}

/// An iperf3 server, killed on drop.
pub struct Server(Child);

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(inside: &Namespace) -> Result<Self> {
        let mut command = inside.command("iperf3");
        command.arg("-s").stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().context("cannot start iperf3")?);
        // 5201, in hexadecimal, in the state LISTEN.
        eventually("iperf3 listens", Duration::from_secs(5), || {
            let table = inside.exec("cat /proc/net/tcp /proc/net/tcp6");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_report_is_read() {
        let text = r#"{"end": {"sum_sent": {"bytes": 7, "retransmits": 3},
            "sum_received": {"seconds": 5.0, "bytes": 2500000000, "bits_per_second": 4.0e9}}}"#;
        let read = tcp(&report(text).expect("a report")).expect("all numbers");
        assert_eq!(read, Tcp { gigabits: 4.0, gigabytes: 2.5 });
    }

    #[test]
    fn a_udp_report_is_read() {
        let text = r#"{"end": {"sum": {"seconds": 2.0, "packets": 40000, "lost_packets": 10000,
            "lost_percent": 25.0}}}"#;
        let read = udp(&report(text).expect("a report")).expect("all numbers");
        assert_eq!(read, Udp { kilopackets: 15.0, loss: 25.0 });
    }

    #[test]
    fn what_is_wrong_is_told() {
        let refused = report(r#"{"error": "unable to connect to server: Connection refused"}"#);
        assert!(refused.expect_err("an error").to_string().contains("Connection refused"));
        assert!(report("iperf3: interrupt").is_err());
        assert!(tcp(&report("{}").expect("JSON")).is_err());
        assert!(
            udp(&report(r#"{"end": {"sum": {"packets": 0, "lost_packets": 0}}}"#).expect("JSON"))
                .is_err()
        );
    }
}
