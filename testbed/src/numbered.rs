//! Datagrams with numbers, by which every loss and every duplicate shows.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::{Container, eventually};

/// Between two datagrams: a gap shows as precisely.
const INTERVAL: Duration = Duration::from_millis(2);
/// After the last datagram none comes any more that waited somewhere for so long.
const QUIET: Duration = Duration::from_secs(2);

/// Datagrams that one container sends to another all the time.
pub struct Numbered {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<Result<u64>>,
    receiver: JoinHandle<Result<Arrivals>>,
}

#[derive(Default)]
struct Arrivals {
    numbers: BTreeSet<u64>,
    duplicates: u64,
    longest_gap: Duration,
}

/// What became of all datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// How many were sent.
    pub sent: u64,
    /// How many of them did not arrive.
    pub lost: u64,
    /// How often one arrived again.
    pub duplicates: u64,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
}

impl Numbered {
    /// Starts sending to this address and port of the other container.
    pub fn start(from: &Container, to: &Container, address: &str, port: u16) -> Result<Self> {
        let (outbound, inbound) = (from.udp(0)?, to.udp(port)?);
        outbound.connect((address, port))?;
        inbound.set_read_timeout(Some(QUIET))?;
        let stop = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || send(&outbound, &stopped));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&arrived));
        let receiver = thread::spawn(move || receive(&inbound, &stopped, &count));
        Ok(Self { stop, arrived, sender, receiver })
    }

    /// Waits until so many more have arrived.
    pub fn wait_more(&self, count: u64, limit: Duration) -> Result<()> {
        let enough = self.arrived.load(Ordering::Relaxed) + count;
        eventually(&format!("{count} more datagrams"), limit, || {
            self.arrived.load(Ordering::Relaxed) >= enough
        })
    }

    /// Stops sending, and counts.
    pub fn end(self) -> Result<Delivery> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().map_err(|_| anyhow!("the sender panicked"))?;
        let arrivals = self.receiver.join().map_err(|_| anyhow!("the receiver panicked"))?;
        let (sent, arrivals) = (sent.context("sending")?, arrivals.context("receiving")?);
        let Arrivals { numbers, duplicates, longest_gap } = arrivals;
        Ok(Delivery { sent, lost: sent - numbers.len() as u64, duplicates, longest_gap })
    }
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let mut sent: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        match socket.send(&sent.to_be_bytes()) {
            Ok(_) => sent += 1,
            // The answer to an earlier one.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
        sleep(INTERVAL);
    }
    Ok(sent)
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> Result<Arrivals> {
    let mut arrivals = Arrivals::default();
    let mut last: Option<Instant> = None;
    let mut number = [0; 8];
    loop {
        match socket.recv(&mut number) {
            Ok(_) => {
                let now = Instant::now();
                let gap = last.replace(now).map_or(Duration::ZERO, |last| now - last);
                arrivals.longest_gap = arrivals.longest_gap.max(gap);
                if !arrivals.numbers.insert(u64::from_be_bytes(number)) {
                    arrivals.duplicates += 1;
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(arrivals);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}
