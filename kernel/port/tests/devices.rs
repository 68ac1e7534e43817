//! Ports on real devices, in a network namespace per test. These tests need root.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::io;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use weave_core::switch::{Frame, Inject};
use weave_core::wire::{Checksum, complete_checksum};
use weave_port::{Capture, More, PacketPort, Port, TapPort};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test in a network namespace of its own.
fn isolated(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            test();
        });
        thread.join().unwrap();
    });
}

fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until the kernel has noticed that a device is up: before, it drops frames.
fn wait_until_up(name: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !ip(&format!("link show {name}")).contains("state UP") {
        assert!(Instant::now() < deadline, "{name} does not come up");
    }
}

/// Creates a veth pair that carries only what the tests send.
fn veth_pair() {
    ip("link add near type veth peer name far");
    for end in ["near", "far"] {
        let quiet = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
        std::fs::write(quiet, "1").unwrap();
        ip(&format!("link set {end} up"));
    }
    wait_until_up("near");
    wait_until_up("far");
}

fn packet_port(name: &str) -> PacketPort {
    PacketPort::open(name, 1 << 20).unwrap()
}

/// Returns the next frame for which `wanted` holds, with a complete checksum, or the error of the
/// port.
fn next(
    capture: &mut dyn Capture,
    patience: Duration,
    mut wanted: impl FnMut(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + patience;
    let mut found = None;
    loop {
        capture.capture(&mut |frame| {
            let mut bytes = frame.bytes.to_vec();
            if let Some(request) = frame.checksum {
                complete_checksum(&mut bytes, request.start.into(), request.offset.into()).unwrap();
            }
            if found.is_none() && wanted(&bytes) {
                found = Some(bytes);
            }
        })?;
        let left = deadline.saturating_duration_since(Instant::now());
        if found.is_some() || left.is_zero() {
            return Ok(found);
        }
        let left = PollTimeout::try_from(left).unwrap();
        poll(&mut [PollFd::new(capture.readiness(), PollFlags::POLLIN)], left)?;
    }
}

fn frame(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &kind[..], payload].concat()
}

fn inject(injector: &mut dyn Inject, frame: &[u8]) {
    injector.inject(Frame::plain(frame));
    injector.flush();
}

#[test]
fn packet_sockets_carry_frames_as_they_are() {
    isolated(|| {
        veth_pair();
        let (mut near, mut far) = (packet_port("near"), packet_port("far"));
        let (mut from_near, mut from_far) = (near.injector().unwrap(), far.injector().unwrap());
        let (mut near_capture, mut far_capture) = (near.capture().unwrap(), far.capture().unwrap());
        let shortest = frame([0x88, 0xb5], &[]);
        let longest = frame([0x88, 0xb5], &[7; 1500]);
        // One frame with an outer and an inner tag (IEEE 802.1ad), one with an ordinary tag.
        let tagged = frame([0x81, 0], &[&[0x20, 5, 0x88, 0xb5], &[1; 60][..]].concat());
        let twice = frame([0x88, 0xa8], &[&[0, 9, 0x81, 0, 0, 5, 8, 0], &[2; 60][..]].concat());
        for bytes in [&shortest, &longest, &tagged, &twice] {
            inject(&mut *from_near, bytes);
            let there = next(&mut *far_capture, PATIENCE, |_| true).unwrap();
            assert_eq!(there.as_ref(), Some(bytes));
            inject(&mut *from_far, bytes);
            let back = next(&mut *near_capture, PATIENCE, |_| true).unwrap();
            assert_eq!(back.as_ref(), Some(bytes), "and nothing that was injected here");
        }
        let counters = near.counters().list();
        let count = |name| counters.iter().find(|c| c.name == name).unwrap().value;
        assert_eq!((count("captured"), count("injected")), (4, 4));
        let bytes = [&shortest, &longest, &tagged, &twice].map(|frame| frame.len() as u64);
        assert_eq!(count("captured_bytes"), bytes.iter().sum::<u64>(), "{counters:?}");
        assert!(counters.iter().all(|c| !c.name.contains("drop") || c.value == 0));
    });
}

