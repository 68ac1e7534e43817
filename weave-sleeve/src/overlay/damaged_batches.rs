//! Two links over a path that damages GSO batches, in virtual time.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weave_core::mesh::{LinkRequest, SessionKey};
use weave_core::switch::{Envelope, Forwarded, Waker, WorkerId};

use super::*;
use crate::fixtures::{link_request, super_frame_of};
use crate::sys::udp::{self, GsoBatch, ReceivedBatch};

const WORKER: WorkerId = WorkerId::new(0).expect("zero is below the limit");

/// The largest datagram that the path carries: the MTU of Ethernet.
const LONGEST: usize = 1472;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    Whole,
    /// Each datagram that shares a batch is changed.
    DamagesTrains,
    /// Every other datagram is lost.
    LosesHalf,
}

struct Side {
    sleeve: Sleeve,
    receiver: Receiver,
    link: SleeveLink,
    frames: u64,
}

struct Bench {
    sides: [Side; 2],
    middle: UdpSocket,
    milliseconds: Arc<AtomicU64>,
    path: Path,
    passed: u64,
    messages: BTreeSet<u8>,
}

impl Bench {
    /// Creates two established links whose MTU is known.
    fn new(capabilities: &Capabilities) -> Self {
        let middle = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp::enable_gro(middle.as_fd()).unwrap();
        let milliseconds = Arc::new(AtomicU64::new(0));
        let sides = [0, 1].map(|index| {
            let time = milliseconds.clone();
            let now = move || Duration::from_millis(time.load(Ordering::Relaxed));
            let clock = Clock::new(move || Instant::since_origin(now()));
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let sleeve = Sleeve::bind(any, 1, capabilities.clone(), clock.clone()).unwrap();
            let (local, remote) = (sleeve.local_address(), middle.local_addr().unwrap());
            let request = LinkRequest {
                session_key: Some(SessionKey([3; 32])),
                remote_features: capabilities.features(),
                ..link_request(index == 0, local, remote)
            };
            let forwarder = SleeveForwarder::new(
                &request,
                Waker::new(|| {}),
                capabilities,
                sleeve.sockets.clone(),
                clock,
            );
            let link =
                SleeveLink { forwarder: Arc::new(forwarder), registry: sleeve.registry.clone() };
            Side { receiver: sleeve.receivers().remove(0), sleeve, link, frames: 0 }
        });
        let (path, messages) = (Path::Whole, BTreeSet::new());
        let mut bench = Self { sides, middle, milliseconds, path, passed: 0, messages };
        for side in bench.sides.iter_mut().rev() {
            side.link.confirm(Instant::ORIGIN);
        }
        bench.settle();
        let now = bench.now();
        for side in &bench.sides {
            side.link.forwarder.control(now, |machine| machine.handle_too_big(now, LONGEST + 28));
        }
        bench.settle();
        assert!(bench.sides.iter().all(|side| side.link.status().mtu.is_some()));
        bench
    }

    fn now(&self) -> Instant {
        Instant::since_origin(Duration::from_millis(self.milliseconds.load(Ordering::Relaxed)))
    }

