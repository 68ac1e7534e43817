//! Datagrams come in (spec sleeve.md, section 3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError, Weak};

use weave_core::mesh::PeerName;
use weave_core::switch::{Arrival, Frame};

use crate::carrier::Carrier;
use crate::clock::Clock;
use crate::datagram::{self, Record};
use crate::encapsulation::{Opened, Unopened};
use crate::link::is_special;
use crate::native::{self, Form};
use crate::registry::{Links, Registry};
use crate::sys::udp::Arrived;
use crate::udp::UdpSockets;
use weave_port::offload::{Piece, Rejoiner, checksum_request};
use weave_port::{Counter, More};

/// Datagrams, or trains of them, before a look at anything else.
const BATCH: usize = 32;

/// Most of them in one system call while trains are long: a train is read again when its turn
/// comes, and should not have left the cache by then.
const LONG_AT_ONCE: usize = 2;

/// A train is long from so many bytes on.
const LONG: usize = 16 << 10;

/// Room for the largest datagram or train. Not a multiple of a page, so that the beginnings of the slots
/// do not all want the same place in the cache.
const SLOT: usize = (1 << 16) + 640;

/// What the socket of all links counts: its system calls, and datagrams that belong to no link.
#[derive(Debug, Default)]
pub struct ReceiverCounters {
    calls: Counter,
    short: Counter,
    unknown_sender: Counter,
    errors: Counter,
    /// The kernel counts what it drops there.
    sockets: Weak<UdpSockets>,
}

impl ReceiverCounters {
    pub(crate) fn of(sockets: &Arc<UdpSockets>) -> Self {
        Self { sockets: Arc::downgrade(sockets), ..Self::default() }
    }

    /// By name; the names never change.
    pub fn list(&self) -> [(&'static str, u64); 5] {
        let dropped = self.sockets.upgrade().map_or(0, |sockets| sockets.dropped());
        [
            ("rx_dropped_short", self.short.get()),
            ("rx_dropped_unknown_sender", self.unknown_sender.get()),
            ("rx_errors", self.errors.get()),
            // Those that brought at least one datagram.
            ("rx_calls", self.calls.get()),
            ("rx_dropped_by_kernel", dropped),
        ]
    }
}

/// Takes in the datagrams of all links.
#[derive(Debug)]
pub struct Receiver {
    sockets: Arc<UdpSockets>,
    /// Which of the sockets is its own.
    thread: usize,
    registry: Arc<Registry>,
    strangers: Arc<ReceiverCounters>,
    clock: Clock,
    buffer: Box<[u8]>,
    received: Box<[Arrived; BATCH]>,
    /// How many are asked for by the next call.
    at_once: usize,
    rejoiner: Rejoiner<Arrival>,
}

impl Receiver {
    pub(crate) fn new(
        sockets: Arc<UdpSockets>,
        thread: usize,
        registry: Arc<Registry>,
        strangers: Arc<ReceiverCounters>,
        clock: Clock,
    ) -> Self {
        let buffer = vec![0; SLOT * BATCH].into();
        let received = Box::new([Arrived::default(); BATCH]);
        let rejoiner = Rejoiner::new();
        let at_once = BATCH;
        Self { sockets, thread, registry, strangers, clock, buffer, received, at_once, rejoiner }
    }

    /// Readable when [`Self::receive`] has something to do.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.sockets.readiness(self.thread)
    }

    /// Hands over the frames of the datagrams at hand, up to a batch. Never waits. Special frames
    /// are dealt with here.
    pub fn receive(&mut self, mut each: impl FnMut(Arrival, Frame<'_>)) -> More {
        let links = self.registry.links();
        let mut each = |arrival: Arrival, frame: Frame<'_>| {
            if frame.segmentation.is_some()
                && let Some(carrier) = links.of(arrival.neighbour)
            {
                carrier.received.super_frames.add(1);
            }
            each(arrival, frame);
        };
        let mut left = BATCH;
        let more = loop {
            let asked = self.at_once.min(left);
            let count = self.take(asked, &links, &mut each);
            left -= count;
            if count < asked {
                break More::No;
            }
            if left == 0 {
                break More::Likely;
            }
        };
        self.rejoiner.flush(&mut each);
        more
    }

