//! How long and how much it takes until a mesh knows itself.
//!
//! N routers in one process, each on a loopback address of its own, are told of the first one
//! only. The mesh has converged when every router knows that every other has an established
//! connection to all the rest. There is no data plane: links are established at once. Each N runs
//! in a process of its own, so that memory and processor time are its alone. The time on the wall,
//! and with it how often changing records are told, is worth something only on an idle machine.
//!
//! ```text
//! cargo bench -p weave-core --bench convergence                     N = 10, 30, 100
//! cargo bench -p weave-core --bench convergence -- --rest 60 100    and 60 s of rest afterwards, for N = 100
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weave_core::driver::{self, Handle, Settings, TokioClock};
use weave_core::mesh::{Config, PeerName, PeerReport, Uid};
use weave_core::router::{Report, Router};
use weave_core::switch::{NullOverlay, Overlay, Switch};

/// The same on every address: that is how peers guess each other's.
const PORT: u16 = 16_783;

/// Not converged after this long: give up.
const PATIENCE: Duration = Duration::from_secs(300);

/// The original's figures on a machine like this one.
const ORIGINAL: Measured = Measured {
    routers: 100,
    seconds: 104.0,
    processor: 201.0,
    megabytes: 670.0,
    gossip: None,
    rest: Some(0.42),
};

#[derive(Clone, Copy)]
struct Measured {
    routers: usize,
    /// Until convergence.
    seconds: f64,
    /// Processor seconds until convergence.
    processor: f64,
    /// Largest resident memory.
    megabytes: f64,
    /// Megabytes sent by all routers.
    gossip: Option<f64>,
    /// Processors in use while nothing happens.
    rest: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut counts, mut rest, mut child) = (Vec::new(), None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rest" => rest = Some(arguments.next().ok_or("--rest needs seconds")?.parse()?),
            "--child" => child = Some(arguments.next().ok_or("--child needs a number")?.parse()?),
            // What cargo says to every bench.
            "--bench" => {}
            count => counts.push(count.parse::<usize>()?),
        }
    }
    if let Some(count) = child {
        let Measured { seconds, processor, megabytes, gossip, rest, .. } =
            measure(count, rest.map(Duration::from_secs))?;
        let (gossip, rest) = (gossip.unwrap_or(f64::NAN), rest.unwrap_or(f64::NAN));
        writeln!(io::stdout(), "{seconds} {processor} {megabytes} {gossip} {rest}")?;
        return Ok(());
    }
    if counts.is_empty() {
        counts = vec![10, 30, 100];
    }
    let mut out = io::stdout();
    writeln!(out, "routers   wall s    CPU s   max MB  sent MB  CPUs at rest")?;
    for count in counts {
        let measured = run_child(count, rest)?;
        writeln!(out, "{}", row(&measured))?;
        if measured.routers == ORIGINAL.routers {
            writeln!(out, "{}  (original)", row(&ORIGINAL))?;
            writeln!(out, "{}", ratios(&measured))?;
        }
    }
    Ok(())
}

fn run_child(count: usize, rest: Option<u64>) -> Result<Measured, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--child").arg(count.to_string());
    if let Some(rest) = rest {
        command.arg("--rest").arg(rest.to_string());
    }
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the run with {count} routers failed").into());
    }
    let numbers: Result<Vec<f64>, _> =
        String::from_utf8(output.stdout)?.split_whitespace().map(str::parse).collect();
    let [seconds, processor, megabytes, gossip, rest] = numbers?[..] else {
        return Err("the child says something else".into());
    };
    let measured = |value: f64| (!value.is_nan()).then_some(value);
    let (gossip, rest) = (measured(gossip), measured(rest));
    Ok(Measured { routers: count, seconds, processor, megabytes, gossip, rest })
}

fn row(measured: &Measured) -> String {
    let Measured { routers, seconds, processor, megabytes, gossip, rest } = *measured;
    let optional = |value: Option<f64>, digits| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let (gossip, rest) = (optional(gossip, 1), optional(rest, 3));
    format!("{routers:7} {seconds:8.2} {processor:8.2} {megabytes:8.1} {gossip:>8} {rest:>13}")
}

fn ratios(measured: &Measured) -> String {
    let rest = match (ORIGINAL.rest, measured.rest) {
        (Some(original), Some(rest)) => format!("{:12.1}x", original / rest.max(1e-3)),
        _ => format!("{:>13}", "-"),
    };
    format!(
        "  ratio {:7.1}x {:7.1}x {:7.1}x {:>8} {rest}",
        ORIGINAL.seconds / measured.seconds,
        ORIGINAL.processor / measured.processor,
        ORIGINAL.megabytes / measured.megabytes,
        "-"
    )
}