    /// Sends super-frames from the first side to the second each second.
    fn run(&mut self, seconds: usize) {
        let whole = super_frame_of(1, 2, &[7; 60_000], 1360);
        for _ in 0..seconds {
            self.milliseconds.fetch_add(1000, Ordering::Relaxed);
            let now = self.now();
            for side in &mut self.sides {
                // A timer may set another timer.
                for _ in 0..2 {
                    if side.link.poll_timeout().is_some_and(|at| at <= now) {
                        side.link.handle_timeout(now);
                    }
                }
            }
            let forwarder = self.sides[0].link.forwarder.clone();
            for _ in 0..3 {
                let (source, destination) = (forwarder.own, forwarder.remote);
                let frame = whole.frame();
                let envelope = Envelope { source, destination, frame, broadcast: false, relays: 0 };
                assert_eq!(forwarder.forward(WORKER, envelope), Forwarded::Accepted);
                forwarder.flush(WORKER);
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        while self.carry() {
            for side in &mut self.sides {
                let Side { receiver, frames, .. } = side;
                receiver.receive(|_, _| *frames += 1);
            }
        }
    }

    /// Carries pending datagrams and messages, and returns `false` if there were none.
    fn carry(&mut self) -> bool {
        let mut busy = false;
        for index in [0, 1] {
            while let Some(event) = self.sides[index].link.poll_event() {
                busy = true;
                if let LinkEvent::Control { message, data } = event {
                    self.messages.insert(message);
                    let now = self.now();
                    self.sides[1 - index].link.handle_control(now, message, &data);
                }
            }
        }
        let mut slots = vec![0; 32 << 16];
        let mut arrived = [ReceivedBatch::default(); 32];
        let Ok(count) = udp::receive(self.middle.as_fd(), &mut slots, &mut arrived) else {
            return busy;
        };
        for (bytes, ReceivedBatch { length, segment, from }) in
            slots.chunks_mut(1 << 16).zip(&arrived[..count])
        {
            self.pass(&mut bytes[..*length], *segment, from.unwrap());
        }
        true
    }

    /// Passes a batch on as one.
    fn pass(&mut self, bytes: &mut [u8], segment: usize, from: SocketAddr) {
        let index = usize::from(from == self.sides[0].sleeve.local_address());
        let SocketAddr::V4(to) = self.sides[index].sleeve.local_address() else { panic!("IPv4") };
        if segment > LONGEST {
            return;
        }
        let count = bytes.len().div_ceil(segment);
        let socket = self.middle.as_fd();
        if self.path != Path::LosesHalf {
            if self.path == Path::DamagesTrains && count > 1 {
                bytes.chunks_mut(segment).for_each(|datagram| datagram[20] ^= 1);
            }
            let batch =
                GsoBatch { bytes: 0..bytes.len(), count, segment: u16::try_from(segment).unwrap() };
            assert_eq!(udp::send(socket, None, to, bytes, &[batch]).unwrap(), 1);
            return;
        }
        for datagram in bytes.chunks(segment) {
            self.passed += 1;
            if self.passed.is_multiple_of(2) {
                self.middle.send_to(datagram, to).unwrap();
            }
        }
    }

    fn count(&self, side: usize, name: &str) -> u64 {
        let counters = self.sides[side].link.status().counters;
        counters.iter().find(|counter| counter.key() == name).unwrap().value
    }

    fn offload(&self, side: usize) -> String {
        let attributes = self.sides[side].link.status().attributes;
        attributes.into_iter().find(|(name, _)| *name == "offload").unwrap().1
    }
}

#[test]
fn gso_is_disabled_on_a_path_that_damages_batches_and_retried() {
    let mut bench = Bench::new(&Capabilities::default());
    bench.run(15);
    assert_eq!(bench.offload(0), "gso,gro");
    assert_eq!(bench.sides[1].frames, 3 * 15, "joined whole");
    assert!(bench.count(0, "tx_trains.32-64") >= 3 * 15);
    assert_eq!(bench.count(0, "tx_trains.32-64"), bench.count(1, "rx_trains.32-64"));

    bench.path = Path::DamagesTrains;
    bench.run(15);
    assert_eq!(bench.offload(0), "gso,gro,trains-off-for-100%-loss");
    assert_eq!(bench.offload(1), "gso,gro", "the other direction is another matter");
    assert_eq!(bench.count(0, "tx_trains_off"), 1);
    let forged = bench.count(1, "rx_dropped_forged");
    assert!(forged > 0 && forged == bench.count(1, "rx_forged_in_trains"));

    let before = bench.sides[1].frames;
    bench.run(20);
    assert!(bench.sides[1].frames >= before + 3 * 20, "they arrive one by one");
    assert_eq!(bench.count(1, "rx_dropped_forged"), forged);
    // It is retried after a minute, for some seconds, and then not for two minutes.
    bench.run(60);
    assert_eq!(bench.count(0, "tx_trains_off"), 2);

    bench.path = Path::Whole;
    bench.run(130);
    assert_eq!(bench.offload(0), "gso,gro");
    assert_eq!(bench.count(0, "tx_trains_off"), 2);
}

#[test]
fn gso_stays_enabled_on_a_path_that_loses_single_datagrams_too() {
    let mut bench = Bench::new(&Capabilities::default());
    bench.path = Path::LosesHalf;
    bench.run(100);
    assert_eq!(bench.offload(0), "gso,gro");
    assert_eq!(bench.count(0, "tx_trains_off"), 1, "one trial");
}

#[test]
fn routers_without_counts_get_no_requests() {
    let mut bench = Bench::new(&Capabilities::Legacy);
    bench.path = Path::DamagesTrains;
    bench.run(60);
    assert!(bench.count(0, "tx_datagrams_in_trains") > 0);
    assert!(bench.messages.iter().all(|message| (1..=3).contains(message)));
    assert_eq!((bench.count(0, "tx_trains_off"), bench.offload(0)), (0, "gso,gro".to_owned()));
}
