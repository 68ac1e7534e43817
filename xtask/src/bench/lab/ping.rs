//! Round trips.

use anyhow::{Context, Result};
use weave_testbed::Namespace;

/// What the round trips of a run were, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RoundTrips {
    /// Half of them took no longer.
    pub median: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

/// Sends `count` pings, 5 ms apart.
pub fn run(from: &Namespace, address: &str, count: u32) -> Result<RoundTrips> {
    parse(&from.exec(&format!("ping -n -c {count} -i 0.005 -W 2 {address}"))?)
}

fn parse(text: &str) -> Result<RoundTrips> {
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len() * percent / 100).copied();
    let (median, p99) = at(50).zip(at(99)).context("ping printed no times")?;
    Ok(RoundTrips { median, p99 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_read() {
        let mut text = String::from("PING 10.32.0.2 (10.32.0.2) 56(84) bytes of data.\n");
        for i in (1..=100).rev() {
            text += &format!("64 bytes from 10.32.0.2: icmp_seq={i} ttl=64 time=0.{i:03} ms\n");
        }
        text += "--- 10.32.0.2 ping statistics ---\nrtt min/avg/max/mdev = 0.001/0.050/0.100/0.001 ms\n";
        assert_eq!(parse(&text).expect("times"), RoundTrips { median: 0.051, p99: 0.1 });
    }

    #[test]
    fn no_answer_is_an_error() {
        assert!(parse("100 packets transmitted, 0 received, 100% packet loss").is_err());
    }
}