/// Starts the routers on as many threads as there are processors, each with a runtime of its own.
fn measure(count: usize, rest: Option<Duration>) -> Result<Measured, Box<dyn Error>> {
    let started = Instant::now();
    let threads = std::thread::available_parallelism()?.get();
    let runtimes = (0..threads)
        .map(|_| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .collect::<Result<Vec<_>, _>>()?;
    let routers = (0..count)
        .map(|index| {
            let _entered = runtimes[index % threads].enter();
            start(index)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let [first, others @ ..] = &runtimes[..] else { return Err("no processors".into()) };
    std::thread::scope(|scope| {
        let (running, stopped) = tokio::sync::watch::channel(());
        for runtime in others {
            let mut stopped = stopped.clone();
            // Nothing is ever sent: what is waited for is that the sender is dropped.
            scope.spawn(move || runtime.block_on(async move { stopped.changed().await.is_err() }));
        }
        let measured = first.block_on(watch(&routers, started, rest));
        drop(running);
        measured
    })
}

async fn watch(
    routers: &[Handle],
    started: Instant,
    rest: Option<Duration>,
) -> Result<Measured, Box<dyn Error>> {
    let count = routers.len();
    for router in routers.iter().skip(1) {
        let target = address(0).to_string();
        router.connect(vec![target], false).await?.map_err(|errors| format!("{errors:?}"))?;
    }
    for router in routers {
        while !has_converged(&router.report().await?, count) {
            if started.elapsed() > PATIENCE {
                let mesh = router.report().await?.mesh;
                let complete = mesh.peers.iter().filter(|peer| is_complete(peer, count)).count();
                let error = format!(
                    "{} knows {} peers, {complete} of them complete",
                    mesh.name,
                    mesh.peers.len()
                );
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let (seconds, processor) = (started.elapsed().as_secs_f64(), processor_seconds()?);
    let mut sent = 0;
    for router in routers {
        sent += router.with(|router, _| router.mesh().report().counters.bytes_sent).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let gossip = Some(sent as f64 / 1e6);
    let mut at_rest = None;
    if let Some(rest) = rest {
        let before = processor_seconds()?;
        tokio::time::sleep(rest).await;
        at_rest = Some((processor_seconds()? - before) / rest.as_secs_f64());
    }
    let megabytes = status_kilobytes("VmHWM:")? / 1024.0;
    Ok(Measured { routers: count, seconds, processor, megabytes, gossip, rest: at_rest })
}

fn start(index: usize) -> Result<Handle, Box<dyn Error>> {
    let number = u64::try_from(index)? + 1;
    let name = PeerName::from_u64(0x0200_0000_0000 + number).ok_or("48 bits")?;
    let mut config = Config::new(name, Uid(number));
    config.port = PORT;
    let mut seed = [0x5e; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let clock = TokioClock::start();
    let overlays: Vec<Box<dyn Overlay>> = vec![Box::new(NullOverlay)];
    let switch = Arc::new(Switch::new(name, number));
    let router = Router::new(config, switch, overlays, seed, clock.now());
    let settings = Settings { listen: address(index), ..Settings::default() };
    Ok(driver::start(router, settings, clock)?)
}

fn address(index: usize) -> SocketAddr {
    let number = u32::try_from(index).unwrap_or(0) + 2;
    SocketAddr::from((Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 0x1_0000 + number), PORT))
}

fn has_converged(report: &Report, count: usize) -> bool {
    let peers = &report.mesh.peers;
    peers.len() == count && peers.iter().all(|peer| is_complete(peer, count))
}

fn is_complete(peer: &PeerReport, count: usize) -> bool {
    peer.connections.iter().filter(|connection| connection.established).count() == count - 1
}

/// User and system time of this process, in steps of 10 ms (proc(5), /proc/pid/stat).
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may contain anything.
    let (_, numbers) = stat.rsplit_once(')').ok_or("no name")?;
    let mut times = numbers.split_whitespace().skip(11).take(2);
    let mut ticks = || times.next().ok_or("too short")?.parse::<f64>().map_err(|e| e.to_string());
    Ok((ticks()? + ticks()?) / 100.0)
}

fn status_kilobytes(key: &str) -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(key)).ok_or("no such line")?;
    Ok(line.split_whitespace().nth(1).ok_or("no value")?.parse()?)
}