    /// The same by one system call; returns how many datagrams and trains came, at most `asked`.
    fn take(
        &mut self,
        asked: usize,
        links: &Links,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) -> usize {
        let Self { sockets, thread, strangers, clock, buffer, received, rejoiner, .. } = self;
        let (buffer, received) = (&mut buffer[..asked * SLOT], &mut received[..asked]);
        let count = match sockets.receive(*thread, buffer, received) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(error) => {
                // A socket reports what went wrong with an earlier datagram; nothing of it
                // concerns the next ones.
                tracing::debug!(%error, "receiving from the UDP socket");
                strangers.errors.add(1);
                return 0;
            }
        };
        strangers.calls.add(1);
        for (slot, arrived) in buffer.chunks_exact_mut(SLOT).zip(&received[..count]) {
            let Arrived { length, segment, from: Some(from) } = *arrived else { continue };
            if length == 0 {
                strangers.short.add(1);
            }
            let segment = segment.max(1);
            let count = length.div_ceil(segment);
            let mut train = slot.get_mut(..length).unwrap_or_default();
            let mut known = false;
            while !train.is_empty() {
                // As a rule all of it: a neighbour has an address of its own.
                let sender = sender(train.get(..segment).unwrap_or(train));
                let of_it = train.chunks(segment).take_while(|it| self::sender(it) == sender);
                let of_it = of_it.map(<[u8]>::len).sum();
                let (datagrams, others) = std::mem::take(&mut train).split_at_mut(of_it);
                train = others;
                let number = datagrams.len().div_ceil(segment);
                let Some(sender) = sender else {
                    strangers.short.add(number);
                    continue;
                };
                let Some(carrier) = links.of(sender) else {
                    strangers.unknown_sender.add(number);
                    continue;
                };
                if !std::mem::replace(&mut known, true) {
                    carrier.received.trains.add(count);
                }
                let alone = count == 1;
                let mut taker = Taker { carrier, clock, from, alone, taken: Taken::default() };
                let mut windows = carrier.windows.lock().unwrap_or_else(PoisonError::into_inner);
                carrier.encapsulation.open_train(&mut windows, datagrams, segment, |opened| {
                    taker.take_apart(opened, rejoiner, each);
                });
                taker.count();
            }
        }
        if received[..count].iter().any(|arrived| arrived.length >= LONG) {
            self.at_once = LONG_AT_ONCE;
        } else if count == asked {
            // Short ones, and more of them.
            self.at_once = BATCH;
        }
        count
    }
}

/// The sender of a datagram of either format, if it is long enough to have one.
fn sender(datagram: &[u8]) -> Option<PeerName> {
    native::sender(datagram).or_else(|| datagram::sender(datagram).ok())
}

/// Takes the datagrams of one link apart.
struct Taker<'c> {
    carrier: &'c Carrier,
    clock: &'c Clock,
    from: SocketAddr,
    /// Whether a datagram came without others.
    alone: bool,
    taken: Taken,
}

/// What was taken and is not counted yet: once for a train, since threads share the counters.
#[derive(Default)]
struct Taken {
    datagrams: usize,
    frames: usize,
    bytes: usize,
}

