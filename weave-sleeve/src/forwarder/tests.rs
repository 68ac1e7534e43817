use std::net::{SocketAddr, UdpSocket};

use weave_core::mesh::{LinkRequest, SessionKey};
use weave_core::switch::{ChecksumRequest, Frame};
use weave_core::wire::Checksum;

use weave_core::wire::complete_checksum;

use super::*;
use crate::cipher::{Cipher, LegacyBox};
use crate::encapsulation::Opened;
use crate::fixtures::{link_request, super_frame_of};
use crate::native::Protection;

const WORKER: WorkerId = WorkerId::new(0).expect("zero is below the limit");

/// A link to a socket of the test.
struct Setup {
    forwarder: SleeveForwarder,
    neighbour: UdpSocket,
}

fn setup(session_key: Option<SessionKey>) -> Setup {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let neighbour = UdpSocket::bind(any).unwrap();
    neighbour.set_nonblocking(true).unwrap();
    let sockets = Arc::new(UdpSockets::bind(any, 1).unwrap());
    let remote = neighbour.local_addr().unwrap();
    let request = LinkRequest { session_key, ..link_request(true, sockets.address(), remote) };
    let clock = Clock::new(|| Instant::ORIGIN);
    let capabilities = Capabilities::default();
    Setup {
        forwarder: SleeveForwarder::new(&request, Waker::new(|| {}), &capabilities, sockets, clock),
        neighbour,
    }
}

impl Setup {
    fn forward(&self, frame: &[u8], broadcast: bool) -> Forwarded {
        let envelope = Envelope {
            source: self.forwarder.own,
            destination: self.forwarder.remote,
            frame: Frame::plain(frame),
            broadcast,
            relays: 0,
        };
        self.forwarder.forward(WORKER, envelope)
    }

    fn forward_marked(&self, frame: Frame<'_>) -> Forwarded {
        let (source, destination) = (self.forwarder.own, self.forwarder.remote);
        let envelope = Envelope { source, destination, frame, broadcast: false, relays: 0 };
        self.forwarder.forward(WORKER, envelope)
    }

    /// Returns what the neighbour receives after a flush, by datagram.
    fn received(&self) -> Vec<Vec<Vec<u8>>> {
        self.forwarder.flush(WORKER);
        let mut datagrams = Vec::new();
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = self.neighbour.recv(&mut buffer) {
            let mut windows = Windows::default();
            let theirs = match &self.forwarder.encapsulation {
                Encapsulation::Native(version, _) => {
                    Encapsulation::Native(*version, Protection::Plain)
                }
                Encapsulation::Legacy(Cipher::Plain) => Encapsulation::Legacy(Cipher::Plain),
                Encapsulation::Legacy(Cipher::Legacy(_)) => {
                    let legacy = LegacyBox::new(&SessionKey([1; 32]), false);
                    Encapsulation::Legacy(Cipher::Legacy(legacy))
                }
            };
            datagrams.push(match theirs.open(&mut windows, &mut buffer[..length]).unwrap() {
                Opened::Legacy(records) => {
                    records.map(|record| record.unwrap().frame.to_vec()).collect()
                }
                Opened::Native(records) => {
                    records.map(|record| record.unwrap().bytes.to_vec()).collect()
                }
            });
        }
        datagrams
    }

    /// Simulates a datagram refused by the kernel and a test acknowledged by the neighbour.
    fn discover(&self, path_mtu: usize) {
        let overhead = self.forwarder.encapsulation.overhead();
        let mtu = u16::try_from(path_mtu - overhead).unwrap().to_be_bytes();
        self.forwarder.control(Instant::ORIGIN, |machine| {
            machine.handle_too_big(Instant::ORIGIN, path_mtu);
        });
        assert_eq!(self.forwarder.verified_mtu(), None);
        self.forwarder.control(Instant::ORIGIN, |machine| {
            machine.handle_control(Instant::ORIGIN, 3, &mtu);
        });
        self.received();
    }
}

/// Builds an Ethernet frame with an IPv4 packet of this many bytes.
fn ipv4(length: u16, dont_fragment: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend(length.to_be_bytes());
    frame.extend([0, 1, if dont_fragment { 0x40 } else { 0 }, 0, 64, 17, 0, 0]);
    frame.extend([10, 32, 0, 1, 10, 32, 0, 2]);
    let checksum = Checksum::of(&frame[14..]).to_be_bytes();
    frame[24..26].copy_from_slice(&checksum);
    frame.extend((20..length).map(|n| n.to_be_bytes()[1]));
    frame
}

fn ipv6(length: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend((length - 40).to_be_bytes());
    frame.extend([59, 64]);
    frame.resize(14 + usize::from(length), 0);
    frame
}

#[test]
fn too_big_is_reported_for_frames_that_must_not_be_fragmented() {
    for (key, mtu) in [(None, 1438), (Some(SessionKey([1; 32])), 1414)] {
        let setup = setup(key);
        setup.discover(1500);
        assert_eq!(setup.forwarder.mtu(), Some(mtu));
        assert_eq!(setup.forwarder.verified_mtu(), Some(mtu));
        let length = u16::try_from(mtu).unwrap();
        assert_eq!(setup.forward(&ipv4(length, true), false), Forwarded::Accepted);
        assert_eq!(setup.received(), [[ipv4(length, true)]]);
        for frame in [ipv4(length + 1, true), ipv6(length + 1)] {
            assert_eq!(setup.forward(&frame, false), Forwarded::TooBig { mtu });
        }
        assert_eq!(setup.forward(&ipv4(1500, true), true), Forwarded::TooBig { mtu });
        assert!(setup.received().is_empty());
        // No IPv6 sender accepts a smaller MTU.
        setup.discover(1300);
        assert_eq!(setup.forward(&ipv6(1280), false), Forwarded::Accepted);
        assert_eq!(setup.received(), [[ipv6(1280)]]);
        let small = setup.forwarder.mtu().unwrap();
        assert!(small < 1280);
        assert_eq!(setup.forward(&ipv6(1281), false), Forwarded::TooBig { mtu: small });
        // Not all receivers of a broadcast may answer.
        assert_eq!(setup.forward(&ipv6(length + 1), true), Forwarded::Accepted);
        assert_eq!(setup.received(), [[ipv6(length + 1)]]);
    }
}

