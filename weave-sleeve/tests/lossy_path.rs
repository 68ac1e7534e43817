//! Segments of super-frames on a path that loses, repeats and reorders datagrams.
//!
//! ```text
//!   a1 ===== middle ===== a2
//! ```
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use common::{PATIENCE, Pair, eventually, frame, super_frame};
use weave_core::switch::Frame;
use weave_core::wire::Checksum;
use weave_sleeve::native::{Capabilities, Form, Records};
use weave_sleeve::port::virtio;

/// Length of what precedes the records of a native datagram in clear.
const HEADER: usize = 8;
/// Length of the Ethernet, IPv4 and TCP headers.
const HEADERS: usize = 54;
const PAYLOAD: usize = 30_000;
const COUNT: u32 = 60;

/// Returns the payload of the super-frame of this number, without a period.
fn payload(number: u32) -> Vec<u8> {
    let words = u32::try_from(PAYLOAD / 4).unwrap();
    (0..words).flat_map(|word| (word * 7919 + number).to_be_bytes()).collect()
}

/// Returns the sequence number in the headers of a TCP packet.
fn sequence(headers: &[u8]) -> u32 {
    u32::from_be_bytes(*headers[38..].first_chunk().unwrap())
}

/// The part of a payload that one segment carried: sequence number and length.
type Segment = (u32, usize);

/// A node on the path that sends each record on as a datagram of its own, if at all.
struct Middle {
    socket: UdpSocket,
    ends: [SocketAddr; 2],
    faulty: AtomicBool,
    stop: AtomicBool,
    /// Number of super-frames seen.
    seen: AtomicU32,
    delivered: Mutex<Vec<Segment>>,
}

impl Middle {
    fn run(&self) {
        let (mut buffer, mut state, mut held) = (vec![0; 65_536], 1_u64, None);
        while !self.stop.load(Ordering::Relaxed) {
            let (length, from) = self.socket.recv_from(&mut buffer).unwrap();
            let to = self.ends[usize::from(from == self.ends[0])];
            let datagram = &buffer[..length];
            if !self.faulty.load(Ordering::Relaxed) || from != self.ends[0] {
                self.socket.send_to(datagram, to).unwrap();
                continue;
            }
            let (header, records) = datagram.split_at(HEADER);
            for record in Records::new(records).map(Result::unwrap) {
                let Form::Segment { headers, offset, .. } = record.form else { continue };
                let mut bytes = vec![0; HEADER + record.buffer_len()];
                bytes[..HEADER].copy_from_slice(header);
                record.emit(&mut bytes[HEADER..]).unwrap();
                let length = record.bytes.len() - usize::from(headers);
                let segment = (sequence(record.bytes) + u32::from(offset), length);
                let send = |(segment, bytes): &(Segment, Vec<u8>)| {
                    self.delivered.lock().unwrap().push(*segment);
                    self.socket.send_to(bytes, to).unwrap();
                };
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let piece = (segment, bytes);
                match (state >> 33) % 20 {
                    0 => {}
                    1 => [&piece; 2].into_iter().for_each(send),
                    2 if held.is_none() => held = Some(piece),
                    _ => {
                        send(&piece);
                        held.take().iter().for_each(send);
                    }
                }
            }
            self.seen.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns the segments of a frame as a device would get it, after checking them.
fn checked(received: &[u8]) -> Vec<Segment> {
    let Frame { bytes, segmentation, .. } = virtio::frame(received).unwrap();
    let (headers, content) = bytes.split_at(HEADERS);
    assert_eq!(Checksum::of(&headers[14..34]), 0);
    assert_eq!(usize::from(u16::from_be_bytes([headers[16], headers[17]])), bytes.len() - 14);
    let tcp_length = u16::try_from(bytes.len() - 34).unwrap().to_be_bytes();
    let pseudo_header = [&headers[26..34], &[0, 6], &tcp_length].concat();
    assert_eq!(headers[50..52], (!Checksum::of(&pseudo_header)).to_be_bytes());
    let size = segmentation.map_or(content.len(), |it| it.size.into());
    let first = sequence(headers);
    let starts = (0..content.len()).step_by(size);
    starts
        .zip(content.chunks(size))
        .map(|(start, part)| {
            let at = first + u32::try_from(start).unwrap();
            let number = at / u32::try_from(PAYLOAD).unwrap();
            let within = usize::try_from(at).unwrap() % PAYLOAD;
            assert!(payload(number)[within..].starts_with(part), "at {at}");
            (at, part.len())
        })
        .collect()
}

#[test]
fn every_segment_that_arrives_is_delivered_and_nothing_else() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let via = socket.local_addr().unwrap();
    let mut pair = Pair::with([Capabilities::default(), Capabilities::default()], None, Some(via));
    let middle = Middle {
        socket,
        ends: pair.routers.each_ref().map(|router| router.sleeve.local_address()),
        faulty: false.into(),
        stop: false.into(),
        seen: 0.into(),
        delivered: Mutex::default(),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| middle.run());
        pair.start();
        let [a, b] = &pair.routers;
        a.host.send(&frame(1, 2, b""));
        b.host.send(&frame(2, 1, b""));
        assert!(b.receive().is_some() && a.receive().is_some());

        middle.faulty.store(true, Ordering::Relaxed);
        for number in 0..COUNT {
            let mut whole = super_frame(1, 2, &payload(number));
            let start = number * u32::try_from(PAYLOAD).unwrap();
            whole.bytes[38..42].copy_from_slice(&start.to_be_bytes());
            assert!(a.host.send_frame(whole.frame()));
            assert!(eventually(|| middle.seen.load(Ordering::Relaxed) > number));
        }
        let mut delivered = middle.delivered.lock().unwrap().clone();
        let (mut received, mut frames, mut buffer) = (Vec::new(), 0, Vec::new());
        while received.len() < delivered.len() {
            assert!(b.host.receive_with_header(PATIENCE, &mut buffer), "{frames} frames came");
            received.extend(checked(&buffer));
            frames += 1;
        }
        assert!(b.is_quiet());
        delivered.sort_unstable();
        received.sort_unstable();
        assert_eq!(received, delivered);
        assert!(frames < delivered.len(), "nothing was joined");
        middle.stop.store(true, Ordering::Relaxed);
        // A datagram wakes the thread, so that it sees the flag.
        middle.socket.send_to(&[0; 10], via).unwrap();
    });
}
