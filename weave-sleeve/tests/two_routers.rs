//! Frames between two routers over loopback, and the attacks of nodes on the path.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{PATIENCE, Pair, Router, UID, eventually, frame, ipv4, key, peer, super_frame};
use weave_core::mesh::PeerName;
use weave_core::switch::Frame;
use weave_sleeve::cipher::native::Suite;
use weave_sleeve::native::Capabilities;
use weave_sleeve::port::{Faults, FaultyPort, virtio};

/// Builds a plain datagram with one record.
fn datagram(sender: PeerName, source: PeerName, destination: PeerName, frame: &[u8]) -> Vec<u8> {
    let mut datagram = [sender.to_bytes(), source.to_bytes(), destination.to_bytes()].concat();
    datagram.extend(u16::try_from(frame.len()).unwrap().to_be_bytes());
    datagram.extend(frame);
    datagram
}

fn heartbeat(uid: u64) -> Vec<u8> {
    let mut frame = vec![0; 14];
    frame.extend(uid.to_be_bytes());
    frame
}

/// Opens a socket that belongs to neither router.
fn unknown_sender() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn frames_cross(pair: &Pair, sealed: bool) {
    let [a, b] = &pair.routers;

    // No station is known yet: the frame is flooded, and its source learned.
    a.host.send(&frame(1, 2, b"hello"));
    assert_eq!(b.receive().unwrap(), frame(1, 2, b"hello"));
    b.host.send(&frame(2, 1, b"hello yourself"));
    assert_eq!(a.receive().unwrap(), frame(2, 1, b"hello yourself"));
    for packet in [
        ipv4(1, 2, true, b"unfragmented"),
        ipv4(1, 2, true, &[7; 1400]),
        ipv4(1, 2, false, &[8; 1400]),
        // Loopback carries this without fragmentation, or the kernel fragments it.
        ipv4(1, 2, false, &[9; 60_000]),
        frame(1, 0xff, &[3; 46]),
    ] {
        a.host.send(&packet);
        assert!(b.receive().unwrap() == packet);
    }
    assert!(a.is_quiet() && b.is_quiet());
    assert_eq!(a.counter(&*pair.wires[0].links[0], "tx_frames"), 6);
    assert_eq!(b.counter(&*pair.wires[0].links[1], "rx_frames"), 6);
    let status = pair.wires[0].links[0].status();
    assert_eq!(status.encrypted, sealed);
    assert!(status.counters.iter().all(|c| !c.name.contains("drop") || c.value == 0));
}

#[test]
fn frames_cross_in_clear() {
    frames_cross(&Pair::established(None), false);
    frames_cross(&Pair::native(None), false);
}

#[test]
fn frames_cross_sealed() {
    frames_cross(&Pair::established(Some(&key())), true);
    frames_cross(&Pair::native(Some(&key())), true);
}

/// Returns the format and the cipher in the status of a link.
fn attributes(pair: &Pair, index: usize) -> Vec<String> {
    let wanted = |(name, _): &(&str, String)| ["format", "cipher"].contains(name);
    pair.wires[0].links[index]
        .status()
        .attributes
        .into_iter()
        .filter(wanted)
        .map(|(_, v)| v)
        .collect()
}

#[test]
fn each_pair_uses_the_best_common_format() {
    let aes = Capabilities::Native { ciphers: vec![Suite::Aes128Gcm] };
    let chacha = Capabilities::Native { ciphers: vec![Suite::ChaCha20Poly1305] };
    let both = Capabilities::Native { ciphers: vec![Suite::ChaCha20Poly1305, Suite::Aes128Gcm] };
    let legacy = &["legacy", "xsalsa20poly1305"][..];
    for (capabilities, expected) in [
        ([Capabilities::Legacy, both.clone()], legacy),
        ([both.clone(), Capabilities::Legacy], legacy),
        ([aes.clone(), chacha.clone()], legacy),
        ([aes.clone(), both.clone()], &["native", "aes128gcm"]),
        ([both, aes], &["native", "aes128gcm"]),
        ([chacha.clone(), chacha], &["native", "chacha20poly1305"]),
    ] {
        let mut pair = Pair::with(capabilities, Some(&key()), None);
        pair.start();
        assert_eq!(attributes(&pair, 0), expected);
        assert_eq!(attributes(&pair, 1), expected);
        frames_cross(&pair, true);
    }
}

