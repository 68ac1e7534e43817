//! `cargo xtask bench ipam`: addresses by HTTP from a router that keeps its state on the disk, of
//! its own space and of space that it has to ask another router for.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use weave_testbed::{Lab, RouterOptions, clean_up_on_signals};

use super::times::Times;
use crate::demo::release_binary;
use crate::tools::install_packages;
use crate::usage::Usage;

const USAGE: &str = "usage: cargo xtask bench ipam [--weave FILE] [--count ADDRESSES]";
const CONTROL: &str = "127.0.0.1:6784";
/// How many clients ask at the same time, beside one.
const AT_ONCE: usize = 20;
/// The second of the two gets the upper half of the range, and with it this many subnets of 256
/// addresses: each has to be asked for.
const SUBNETS: usize = 8 * 256;

/// Measures and prints a table.
pub fn bench(arguments: &[&str]) -> Result<()> {
    let (mut weave, mut count) = (None, 1000);
    for pair in arguments.chunks(2) {
        match pair {
            ["--weave", file] => weave = Some(Path::new(file).canonicalize().context(USAGE)?),
            ["--count", number] => {
                let number = number.parse().ok().filter(|number| (1..=SUBNETS).contains(number));
                count = number.ok_or_else(|| Usage(USAGE.to_owned()))?;
            }
            _ => return Err(Usage(USAGE.to_owned()).into()),
        }
    }
    clean_up_on_signals()?;
    install_packages()?;
    let weave = weave.map_or_else(release_binary, Ok)?;
    let lab = Lab::new(weave)?;
    let [h1, h2] = lab.hosts()?;
    let wire = lab.wire(&h1, &h2, 1500)?;
    let seeds = format!("--ipalloc-init=seed={},{}", h1.peer_name(), h2.peer_name());
    let options = RouterOptions::new().argument("--ipalloc-range=10.32.0.0/12").argument(&seeds);
    let _other = h2.router(options.clone())?;
    let router = h1.router(options.peer(wire.b()))?;
    router.wait_established(1, Duration::from_secs(60))?;

    println!("| | at once | per second | median | 99 % |");
    println!("|---|---:|---:|---:|---:|");
    let scratch = lab.directory().join("scratch");
    let disk = measure(1, count, |_| write_through(&scratch))?;
    print_row("4 KiB written through to the disk", 1, &disk);
    let from_client = |at_once: usize, path: fn(usize) -> String| {
        let work = move || measure(at_once, count, |number| post(&path(number)));
        h1.namespace.enter(work)?
    };
    let own = from_client(1, |number| format!("/ip/one{number}"))?;
    print_row("of its own space", 1, &own);
    let own = from_client(AT_ONCE, |number| format!("/ip/many{number}"))?;
    print_row("of its own space", AT_ONCE, &own);
    let asked = from_client(1, |number| {
        format!("/ip/asked{number}/10.{}.{}.0/24", 40 + number / 256, number % 256)
    })?;
    print_row("of space asked from a peer", 1, &asked);
    lab.finish()
}

/// How long each time took, and all together.
type Measured = (Times, Duration);

/// Does something `count` times, with a number of its own each, in so many threads.
fn measure(
    at_once: usize,
    count: usize,
    work: impl Fn(usize) -> Result<()> + Sync,
) -> Result<Measured> {
    let begin = Instant::now();
    let share = |first: usize| -> Result<Vec<Duration>> {
        let one = |number| {
            let start = Instant::now();
            work(number).map(|()| start.elapsed())
        };
        (first..count).step_by(at_once).map(one).collect()
    };
    let shares: Vec<_> = std::thread::scope(|scope| {
        let share = &share;
        let threads: Vec<_> = (0..at_once).map(|first| scope.spawn(move || share(first))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut times = Times::default();
    for share in shares {
        times.0.extend(share.map_err(|_| anyhow!("a thread panicked"))??);
    }
    Ok((times, begin.elapsed()))
}

/// Asks the router of this namespace for an address, on a connection of its own.
fn post(path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(CONTROL)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(format!("POST {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the HTTP header")?;
    ensure!(head.split(' ').nth(1) == Some("200") && body.starts_with("10."), "{path}: {answer}");
    Ok(())
}

fn write_through(path: &Path) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(&[1; 4096])?;
    Ok(file.sync_data()?)
}

fn print_row(what: &str, at_once: usize, (times, all): &Measured) {
    let count = times.0.len();
    println!(
        "| {what} ({count}) | {at_once} | {:.0} | {:.2} ms | {:.2} ms |",
        count as f64 / all.as_secs_f64(),
        times.per_cent(50),
        times.per_cent(99),
    );
}
