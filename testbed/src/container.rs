//! A container: a namespace with an interface on the overlay.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Namespace;
use crate::wait::try_until;

/// A namespace that is plugged into a host's bridge.
#[derive(Debug)]
pub struct Container {
    /// Where its processes and devices are.
    pub namespace: Namespace,
}

/// What `ping` reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ping {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
    /// Duplicate replies: a frame that went round a loop or came by two ways.
    pub duplicates: u32,
    /// Smallest and mean round trip in milliseconds, if any reply came.
    pub round_trip_ms: Option<(f64, f64)>,
}

impl Container {
    /// Sends `count` pings, 10 ms apart, with any further arguments.
    pub fn ping(&self, address: &str, count: u32, arguments: &str) -> Result<Ping> {
        let mut command = self.namespace.command("ping");
        command.args(["-q", "-i", "0.01", "-W", "2", "-c", &count.to_string()]);
        command.args(arguments.split_whitespace()).arg(address);
        let output = command.output().context("cannot start ping")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        parse(&text).with_context(|| {
            format!("ping {arguments} {address}: {text}{}", String::from_utf8_lossy(&output.stderr))
        })
    }

    /// Waits until `address` answers.
    pub fn wait_ping(&self, address: &str, limit: Duration) -> Result<()> {
        try_until(&format!("ping {address} from {}", self.namespace.name()), limit, || {
            self.namespace.exec(&format!("ping -q -c 1 -W 1 {address}"))
        })?;
        Ok(())
    }

    /// A UDP socket inside, on all addresses; port 0 chooses one.
    pub fn udp(&self, port: u16) -> Result<UdpSocket> {
        let socket = self.namespace.enter(move || UdpSocket::bind(("0.0.0.0", port)))??;
        socket.set_broadcast(true)?;
        Ok(socket)
    }

    /// The hardware address of its interface.
    pub fn mac(&self) -> Result<String> {
        let text = self.namespace.exec("cat /sys/class/net/ethwe/address")?;
        Ok(text.trim().to_owned())
    }
}

/// Reads the summary at the end of ping's output.
fn parse(text: &str) -> Option<Ping> {
    let summary = text.lines().find(|line| line.contains("packets transmitted"))?;
    let number = |what: &str| -> Option<u32> {
        let part = summary.split(", ").find(|part| part.contains(what))?;
        part.trim_start_matches('+').split(' ').next()?.parse().ok()
    };
    let round_trip_ms = text.lines().find(|line| line.starts_with("rtt")).and_then(|line| {
        let mut values = line.split(" = ").nth(1)?.split('/');
        Some((values.next()?.parse().ok()?, values.next()?.parse().ok()?))
    });
    Some(Ping {
        sent: number("transmitted")?,
        received: number("received")?,
        duplicates: number("duplicates").unwrap_or(0),
        round_trip_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_ping_is_read() {
        let text = "PING 10.0.0.1\n\n--- 10.0.0.1 ping statistics ---\n\
            3 packets transmitted, 2 received, +1 duplicates, 33% packet loss, time 2ms\n\
            rtt min/avg/max/mdev = 0.030/0.045/0.050/0.010 ms\n";
        let expected =
            Ping { sent: 3, received: 2, duplicates: 1, round_trip_ms: Some((0.030, 0.045)) };
        assert_eq!(parse(text), Some(expected));
    }

    #[test]
    fn no_reply_at_all_is_a_result_too() {
        let text = "--- x ping statistics ---\n3 packets transmitted, 0 received, 100% packet loss, time 2ms\n";
        let expected = Ping { sent: 3, received: 0, duplicates: 0, round_trip_ms: None };
        assert_eq!(parse(text), Some(expected));
    }
}