#[test]
fn super_frames_cross_as_one() {
    for key in [None, Some(key())] {
        let pair = Pair::native(key.as_ref());
        let [a, b] = &pair.routers;
        a.host.send(&frame(1, 2, b""));
        b.host.send(&frame(2, 1, b""));
        assert!(b.receive().is_some() && a.receive().is_some());
        // Loopback carries it as a single GSO batch.
        let whole = super_frame(1, 2, &[7; 30_000]);
        assert!(a.host.send_frame(whole.frame()));
        let mut received = Vec::new();
        assert!(b.host.receive_with_header(PATIENCE, &mut received));
        let frame = virtio::frame(&received).unwrap();
        assert!(frame.bytes == whole.bytes);
        assert_eq!(frame.checksum, Some(whole.checksum));
        assert_eq!(frame.segmentation, Some(whole.segmentation));
        assert_eq!(a.counter(&*pair.wires[0].links[0], "tx_super_frames"), 1);
        assert_eq!(b.counter(&*pair.wires[0].links[1], "rx_super_frames"), 1);
        // A frame with an unfinished checksum.
        let lone = super_frame(2, 1, &[7; 300]);
        assert!(b.host.send_frame(Frame { segmentation: None, ..lone.frame() }));
        assert!(a.host.receive_with_header(PATIENCE, &mut received));
        let frame = virtio::frame(&received).unwrap();
        assert!(frame.bytes == lone.bytes);
        assert_eq!((frame.checksum, frame.segmentation), (Some(lone.checksum), None));
    }
}

#[test]
fn many_small_frames_share_datagrams_and_keep_their_order() {
    let pair = Pair::established(Some(&key()));
    let [a, b] = &pair.routers;
    a.host.send(&frame(1, 2, b""));
    b.host.send(&frame(2, 1, b""));
    assert!(b.receive().is_some() && a.receive().is_some());
    let count = 500_u32;
    for number in 0..count {
        assert!(a.host.send(&ipv4(1, 2, true, &number.to_be_bytes())));
    }
    for number in 0..count {
        assert_eq!(b.receive().unwrap(), ipv4(1, 2, true, &number.to_be_bytes()));
    }
}

#[test]
fn a_port_with_faults_does_no_harm() {
    let mut pair = Pair::new(None, None);
    let faults =
        Faults { drop: 100, duplicate: 100, reorder: 100, corrupt: 100, truncate: 200, seed: 11 };
    pair.routers[0].start(|port| FaultyPort::new(port, faults));
    pair.routers[1].start(|port| FaultyPort::new(port, Faults { seed: 12, ..faults }));
    pair.confirm();
    let [a, b] = &pair.routers;
    for number in 0..300_u32 {
        a.host.send(&ipv4(1, 2, number % 2 == 0, &[number.to_be_bytes(); 50].concat()));
        b.host.send(&frame(2, 1, &number.to_be_bytes()));
    }
    for crossed in 0..100 {
        assert!(b.receive().is_some() && a.receive().is_some(), "{crossed}");
    }
    assert_eq!(pair.wires[0].failed, [None, None]);
}

#[test]
fn a_removed_device_ends_the_thread_with_an_error() {
    let pair = Pair::established(None);
    pair.routers[0].host.unplug();
    let told = pair.routers[0].gone.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told, "entity not found");
    assert!(pair.routers[0].gone.try_recv().is_err(), "the other thread goes on");
}

#[test]
fn without_a_confirmed_link_nothing_is_received() {
    let mut router = Router::new(0xa1, Capabilities::Legacy, std::time::Instant::now());
    router.start(|port| port);
    let unknown_sender = unknown_sender();
    let address = router.sleeve.local_address();
    for bytes in [&[][..], &[1; 5], &[2; 6], &[3; 1000]] {
        unknown_sender.send_to(bytes, address).unwrap();
    }
    let dropped = || {
        let [short, unknown_sender, ..] = router.sleeve.counters().list();
        [(short.name, short.value), (unknown_sender.name, unknown_sender.value)]
    };
    let expected = [("rx_dropped_short", 2), ("rx_dropped_unknown_sender", 2)];
    assert!(eventually(|| dropped() == expected));
    assert!(router.is_quiet());
}