#[test]
fn other_frames_are_fragmented_here_or_by_the_kernel() {
    let setup = setup(None);
    setup.discover(1500);
    let big = ipv4(4000, false);
    assert_eq!(setup.forward(&big, false), Forwarded::Accepted);
    let pieces = setup.received().concat();
    assert_eq!(pieces.len(), 3);
    let mut payload = Vec::<u8>::new();
    for piece in &pieces {
        assert!(piece.len() <= 1438 + 14);
        let header = &piece[14..34];
        assert_eq!(Checksum::of(header), 0);
        let offset = usize::from(u16::from_be_bytes([header[6], header[7]]) & 0x1fff) * 8;
        assert_eq!(offset, payload.len());
        payload.extend(&piece[34..]);
    }
    assert_eq!(payload, big[34..]);

    // The neighbour has received the fragmentation test.
    setup.forwarder.control(Instant::ORIGIN, |m| m.handle_control(Instant::ORIGIN, 2, &[]));
    assert_eq!(setup.forward(&big, false), Forwarded::Accepted);
    assert_eq!(setup.received(), [[big.clone()]]);

    setup.forwarder.control(Instant::ORIGIN, |m| {
        m.handle_control(Instant::ORIGIN, 1, &[]); // tests again
    });
    setup.received();
    let mut cut_off = big;
    cut_off.truncate(2000);
    assert_eq!(setup.forward(&cut_off, false), Forwarded::Dropped);
}

#[test]
fn frames_are_refused_without_an_address_and_after_the_end() {
    let setup = setup(None);
    assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Accepted);
    setup.forwarder.close();
    assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Refused);
    assert!(setup.received().is_empty(), "what was waiting is forgotten");
    assert_eq!(setup.forwarder.sent.no_address.get(), 1);
}

#[test]
fn unfinished_checksums_are_completed() {
    let setup = setup(None);
    let bytes = ipv4(100, true);
    let checksum = Some(ChecksumRequest { start: 34, offset: 6 });
    let frame = Frame { checksum, ..Frame::plain(&bytes) };
    let mut finished = bytes.clone();
    complete_checksum(&mut finished, 34, 6).unwrap();
    assert_eq!(setup.forward_marked(frame), Forwarded::Accepted);
    assert_eq!(setup.received(), [[finished]]);

    let checksum = Some(ChecksumRequest { start: 34, offset: 600 });
    let frame = Frame { checksum, ..Frame::plain(&bytes) };
    assert_eq!(setup.forward_marked(frame), Forwarded::Dropped);
    assert_eq!(setup.forwarder.sent.malformed.get(), 1);
}

#[test]
fn super_frames_are_segmented_to_the_path_mtu() {
    for key in [None, Some(SessionKey([1; 32]))] {
        let setup = setup(key);
        let whole = super_frame_of(1, 2, &[7; 60_000], 1360);
        let segments = Segments::new(whole.frame()).unwrap();
        let expected: Vec<Vec<Vec<u8>>> = (0..segments.count())
            .map(|index| {
                let mut frame = vec![0; segments.frame_len(index)];
                segments.write(index, &mut frame);
                vec![frame]
            })
            .collect();
        setup.forwarder.published.max_payload.store(1472, Ordering::Relaxed);
        assert_eq!(setup.forward_marked(whole.frame()), Forwarded::Accepted);
        assert_eq!(setup.received(), expected);
        assert_eq!(setup.forwarder.sent.super_frames.get(), 1);

        setup.forwarder.published.mtu.store(1000, Ordering::Relaxed);
        assert_eq!(setup.forward_marked(whole.frame()), Forwarded::Accepted);
        let lengths: Vec<_> = setup.received().concat().iter().map(Vec::len).collect();
        assert!(lengths.iter().all(|length| *length <= 1014));
        assert_eq!(lengths.len(), 60_000_usize.div_ceil(1000 - 40));
    }
}

#[test]
fn workers_have_batches_of_their_own() {
    let setup = setup(None);
    let other = WorkerId::new(63).unwrap();
    let (source, destination) = (setup.forwarder.own, setup.forwarder.remote);
    let frame = ipv4(100, true);
    let frame = Frame::plain(&frame);
    let envelope = Envelope { source, destination, frame, broadcast: false, relays: 0 };
    assert_eq!(setup.forwarder.forward(WORKER, envelope), Forwarded::Accepted);
    assert_eq!(setup.forwarder.forward(other, envelope), Forwarded::Accepted);
    assert_eq!(setup.received().len(), 1);
    setup.forwarder.flush(other);
    assert_eq!(setup.received().len(), 1);
}

#[test]
fn a_lost_route_costs_frames_but_not_the_link() {
    let setup = setup(None);
    // The broadcast address needs a permission that this socket does not have.
    setup.forwarder.published.path.store(Some(Arc::new(Path {
        local: [127, 0, 0, 1].into(),
        remote: SocketAddr::from(([255, 255, 255, 255], 9)),
        gso: true,
    })));
    assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Accepted);
    assert!(setup.received().is_empty());
    assert_eq!(setup.forwarder.sent.unreachable.get(), 1);
    assert_eq!(setup.forwarder.poll_event(), None);
}
