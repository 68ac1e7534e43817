//! The minimal cost of a path through user space: the four system calls that a super-frame needs on
//! its way, with a thread on the core that made the bytes and on another one; then the minimal
//! forwarder, which does nothing else, between two containers, next to the router that
//! `WEAVE_ROUTER` names. Needs root; works in network namespaces of its own. docs/lab/limits.md
//! explains the output.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it found")]

mod floor;
mod forwarder;
mod sealed;

use std::hint::black_box;
use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};
use nix::unistd::{Pid, geteuid};
use weave_core::switch::{ChecksumRequest, Frame, Inject, Segmentation};
use weave_sleeve::port::{Capture, Port, TapPort};

/// The datagram of an Ethernet path, and as many as fit in a GSO batch.
const SEGMENT: u16 = 1472;
const GSO_BATCH: usize = 44 * SEGMENT as usize;

/// Batches made before they are read: what a stream has under way, and more than a second-level
/// cache holds of both copies.
const BURST: usize = 16;

const BURSTS: usize = 200;
const ROUNDS: usize = 5;

const HERE: &str = "10.1.0.1:2000";
const BEHIND_THE_TAP: &str = "10.1.0.2:2000";

/// Core seconds per GB.
#[derive(Clone, Copy, Default)]
struct Cost {
    making: f64,
    taking: f64,
}

fn main() {
    if !geteuid().is_root() {
        return eprintln!("not measured: limits needs root");
    }
    // A network namespace belongs to a thread.
    thread::spawn(calls).join().expect("all calls");
    floor::print(std::env::var_os("WEAVE_ROUTER").map(PathBuf::from).as_deref());
}

/// Measures each of the four calls alone.
fn calls() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root");
    ip("link set lo up");
    let mut tap = TapPort::open("tap7", 1).expect("a TAP device");
    ip("link set tap7 address 02:00:00:00:00:01 mtu 1500 up");
    ip("addr add 10.1.0.1/24 dev tap7");
    ip("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev tap7 nud permanent");
    let mut capture = tap.capture().expect("the first queue");
    let mut injector = tap.injector().expect("the device is there");

    println!("s/GB, medians of {ROUNDS}; in brackets the best and the worst\n");
    println!("| step | same core | another core |");
    println!("|---|---:|---:|");
    let cores = [(0, 0), (0, 1)];
    let copied = cores.map(|cores| rounds(|| copy(cores)));
    row("copy of 64 KiB in user space", &copied.map(|costs| figure(&costs, |cost| cost.taking)));
    let carried = cores.map(|cores| rounds(|| udp(cores)));
    let captured = cores.map(|cores| rounds(|| tap_read(cores, &mut *capture)));
    let frame = turned_frame(&mut *capture);
    let injected = cores.map(|cores| rounds(|| tap_write(cores, &frame, &mut *injector)));
    let steps = [
        ("read of the TAP", captured.map(|costs| figure(&costs, |cost| cost.taking))),
        (
            "send, UDP_SEGMENT, with all of the stack",
            carried.clone().map(|costs| figure(&costs, |cost| cost.making)),
        ),
        ("receive, UDP_GRO", carried.map(|costs| figure(&costs, |cost| cost.taking))),
        (
            "write to the TAP, with all of the stack",
            injected.map(|costs| figure(&costs, |cost| cost.making)),
        ),
    ];
    let mut sums = [0.0; 2];
    for (name, figures) in &steps {
        row(name, figures);
        for (sum, [median, ..]) in sums.iter_mut().zip(figures) {
            *sum += median;
        }
    }
    println!("| the four calls | {:.2} | {:.2} |", sums[0], sums[1]);
}

fn rounds(mut one: impl FnMut() -> Cost) -> Vec<Cost> {
    (0..ROUNDS).map(|_| one()).collect()
}

/// Returns median, best and worst.
fn figure(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> [f64; 3] {
    let mut all: Vec<_> = costs.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    [all[all.len() / 2], all[0], all[all.len() - 1]]
}

fn row(name: &str, [same, other]: &[[f64; 3]; 2]) {
    let cell = |[median, best, worst]: &[f64; 3]| format!("{median:.2} ({best:.2}-{worst:.2})");
    println!("| {name} | {} | {} |", cell(same), cell(other));
}

/// Lets one thread make a burst, then another one read it, and so on, and returns the cost of both.
fn in_turn(
    (making, taking): (usize, usize),
    make: impl FnMut() + Send,
    take: impl FnMut() + Send,
) -> Cost {
    let barrier = Barrier::new(2);
    let bytes = (GSO_BATCH * BURST * BURSTS) as f64;
    let turns = |core: usize, mine: bool, mut work: Box<dyn FnMut() + Send + '_>| {
        stay_on(core);
        let mut spent = Duration::ZERO;
        for _ in 0..BURSTS {
            for turn in [true, false] {
                if turn == mine {
                    let start = Instant::now();
                    work();
                    spent += start.elapsed();
                }
                barrier.wait();
            }
        }
        spent.as_secs_f64() / bytes * 1e9
    };
    thread::scope(|scope| {
        let turns = &turns;
        let producer = scope.spawn(move || turns(making, true, Box::new(make)));
        let consumer = scope.spawn(move || turns(taking, false, Box::new(take)));
        Cost { making: producer.join().expect("made"), taking: consumer.join().expect("taken") }
    })
}