impl Taker<'_> {
    /// Hands over the frames of a datagram.
    fn take_apart(
        &mut self,
        opened: Result<Opened<'_>, Unopened>,
        rejoiner: &mut Rejoiner<Arrival>,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) {
        let Self { carrier, clock, alone, .. } = *self;
        let counters = &carrier.received;
        let opened = match opened {
            Ok(opened) => opened,
            Err(Unopened::Forged) => {
                counters.forged_in_trains.add(usize::from(!alone));
                return counters.forged.add(1);
            }
            Err(Unopened::Replayed) => return counters.replayed.add(1),
            Err(Unopened::Epoch) => return counters.epoch.add(1),
            Err(Unopened::TooShort) => return counters.malformed.add(1),
            Err(Unopened::TooManyForged) => {
                counters.forged.add(1);
                let now = clock.now();
                return carrier.control_and_wake(now, |machine| machine.handle_too_many_forged());
            }
        };
        let whole = match opened {
            Opened::Legacy(records) => self.legacy(records, each),
            Opened::Native(records) => self.native(records, rejoiner, each),
        };
        if whole.is_none() {
            counters.malformed.add(1);
        }
        self.taken.datagrams += 1;
    }

    /// Counts what was taken so far.
    fn count(&mut self) {
        let Taken { datagrams, frames, bytes } = std::mem::take(&mut self.taken);
        let counters = &self.carrier.received;
        counters.datagrams.add(datagrams);
        counters.frames.add(frames);
        counters.bytes.add(bytes);
    }

    /// None if what is left is not a record.
    fn legacy(
        &mut self,
        records: datagram::Records<'_>,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) -> Option<()> {
        for record in records {
            let Record { source, destination, frame } = record.ok()?;
            if is_special(frame) {
                self.special(source, destination, frame);
            } else {
                each(self.arrival(source, destination, frame.len()), Frame::plain(frame));
            }
        }
        Some(())
    }

    /// As [`Self::legacy`].
    fn native(
        &mut self,
        records: native::Records<'_>,
        rejoiner: &mut Rejoiner<Arrival>,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) -> Option<()> {
        for record in records {
            let native::Record { source, destination, form, bytes } = record.ok()?;
            match form {
                Form::Piece { headers, size, offset } => {
                    let (headers, segment) = bytes.split_at_checked(headers.into())?;
                    let piece = Piece { headers, segment, size: size.get(), offset };
                    let arrival = self.arrival(source, destination, bytes.len());
                    rejoiner.push(arrival, piece, each).ok()?;
                }
                Form::Complete if is_special(bytes) => self.special(source, destination, bytes),
                Form::Complete | Form::Unfinished => {
                    let checksum = match form {
                        Form::Unfinished => Some(checksum_request(bytes)?),
                        _ => None,
                    };
                    // It must not overtake what came before it.
                    rejoiner.flush(each);
                    let arrival = self.arrival(source, destination, bytes.len());
                    each(arrival, Frame { checksum, ..Frame::plain(bytes) });
                }
            }
        }
        Some(())
    }

    fn arrival(&mut self, source: PeerName, destination: PeerName, length: usize) -> Arrival {
        self.taken.frames += 1;
        self.taken.bytes += length;
        Arrival { neighbour: self.carrier.remote, source, destination }
    }

    fn special(&mut self, source: PeerName, destination: PeerName, frame: &[u8]) {
        let Self { carrier, clock, from, .. } = *self;
        if source == carrier.remote && destination == carrier.own {
            // A neighbour that asks for the counts wants all that came before.
            self.count();
            let now = clock.now();
            carrier.control_and_wake(now, |machine| machine.handle_special(now, from, frame));
            // Behind that, since all of the datagram is counted behind it.
            carrier.received.special.add(1);
        } else {
            carrier.received.misdirected.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use weave_core::mesh::{ConnectionId, ConnectionUid, LinkRequest};
    use weave_core::switch::{Envelope, Forwarded, Forwarder, Waker, WorkerId};
    use weave_core::time::Instant;

    use super::*;
    use crate::frames::super_frame_of;
    use crate::native::Abilities;

    const WORKER: WorkerId = WorkerId::new(0).expect("zero is below the limit");

    /// Two ends of a link in the native format, in clear.
    struct Setup {
        from: Carrier,
        to: Arc<Carrier>,
        receiver: Receiver,
    }

    fn setup() -> Setup {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = [(); 2].map(|()| Arc::new(UdpSockets::bind(any, 1).unwrap()));
        let names = [0xa1, 0xa2].map(|name| PeerName::from_u64(name).unwrap());
        let clock = Clock::new(|| Instant::ORIGIN);
        let abilities = Abilities::default();
        let [from, to] = [0, 1].map(|index| {
            let request = LinkRequest {
                id: ConnectionId(1),
                own: names[index],
                remote: names[1 - index],
                connection_uid: ConnectionUid(7),
                outbound: index == 0,
                local_address: sockets[index].address(),
                remote_address: sockets[1 - index].address(),
                session_key: None,
                overlays: None,
                remote_features: abilities.features(),
            };
            let (sockets, waker) = (sockets[index].clone(), Waker::new(|| {}));
            Carrier::new(&request, waker, &abilities, sockets, clock.clone())
        });
        let (to, registry) = (Arc::new(to), Arc::<Registry>::default());
        registry.insert(to.clone());
        let [_, sockets] = sockets;
        let receiver = Receiver::new(sockets, 0, registry, Arc::default(), clock);
        // Datagrams as an Ethernet path takes them.
        from.control(Instant::ORIGIN, |machine| machine.handle_too_big(Instant::ORIGIN, 1500));
        Setup { from, to, receiver }
    }

    impl Setup {
        fn send(&self, frame: Frame<'_>) {
            let (source, destination) = (self.from.own, self.from.remote);
            let envelope = Envelope { source, destination, frame, broadcast: false };
            assert_eq!(self.from.forward(WORKER, envelope), Forwarded::Taken);
        }

        fn calls(&self) -> u64 {
            self.receiver.strangers.calls.get()
        }
    }

    #[test]
    fn super_frames_are_whole_whatever_calls_their_trains_came_in() {
        let mut setup = setup();
        let whole = super_frame_of(1, 2, &[7; 64_000], 1360);
        let small = super_frame_of(1, 2, &[7; 100], 1360);
        for round in 0..3 {
            // Two trains each, and one that lets the others come in different calls.
            setup.send(small.frame());
            (0..5).for_each(|_| setup.send(whole.frame()));
            setup.from.flush(WORKER);
            let (mut frames, before) = (Vec::new(), setup.calls());
            while setup.receiver.receive(|_, frame| frames.push(frame.bytes.to_vec()))
                == More::Likely
            {}
            assert_eq!(frames.len(), 6, "round {round}");
            assert!(frames[1..].iter().all(|frame| *frame == whole.bytes));
            let calls = setup.calls() - before;
            assert!(if round == 0 { calls == 1 } else { calls > 3 }, "{calls} in round {round}");
        }
        assert_eq!(setup.to.received.super_frames.get(), 15);
        assert_eq!(setup.to.received.frames.get(), setup.from.sent.frames.get());
    }
}