#[test]
fn malformed_datagrams_of_a_neighbour_are_counted_and_close_nothing() {
    let mut pair = Pair::established(None);
    let (from, to) = (pair.routers[0].name, pair.routers[1].name);
    let address = pair.routers[1].sleeve.local_address();
    // In clear, its address is all there is to a neighbour.
    let neighbour = unknown_sender();
    let good = datagram(from, from, to, &frame(1, 2, b"first"));
    let cases: [(&str, Vec<u8>); 4] = [
        ("rx_dropped_malformed", [&good[..], &[0; 13]].concat()),
        ("rx_dropped_malformed", [&good[..], &good[6..20], &[0; 3]].concat()),
        ("rx_dropped_misdirected", datagram(from, peer(0xbad), to, &[0; 100])),
        ("rx_dropped_misdirected", datagram(from, from, peer(0xbad), &[0; 100])),
    ];
    for (counter, bytes) in cases {
        let before = pair.routers[1].counter(&*pair.wires[0].links[1], counter);
        neighbour.send_to(&datagram(from, from, to, &heartbeat(UID.0)), address).unwrap();
        neighbour.send_to(&bytes, address).unwrap();
        let counted =
            |pair: &Pair| pair.routers[1].counter(&*pair.wires[0].links[1], counter) == before + 1;
        assert!(pair.run_until(counted), "{counter}");
    }
    // The record before the error was delivered.
    assert_eq!(pair.routers[1].receive().unwrap(), frame(1, 2, b"first"));
    assert_eq!(pair.wires[0].failed, [None, None]);
}

#[test]
fn sealed_links_reject_senders_without_the_key() {
    let pair = Pair::established(Some(&key()));
    let [a, b] = &pair.routers;
    let unknown_sender = unknown_sender();
    for length in [6, 13, 14, 29, 30, 31, 62, 1400, 60_000] {
        let mut bytes = a.name.to_bytes().to_vec();
        bytes.resize(length, 0xa5);
        unknown_sender.send_to(&bytes, b.sleeve.local_address()).unwrap();
    }
    // In clear, as if there were no key.
    let clear = datagram(a.name, a.name, b.name, &frame(1, 2, b"clear"));
    unknown_sender.send_to(&clear, b.sleeve.local_address()).unwrap();
    assert!(eventually(|| {
        b.counter(&*pair.wires[0].links[1], "rx_dropped_malformed") == 2
            && b.counter(&*pair.wires[0].links[1], "rx_dropped_forged") == 8
    }));
    assert!(b.is_quiet());
    a.host.send(&frame(1, 2, b"sealed"));
    assert_eq!(b.receive().unwrap(), frame(1, 2, b"sealed"));
}

#[test]
fn each_reason_for_rejection_has_a_counter() {
    let pair = Pair::native(Some(&key()));
    let [a, b] = &pair.routers;
    let unknown_sender = unknown_sender();
    // Of the current epoch, and of one without a key.
    for (epoch, count) in [(0, 2), (0x40, 3)] {
        let header = [&[3, epoch][..], &a.name.to_bytes(), &[0xff; 4]].concat();
        let bytes = [&header[..], &[0xa5; 40]].concat();
        for _ in 0..count {
            unknown_sender.send_to(&bytes, b.sleeve.local_address()).unwrap();
        }
    }
    let count = |name| b.counter(&*pair.wires[0].links[1], name);
    assert!(eventually(|| count("rx_dropped_epoch") == 3));
    assert_eq!((count("rx_dropped_forged"), count("rx_dropped_replayed")), (2, 0));
}