#[test]
fn packet_sockets_take_batches_in_order() {
    isolated(|| {
        veth_pair();
        let (near, mut far) = (packet_port("near"), packet_port("far"));
        let mut capture = far.capture().unwrap();
        let mut injector = near.injector().unwrap();
        for number in 0..200_u16 {
            let frame = frame([0x88, 0xb5], &number.to_be_bytes());
            injector.inject(Frame::plain(&frame));
        }
        injector.flush();
        let mut expected = 0..200_u16;
        let last = next(&mut *capture, PATIENCE, |bytes| {
            assert_eq!(bytes[14..], expected.next().unwrap().to_be_bytes());
            bytes[14..] == 199_u16.to_be_bytes()
        });
        assert!(last.unwrap().is_some());
    });
}

#[test]
fn packet_sockets_count_overruns() {
    isolated(|| {
        veth_pair();
        let near = packet_port("near");
        let mut far = PacketPort::open("far", 1 << 16).unwrap();
        let mut capture = far.capture().unwrap();
        let mut injector = near.injector().unwrap();
        let frame = frame([0x88, 0xb5], &[1; 1400]);
        for _ in 0..500 {
            injector.inject(Frame::plain(&frame));
        }
        injector.flush();
        let count = |name| far.counters().list().iter().find(|c| c.name == name).unwrap().value;
        let sent = near.counters().list().iter().find(|c| c.name == "injected").unwrap().value;
        while capture.capture(&mut |_| {}).unwrap() == More::Likely {}
        // There is more than one batch: the counter is read at the end of the burst.
        assert!(count("captured") > 32 && count("dropped_overrun") > 0);
        assert_eq!(count("captured") + count("dropped_overrun"), sent);
    });
}

#[test]
fn packet_sockets_hand_over_unfinished_checksums() {
    isolated(|| {
        veth_pair();
        ip("addr add 10.1.0.1/24 dev near");
        ip("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev near");
        let mut far = packet_port("far");
        let mut capture = far.capture().unwrap();
        let socket = UdpSocket::bind("10.1.0.1:1000").unwrap();
        socket.send_to(b"not summed yet", "10.1.0.2:2000").unwrap();
        let is_udp = |bytes: &[u8]| bytes[12..14] == [8, 0] && bytes[23] == 17;
        let frame = next(&mut *capture, PATIENCE, is_udp).unwrap().unwrap();
        let addresses = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into();
        let length = u16::try_from(frame.len() - 34).unwrap();
        let mut sum = Checksum::pseudo_ipv4(addresses(26), addresses(30), 17, length);
        sum.add(&frame[34..]);
        assert_ne!(frame[40..42], [0, 0]);
        assert_eq!(sum.finish(), 0);
    });
}

#[test]
fn packet_sockets_survive_a_device_going_down_and_report_its_removal() {
    isolated(|| {
        veth_pair();
        let (near, mut far) = (packet_port("near"), packet_port("far"));
        let mut capture = far.capture().unwrap();
        let mut injector = near.injector().unwrap();
        ip("link set far down");
        assert_eq!(next(&mut *capture, Duration::ZERO, |_| true).unwrap(), None);
        inject(&mut *injector, &frame([0x88, 0xb5], &[1; 60]));
        ip("link set far up");
        wait_until_up("near");
        wait_until_up("far");
        assert_eq!(next(&mut *capture, Duration::ZERO, |_| true).unwrap(), None);
        let bytes = frame([0x88, 0xb5], &[2; 60]);
        inject(&mut *injector, &bytes);
        assert_eq!(next(&mut *capture, PATIENCE, |_| true).unwrap(), Some(bytes));

        ip("link del far");
        assert!(next(&mut *capture, PATIENCE, |_| true).is_err());
        // There is no device: the failure is counted.
        inject(&mut *injector, &frame([0x88, 0xb5], &[3; 60]));
        assert!(near.counters().list().iter().any(|c| c.name == "inject_errors" && c.value > 0));
        assert!(PacketPort::open("far", 0).is_err());
    });
}

/// Creates a TAP device with the address 10.1.0.1 and a neighbour at 10.1.0.2.
fn tap_port(queues: usize) -> TapPort {
    let port = TapPort::open("tap7", queues).unwrap();
    std::fs::write("/proc/sys/net/ipv6/conf/tap7/disable_ipv6", "1").unwrap();
    ip("link set tap7 address 02:00:00:00:00:01 up");
    ip("addr add 10.1.0.1/24 dev tap7");
    ip("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev tap7");
    port
}

