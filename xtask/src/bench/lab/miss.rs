//! What a packet costs that the kernel's datapath has no flow for.
//!
//! ```text
//!  c1 ── station of its own ──▶ h1: miss, flow ═══▶ h2: miss, flow ──▶ c2
//!        t0                        t1: the kernel tells of the flow      t2: the frame is there
//! ```
//!
//! A station that nobody knows sends a frame to one that everybody knows: there is no flow for it
//! on either host. When it arrives, and when the first host's flow is there, is compared with a
//! second frame of that station.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use weave_netlink::{Protocol, Socket};
use weave_testbed::raw::RawPort;
use weave_testbed::{Container, Namespace, run};

use super::figure::median;

/// Stations. Their flows are fewer than any switch allows.
const STATIONS: u16 = 200;

/// Longer than any miss.
const LIMIT: Duration = Duration::from_secs(2);

/// An ethertype for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// Medians, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Misses {
    /// From sending the first frame to its arrival: two misses.
    pub first: f64,
    /// The same of the second frame: no miss.
    pub second: f64,
    /// From sending the first frame to the first host's flow.
    pub flow: f64,
}

/// Measures between containers whose hosts have a datapath each.
pub fn measure(host: &Namespace, [from, to]: [&Container; 2]) -> Result<Misses> {
    let flows = listen(host)?;
    let sender = RawPort::open(from)?;
    let mut receiver = RawPort::open(to)?;
    let destination = mac(&to.mac()?)?;
    let (mut firsts, mut seconds, mut installed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..STATIONS {
        let [high, low] = number.to_be_bytes();
        let station = [0x02, 0x5a, 0x17, 0x00, high, low];
        let frame = [&destination[..], &station, &ETHERTYPE, &[0; 46]].concat();
        let mut send = || -> Result<(Instant, Duration)> {
            let sent = Instant::now();
            sender.send(&frame)?;
            receiver.receive(LIMIT, |frame| frame.get(6..12) == Some(station.as_slice()))?;
            Ok((sent, sent.elapsed()))
        };
        let (sent, first) = send()?;
        let told = flow_of(&flows, station, sent + LIMIT)?;
        let (_, second) = send()?;
        firsts.push(milliseconds(first));
        seconds.push(milliseconds(second));
        installed.push(milliseconds(told.saturating_duration_since(sent)));
    }
    let median = |values| median(values).context("nothing was measured");
    Ok(Misses { first: median(firsts)?, second: median(seconds)?, flow: median(installed)? })
}

/// What the kernel tells of flows on a host, and when.
fn listen(host: &Namespace) -> Result<Receiver<(Instant, Vec<u8>)>> {
    let description = run("genl", &["ctrl", "get", "name", "ovs_flow"])?;
    let group = group(&description).with_context(|| format!("no group in {description}"))?;
    let (sender, receiver) = channel();
    let socket = host.enter(move || -> Result<Socket> {
        let socket = Socket::open(Protocol::Generic)?;
        socket.join(group)?;
        Ok(socket)
    })??;
    // Ends when nobody listens any more, at the next flow, or with the process.
    std::thread::Builder::new().name("flows".to_owned()).spawn(move || {
        let mut datagram = Vec::new();
        while socket.receive(&mut datagram).is_ok() {
            if sender.send((Instant::now(), datagram.clone())).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The number of the multicast group, from the output of genl.
fn group(description: &str) -> Option<u32> {
    let line = description.lines().find(|line| line.contains("name: ovs_flow"))?;
    let number = line.split("ID-0x").nth(1)?.split_whitespace().next()?;
    u32::from_str_radix(number, 16).ok()
}

/// When there was a flow for this station, whose address is nowhere else.
fn flow_of(
    flows: &Receiver<(Instant, Vec<u8>)>,
    station: [u8; 6],
    deadline: Instant,
) -> Result<Instant> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (when, datagram) = flows.recv_timeout(left).context("no flow was made")?;
        if datagram.windows(station.len()).any(|window| window == station) {
            return Ok(when);
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    bytes.try_into().map_err(|_| anyhow!("{text} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found() {
        let text = "\nName: ovs_flow\n\tID: 0x24  Version: 0x1  header size: 4  max attribs: 12\n\
                    \tcommands supported:\n\t\t#1:  ID-0x1\n\tmulticast groups:\n\t\t#1:  ID-0xd  name: ovs_flow\n";
        assert_eq!(group(text), Some(13));
        assert_eq!(group("Name: ovs_flow\n"), None);
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(mac("02:0a:00:00:00:ff").unwrap(), [2, 10, 0, 0, 0, 255]);
        assert!(mac("02:0a").is_err());
        assert!(mac("x").is_err());
    }
}