#[test]
fn only_a_heartbeat_of_this_connection_changes_the_address() {
    let pair = Pair::established(None);
    let (a, b) = (pair.routers[0].name, pair.routers[1].name);
    let address = pair.routers[1].sleeve.local_address();
    let moved = unknown_sender();
    // An ordinary frame and a wrong uid change nothing, and are not believed.
    moved.send_to(&datagram(a, a, b, &frame(1, 2, b"x")), address).unwrap();
    moved.send_to(&datagram(a, a, b, &heartbeat(UID.0 + 1)), address).unwrap();
    moved.send_to(&datagram(a, a, b, &frame(1, 2, b"y")), address).unwrap();
    let stray = || pair.routers[1].counter(&*pair.wires[0].links[1], "rx_dropped_address");
    assert!(eventually(|| stray() == 2));
    assert!(pair.routers[1].is_quiet());
    pair.routers[1].host.send(&frame(2, 1, b"to the old address"));
    assert!(pair.routers[0].receive().is_some());

    moved.send_to(&datagram(a, a, b, &heartbeat(UID.0)), address).unwrap();
    moved.send_to(&datagram(a, a, b, &frame(1, 2, b"z")), address).unwrap();
    assert_eq!(pair.routers[1].receive().unwrap(), frame(1, 2, b"z"));
    pair.routers[1].host.send(&frame(2, 1, b"to the new address"));
    let mut buffer = [0; 2000];
    let (length, from) = moved.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..length], datagram(b, b, a, &frame(2, 1, b"to the new address")));
    assert_eq!(from, address);
}

/// A node on the path between two encrypted routers.
struct Middle {
    socket: UdpSocket,
    ends: [SocketAddr; 2],
}

impl Middle {
    /// Receives the next datagram and returns its destination and its bytes.
    fn take(&self) -> (SocketAddr, Vec<u8>) {
        let mut buffer = vec![0; 65_536];
        let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
        buffer.truncate(length);
        let to = if from == self.ends[0] { self.ends[1] } else { self.ends[0] };
        (to, buffer)
    }
}

#[test]
fn replayed_and_changed_datagrams_are_rejected() {
    counts_once(Capabilities::Legacy);
}

#[test]
fn replayed_and_changed_datagrams_are_rejected_in_the_native_format() {
    counts_once(Capabilities::default());
}

fn counts_once(capabilities: Capabilities) {
    let socket = unknown_sender();
    let via = Some(socket.local_addr().unwrap());
    let mut pair = Pair::with([capabilities.clone(), capabilities], Some(&key()), via);
    let ends = [0, 1].map(|index: usize| pair.routers[index].sleeve.local_address());
    let middle = Middle { socket, ends };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut old: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (to, bytes) = middle.take();
                let send = |bytes: &[u8]| middle.socket.send_to(bytes, to).map(drop).unwrap_or(());
                // Changed, truncated, intact, repeated, reflected to its sender, and an older one.
                let mut changed = bytes.clone();
                let place = old.len() * 7 % changed.len();
                changed[place] ^= 1 << (old.len() % 8);
                send(&changed);
                send(&bytes[..bytes.len() - 1]);
                send(&bytes);
                send(&bytes);
                let back = if to == ends[0] { ends[1] } else { ends[0] };
                let mut reflected = bytes.clone();
                let name = if back == ends[0] { peer(0xa2) } else { peer(0xa1) };
                let at = usize::from(reflected[0] & 1) * 2;
                reflected[at..at + 6].copy_from_slice(&name.to_bytes());
                middle.socket.send_to(&reflected, back).map(drop).unwrap_or(());
                if let Some((to, bytes)) = old.get(old.len() / 2) {
                    middle.socket.send_to(bytes, *to).map(drop).unwrap_or(());
                }
                if bytes.len() < 2000 {
                    old.push((to, bytes));
                }
            }
        });
        pair.start();
        let [a, b] = &pair.routers;
        for number in 0..100_u32 {
            let there = ipv4(1, 2, true, &number.to_be_bytes());
            let back = ipv4(2, 1, true, &number.to_be_bytes());
            a.host.send(&there);
            assert_eq!(b.receive().unwrap(), there);
            b.host.send(&back);
            assert_eq!(a.receive().unwrap(), back);
        }
        assert!(a.is_quiet() && b.is_quiet(), "nothing twice");
        for (router, link) in pair.routers.iter().zip(&pair.wires[0].links) {
            assert!(router.counter(&**link, "rx_dropped_replayed") > 100);
            assert!(router.counter(&**link, "rx_dropped_forged") > 150);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // A datagram wakes the thread, so that it sees the flag.
        middle.socket.send_to(&[0; 10], middle.socket.local_addr().unwrap()).unwrap();
    });
    assert_eq!(pair.wires[0].failed, [None, None]);
}