/// Pins this thread to one core.
fn stay_on(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a machine with two cores");
    sched_setaffinity(Pid::from_raw(0), &cores).expect("a machine with two cores");
}

fn copy(cores: (usize, usize)) -> Cost {
    let from: Vec<_> = (0..BURST).map(|_| std::sync::Mutex::new(vec![0_u8; GSO_BATCH])).collect();
    let mut to = vec![0_u8; GSO_BATCH];
    let mut value = 0;
    in_turn(
        cores,
        || {
            value = u8::wrapping_add(value, 1);
            from.iter().for_each(|one| one.lock().expect("in turn").fill(value));
        },
        || {
            for one in &from {
                to.copy_from_slice(&one.lock().expect("in turn"));
                black_box(&mut to);
            }
        },
    )
}

fn udp(cores: (usize, usize)) -> Cost {
    let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:2000"));
    let (batch, mut buffer) = (vec![1; GSO_BATCH], vec![0; 1 << 16]);
    in_turn(
        cores,
        || (0..BURST).for_each(|_| send(&from, "127.0.0.1:2000", &batch)),
        || (0..BURST).for_each(|_| assert_eq!(receive(&to, &mut buffer), GSO_BATCH)),
    )
}

fn tap_read(cores: (usize, usize), capture: &mut dyn Capture) -> Cost {
    let from = socket(HERE);
    let batch = vec![1; GSO_BATCH];
    drain(capture);
    in_turn(
        cores,
        || (0..BURST).for_each(|_| send(&from, BEHIND_THE_TAP, &batch)),
        || {
            let mut bytes = 0;
            while bytes < GSO_BATCH * BURST {
                let taken = drain(capture);
                assert!(taken > 0, "the device keeps what was sent");
                bytes += taken;
            }
        },
    )
}

/// A super-frame from a device.
struct Captured {
    bytes: Vec<u8>,
    checksum: Option<ChecksumRequest>,
    segmentation: Option<Segmentation>,
}

fn tap_write(cores: (usize, usize), frame: &Captured, injector: &mut (dyn Inject + Send)) -> Cost {
    let to = socket(HERE);
    let mut buffer = vec![0; 1 << 16];
    let Captured { bytes, checksum, segmentation } = frame;
    let (checksum, segmentation) = (*checksum, *segmentation);
    in_turn(
        cores,
        || {
            for _ in 0..BURST {
                injector.inject(Frame { bytes, checksum, segmentation });
                injector.flush();
            }
        },
        || (0..BURST).for_each(|_| assert_eq!(receive(&to, &mut buffer), GSO_BATCH)),
    )
}

/// Returns a super-frame as if it came from behind the TAP device: sums do not depend on the order
/// of their terms.
fn turned_frame(capture: &mut dyn Capture) -> Captured {
    let from = socket(HERE);
    drain(capture);
    send(&from, BEHIND_THE_TAP, &vec![1; GSO_BATCH]);
    let mut found = None;
    let each = &mut |frame: Frame<'_>| {
        let Frame { bytes, checksum, segmentation } = frame;
        if segmentation.is_some() {
            found = Some(Captured { bytes: bytes.to_vec(), checksum, segmentation });
        }
    };
    capture.capture(each).expect("the device is there");
    let mut found = found.expect("a kernel that leaves the segmentation of UDP to us");
    for (at, length) in [(0, 6), (26, 4), (34, 2)] {
        let (a, b) = found.bytes[at..at + 2 * length].split_at_mut(length);
        a.swap_with_slice(b);
    }
    found
}

/// Reads everything, and returns the number of bytes in super-frames.
fn drain(capture: &mut dyn Capture) -> usize {
    let mut bytes = 0;
    let headers = 14 + 20 + 8;
    let each = &mut |frame: Frame<'_>| {
        if frame.segmentation.is_some() {
            bytes += frame.bytes.len() - headers;
        }
        black_box(frame.bytes);
    };
    capture.capture(each).expect("the device is there");
    bytes
}

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("an address of this namespace");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a duration");
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("root");
    setsockopt(&socket, sockopt::SndBufForce, &(16 << 20)).expect("root");
    setsockopt(&socket, sockopt::UdpGroSegment, &true).expect("Linux 5.0");
    socket
}

fn send(from: &UdpSocket, to: &str, batch: &[u8]) {
    let to: SocketAddrV4 = to.parse().expect("an address");
    let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
    let (bytes, to) = ([IoSlice::new(batch)], SockaddrIn::from(to));
    let sent = sendmsg(from.as_raw_fd(), &bytes, &segments, MsgFlags::empty(), Some(&to));
    assert_eq!(sent, Ok(GSO_BATCH));
}

fn receive(to: &UdpSocket, buffer: &mut [u8]) -> usize {
    to.recv(buffer).expect("a batch that was sent")
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split_whitespace()).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {line}");
}