#[test]
fn tap_devices_carry_frames_both_ways() {
    isolated(|| {
        let mut port = tap_port(1);
        let mut capture = port.capture().unwrap();
        let mut injector = port.injector().unwrap();
        assert!(port.capture().is_err(), "one queue has one thread");
        let socket = UdpSocket::bind("10.1.0.1:1000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"there", "10.1.0.2:2000").unwrap();
        let is_udp = |bytes: &[u8]| bytes[12..14] == [8, 0] && bytes[23] == 17;
        let mut frame = next(&mut *capture, PATIENCE, is_udp).unwrap().unwrap();
        assert_eq!(frame[42..], *b"there");

        turn_round(&mut frame);
        inject(&mut *injector, &frame);
        let mut buffer = [0; 100];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"there"[..], "10.1.0.2:2000".parse().unwrap()));
    });
}

#[test]
fn tap_devices_count_overruns() {
    isolated(|| {
        let mut port = tap_port(1);
        let mut capture = port.capture().unwrap();
        ip("link set tap7 txqueuelen 10");
        let socket = UdpSocket::bind("10.1.0.1:1000").unwrap();
        for _ in 0..100 {
            // The kernel may report a drop as an error.
            let _ = socket.send_to(b"there", "10.1.0.2:2000");
        }
        while capture.capture(&mut |_| {}).unwrap() == More::Likely {}
        let count = |name| port.counters().list().iter().find(|c| c.name == name).unwrap().value;
        assert!(count("dropped_overrun") > 0, "{:?}", port.counters().list());
        assert_eq!(count("captured") + count("dropped_overrun"), 100);
    });
}

/// Swaps addresses and ports of a UDP packet: a sum does not depend on the order of its terms.
fn turn_round(frame: &mut [u8]) {
    let (there, back) = ((0..6, 26..30, 34..36), (6..12, 30..34, 36..38));
    for (a, b) in [(there.0, back.0), (there.1, back.1), (there.2, back.2)] {
        let first = frame[a.clone()].to_vec();
        frame.copy_within(b.clone(), a.start);
        frame[b].copy_from_slice(&first);
    }
}

#[test]
fn a_flow_stays_with_the_queue_of_its_other_direction() {
    isolated(|| {
        let mut port = tap_port(3);
        assert_eq!(port.queues(), 3);
        let mut queues: Vec<_> =
            (0..3).map(|_| (port.capture().unwrap(), port.injector().unwrap())).collect();
        assert!(port.capture().is_err());
        let is_udp = |bytes: &[u8]| bytes[12..14] == [8, 0] && bytes[23] == 17;
        let socket = UdpSocket::bind("10.1.0.1:1000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"there", "10.1.0.2:2000").unwrap();
        let at_once = |queues: &mut Vec<(Box<dyn Capture>, _)>, index: usize| {
            next(&mut *queues[index].0, Duration::ZERO, is_udp).unwrap()
        };
        let first = (0..3).find_map(|index| at_once(&mut queues, index));
        let mut back = first.expect("it went to one of the queues");
        turn_round(&mut back);
        for index in [2, 0, 1] {
            inject(&mut *queues[index].1, &back);
            assert_eq!(socket.recv_from(&mut [0; 100]).unwrap().0, 5);
            socket.send_to(b"again", "10.1.0.2:2000").unwrap();
            assert!(at_once(&mut queues, index).is_some(), "queue {index}");
        }
    });
}

#[test]
fn a_device_created_with_one_queue_keeps_it() {
    isolated(|| {
        ip("tuntap add dev tap7 mode tap");
        assert_eq!(tap_port(3).queues(), 1);
    });
}

#[test]
fn removal_of_a_tap_device_is_reported() {
    isolated(|| {
        let mut port = tap_port(1);
        let mut capture = port.capture().unwrap();
        assert_eq!(next(&mut *capture, Duration::ZERO, |_| false).unwrap(), None);
        ip("link del tap7");
        assert!(next(&mut *capture, PATIENCE, |_| true).is_err());
        inject(&mut *port.injector().unwrap(), &frame([0x88, 0xb5], &[3; 60]));
        let counters = port.counters().list();
        assert!(counters.iter().any(|c| c.name == "inject_errors" && c.value == 1));
    });
}

#[test]
fn names_that_no_device_can_have_are_refused() {
    isolated(|| {
        for name in ["", "sixteen-or-more-", "tap%d", "a\0b"] {
            assert!(TapPort::open(name, 1).is_err(), "{name:?}");
        }
        assert!(TapPort::open("lo", 1).is_err());
    });
}
