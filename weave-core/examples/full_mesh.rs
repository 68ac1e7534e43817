//! How cheap is a mesh? Many routers in one process find each other through one of them over
//! loopback, until each is connected to every other and all know it; then they rest.
//!
//! Run with `cargo run --release -p weave-core --example full_mesh -- 100`. Prints wall time, CPU
//! time and memory. Each router has two descriptors for each of the others: `ulimit -n` must
//! allow for it.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weave_core::driver::{self, Clock, Handle, Settings};
use weave_core::mesh::{Config, PeerName, Report, Uid};
use weave_core::router::Router;
use weave_core::switch::{NullOverlay, Overlay, Switch};

const PORT: u16 = 26783;
/// What one tick of the CPU times in `/proc` is.
const TICK: Duration = Duration::from_millis(10);
const REST: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(count))
}

async fn run(count: u64) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let routers = (1..=count).map(|number| start(number, clock)).collect::<Result<Vec<_>, _>>()?;
    let seed = address(1).to_string();
    let began = Instant::now();
    for router in routers.get(1..).unwrap_or_default() {
        router.connect(vec![seed.clone()], false).await?.map_err(|_| "the seed is no target")?;
    }
    while !is_full(&routers).await? {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("{count} routers, full mesh after {:.1} s", began.elapsed().as_secs_f64());
    println!("CPU {:.2} s, {} MiB", cpu_time()?.as_secs_f64(), resident_mib()?);
    let before = cpu_time()?;
    tokio::time::sleep(REST).await;
    let used = cpu_time()?.saturating_sub(before);
    println!("at rest {:.4} cores", used.as_secs_f64() / REST.as_secs_f64());
    Ok(())
}

fn start(number: u64, clock: Clock) -> std::io::Result<Handle> {
    let name = PeerName::from_u64(number).unwrap_or_default();
    let mut config = Config::new(name, Uid(number));
    config.port = PORT;
    config.connection_limit = None;
    let switch = Arc::new(Switch::new(name, number));
    let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
    // Nothing is secret here. A real router takes its seed from the operating system.
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let router = Router::new(config, switch, overlays, seed, clock.now());
    let settings = Settings { listen: address(number), ..Settings::default() };
    driver::start(router, settings, clock)
}

/// Each router has an address of its own, as hosts have, and all the same port.
fn address(number: u64) -> SocketAddr {
    let host = Ipv4Addr::from_bits(0x7f01_0000 + u32::try_from(number).unwrap_or(0));
    SocketAddr::new(host.into(), PORT)
}

/// Whether every router knows every connection of every other, established. Asks one of them
/// first: asking all is not free.
async fn is_full(routers: &[Handle]) -> Result<bool, Box<dyn Error>> {
    for router in routers.iter().rev() {
        if !knows_all(&router.report().await?.mesh, routers.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn knows_all(report: &Report, count: usize) -> bool {
    report.peers.len() == count
        && report.peers.iter().all(|peer| {
            peer.connections.len() == count - 1 && peer.connections.iter().all(|c| c.established)
        })
}

/// User and system time of this process (proc(5), fields 14 and 15 of `stat`).
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

fn resident_mib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
