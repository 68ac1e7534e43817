//! Receives datagrams (spec sleeve.md, section 3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError, Weak};

use weave_core::mesh::PeerName;
use weave_core::metric::{Counter, Reading};
use weave_core::switch::{Arrival, Frame};
use weave_port::More;
use weave_port::offload::{Reassembler, Segment, checksum_request};

use crate::datagram::{self, Record};
use crate::encapsulation::{OpenFailure, Opened};
use crate::forwarder::SleeveForwarder;
use crate::link::{is_heartbeat, is_special};
use crate::native::{self, Form};
use crate::registry::{Links, Registry};
use crate::sys::udp::ReceivedBatch;
use crate::udp::UdpSockets;
use weave_core::time::Clock;

/// Datagrams, or coalesced batches of them, per turn.
const BATCH: usize = 32;

/// Coalesced batches per system call while they are large: a batch is read again when its turn
/// comes, and should still be in the cache by then.
const LONG_AT_ONCE: usize = 2;

/// Size in bytes from which a batch is large.
const LONG: usize = 16 << 10;

/// Room for the largest datagram or batch. It is not a multiple of the page size, so that the
/// beginnings of the slots do not compete for the same cache sets.
const SLOT: usize = (1 << 16) + 640;

/// The counters of the socket of all links: system calls, and datagrams that belong to no link.
#[derive(Debug, Default)]
pub struct ReceiverCounters {
    calls: Counter,
    short: Counter,
    unknown_sender: Counter,
    errors: Counter,
    /// The kernel counts the datagrams that it drops there.
    sockets: Weak<UdpSockets>,
}

impl ReceiverCounters {
    pub(crate) fn of(sockets: &Arc<UdpSockets>) -> Self {
        Self { sockets: Arc::downgrade(sockets), ..Self::default() }
    }

    /// Returns all counters.
    pub fn list(&self) -> [Reading; 5] {
        let dropped = self.sockets.upgrade().map_or(0, |sockets| sockets.dropped());
        [
            Reading::counter(
                "rx_dropped_short",
                "Datagrams dropped: too short to say who sent them.",
                self.short.get(),
            ),
            Reading::counter(
                "rx_dropped_unknown_sender",
                "Datagrams dropped: from nobody there is a link to.",
                self.unknown_sender.get(),
            ),
            Reading::counter(
                "rx_errors",
                "System calls that failed to receive datagrams.",
                self.errors.get(),
            ),
            // Only calls that returned at least one datagram.
            Reading::counter(
                "rx_calls",
                "System calls that received datagrams, for all links together.",
                self.calls.get(),
            ),
            Reading::counter(
                "rx_dropped_by_kernel",
                "Datagrams, or GRO batches, dropped at the socket: it was full, or a UDP checksum \
                 wrong.",
                dropped,
            ),
        ]
    }
}

/// Receives the datagrams of all links, for one data thread.
#[derive(Debug)]
pub struct Receiver {
    sockets: Arc<UdpSockets>,
    /// The index of its socket.
    thread: usize,
    registry: Arc<Registry>,
    shared_counters: Arc<ReceiverCounters>,
    clock: Clock,
    buffer: Box<[u8]>,
    received: Box<[ReceivedBatch; BATCH]>,
    /// Messages that the next call asks for.
    at_once: usize,
    reassembler: Reassembler<Arrival>,
}

impl Receiver {
    pub(crate) fn new(
        sockets: Arc<UdpSockets>,
        thread: usize,
        registry: Arc<Registry>,
        shared_counters: Arc<ReceiverCounters>,
        clock: Clock,
    ) -> Self {
        let buffer = vec![0; SLOT * BATCH].into();
        let received = Box::new([ReceivedBatch::default(); BATCH]);
        let reassembler = Reassembler::new();
        let at_once = BATCH;
        Self {
            sockets,
            thread,
            registry,
            shared_counters,
            clock,
            buffer,
            received,
            at_once,
            reassembler,
        }
    }

    /// Returns a descriptor that is readable when [`Self::receive`] has something to do.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.sockets.readiness(self.thread)
    }

    /// Passes the frames of the datagrams at hand to `each`, up to a batch, without waiting.
    /// Special frames are handled here.
    pub fn receive(&mut self, mut each: impl FnMut(Arrival, Frame<'_>)) -> More {
        let links = self.registry.links();
        let mut each = |arrival: Arrival, frame: Frame<'_>| {
            if frame.segmentation.is_some()
                && let Some(forwarder) = links.of(arrival.neighbour)
            {
                forwarder.received.super_frames.add(1);
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
        self.reassembler.flush(&mut each);
        more
    }

    /// Does the same by one system call, and returns the number of messages received, which is at
    /// most `asked`.
    fn take(
        &mut self,
        asked: usize,
        links: &Links,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) -> usize {
        let Self { sockets, thread, shared_counters, clock, buffer, received, reassembler, .. } =
            self;
        let (buffer, received) = (&mut buffer[..asked * SLOT], &mut received[..asked]);
        let count = match sockets.receive(*thread, buffer, received) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
            Err(error) => {
                // A socket reports errors of earlier datagrams, which do not concern the next ones.
                tracing::debug!(%error, "receiving from the UDP socket");
                shared_counters.errors.add(1);
                return 0;
            }
        };
        shared_counters.calls.add(1);
        for (slot, arrived) in buffer.chunks_exact_mut(SLOT).zip(&received[..count]) {
            let ReceivedBatch { length, segment, from: Some(from) } = *arrived else { continue };
            if length == 0 {
                shared_counters.short.add(1);
            }
            let segment = segment.max(1);
            let count = length.div_ceil(segment);
            let mut batch = slot.get_mut(..length).unwrap_or_default();
            let mut known = false;
            while !batch.is_empty() {
                // As a rule the whole batch: neighbours have different addresses.
                let sender = sender(batch.get(..segment).unwrap_or(batch));
                let of_it = batch.chunks(segment).take_while(|it| self::sender(it) == sender);
                let of_it = of_it.map(<[u8]>::len).sum();
                let (datagrams, others) = std::mem::take(&mut batch).split_at_mut(of_it);
                batch = others;
                let number = datagrams.len().div_ceil(segment);
                let Some(sender) = sender else {
                    shared_counters.short.add(number);
                    continue;
                };
                let Some(forwarder) = links.of(sender) else {
                    shared_counters.unknown_sender.add(number);
                    continue;
                };
                if !std::mem::replace(&mut known, true) {
                    forwarder.received.batches.add(count);
                }
                let (alone, stray) = (count == 1, !forwarder.takes_from(from));
                let pending = PendingCounts::default();
                let mut reader = RecordReader { forwarder, clock, from, alone, stray, pending };
                let mut windows = forwarder.windows.lock().unwrap_or_else(PoisonError::into_inner);
                forwarder.encapsulation.open_batch(&mut windows, datagrams, segment, |opened| {
                    reader.read(opened, reassembler, each);
                });
                reader.count();
            }
        }
        if received[..count].iter().any(|arrived| arrived.length >= LONG) {
            self.at_once = LONG_AT_ONCE;
        } else if count == asked {
            // Messages are small and numerous.
            self.at_once = BATCH;
        }
        count
    }
}

/// Returns the sender of a datagram of either format, if it is long enough to have one.
fn sender(datagram: &[u8]) -> Option<PeerName> {
    native::sender(datagram).or_else(|| datagram::sender(datagram).ok())
}

/// Reads the records in the datagrams of one link.
struct RecordReader<'c> {
    forwarder: &'c SleeveForwarder,
    clock: &'c Clock,
    from: SocketAddr,
    /// Whether the datagram came without others.
    alone: bool,
    /// Whether they are unencrypted and come from another address than the neighbour's.
    stray: bool,
    pending: PendingCounts,
}

/// Counts not yet added to the counters: that is done once per batch, since threads share them.
#[derive(Default)]
struct PendingCounts {
    datagrams: usize,
    frames: usize,
    bytes: usize,
}

impl RecordReader<'_> {
    /// Passes on the frames of a datagram.
    fn read(
        &mut self,
        opened: Result<Opened<'_>, OpenFailure>,
        reassembler: &mut Reassembler<Arrival>,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) {
        let Self { forwarder, clock, alone, .. } = *self;
        let counters = &forwarder.received;
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenFailure::Forged) => {
                counters.forged_in_batches.add(usize::from(!alone));
                return counters.forged.add(1);
            }
            Err(OpenFailure::Replayed) => return counters.replayed.add(1),
            Err(OpenFailure::Epoch) => return counters.epoch.add(1),
            Err(OpenFailure::TooShort) => return counters.malformed.add(1),
            Err(OpenFailure::TooManyForged) => {
                counters.forged.add(1);
                let now = clock.now();
                return forwarder.control_and_wake(now, |machine| machine.handle_too_many_forged());
            }
        };
        if self.stray {
            return self.stray(opened);
        }
        let whole = match opened {
            Opened::Legacy(records) => self.legacy(records, each),
            Opened::Native(records) => self.native(records, reassembler, each),
        };
        if whole.is_none() {
            counters.malformed.add(1);
        }
        self.pending.datagrams += 1;
    }

    /// Takes nothing but a heartbeat from a stray datagram: the address of the neighbour may have
    /// changed, and only the neighbour knows the number in its heartbeats.
    fn stray(&mut self, opened: Opened<'_>) {
        let Self { forwarder, clock, from, .. } = *self;
        let record = match opened {
            Opened::Legacy(mut records) => records.next().and_then(|record| {
                let Record { source, destination, frame } = record.ok()?;
                Some((source, destination, frame))
            }),
            Opened::Native(mut records) => records.next().and_then(|record| {
                let native::Record { source, destination, bytes, .. } = record.ok()?;
                Some((source, destination, bytes))
            }),
        };
        match record {
            Some((source, destination, frame))
                if is_heartbeat(frame)
                    && source == forwarder.remote
                    && destination == forwarder.own =>
            {
                let now = clock.now();
                forwarder.control_and_wake(now, |machine| machine.handle_special(now, from, frame));
                self.pending.datagrams += 1;
            }
            _ => forwarder.received.stray.add(1),
        }
    }

    /// Adds the pending counts to the counters.
    fn count(&mut self) {
        let PendingCounts { datagrams, frames, bytes } = std::mem::take(&mut self.pending);
        let counters = &self.forwarder.received;
        counters.datagrams.add(datagrams);
        counters.frames.add(frames);
        counters.bytes.add(bytes);
    }

    /// Reads legacy records. Returns `None` if what is left is not a record.
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
                let arrival = self.arrival(source, destination, 0, frame.len());
                each(arrival, Frame::plain(frame));
            }
        }
        Some(())
    }

    /// Reads native records. Returns `None` if what is left is not a record.
    fn native(
        &mut self,
        records: native::Records<'_>,
        reassembler: &mut Reassembler<Arrival>,
        each: &mut impl FnMut(Arrival, Frame<'_>),
    ) -> Option<()> {
        for record in records {
            let native::Record { source, destination, form, relays, bytes } = record.ok()?;
            match form {
                Form::Segment { headers, size, offset } => {
                    let (headers, payload) = bytes.split_at_checked(headers.into())?;
                    let segment = Segment { headers, payload, size: size.get(), offset };
                    let arrival = self.arrival(source, destination, relays, bytes.len());
                    reassembler.push(arrival, segment, each).ok()?;
                }
                Form::Complete if is_special(bytes) => self.special(source, destination, bytes),
                Form::Complete | Form::Unfinished => {
                    let checksum = match form {
                        Form::Unfinished => Some(checksum_request(bytes)?),
                        _ => None,
                    };
                    // The frame must not overtake the segments before it.
                    reassembler.flush(each);
                    let arrival = self.arrival(source, destination, relays, bytes.len());
                    each(arrival, Frame { checksum, ..Frame::plain(bytes) });
                }
            }
        }
        Some(())
    }

    fn arrival(
        &mut self,
        source: PeerName,
        destination: PeerName,
        relays: u8,
        length: usize,
    ) -> Arrival {
        self.pending.frames += 1;
        self.pending.bytes += length;
        Arrival { neighbour: self.forwarder.remote, source, destination, relays }
    }

    fn special(&mut self, source: PeerName, destination: PeerName, frame: &[u8]) {
        let Self { forwarder, clock, from, .. } = *self;
        if source == forwarder.remote && destination == forwarder.own {
            // The reply to a counts request includes all datagrams before it.
            self.count();
            let now = clock.now();
            forwarder.control_and_wake(now, |machine| machine.handle_special(now, from, frame));
            // This comes last, because the whole datagram is counted after it.
            forwarder.received.special.add(1);
        } else {
            forwarder.received.misdirected.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use weave_core::mesh::{ConnectionUid, LinkRequest};
    use weave_core::switch::{Envelope, Forwarded, Forwarder, Waker, WorkerId};
    use weave_core::time::Instant;

    use super::*;
    use crate::cipher::Channel;
    use crate::encapsulation::Draft;
    use crate::fixtures::{link_request, super_frame_of};
    use crate::link::SpecialFrame;
    use crate::native::Capabilities;

    const WORKER: WorkerId = WorkerId::new(0).expect("zero is below the limit");

    /// Two ends of a plain link in the native format.
    struct Setup {
        from: SleeveForwarder,
        to: Arc<SleeveForwarder>,
        receiver: Receiver,
    }

    /// `versions` are those that both know.
    fn setup(versions: &str) -> Setup {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = [(); 2].map(|()| Arc::new(UdpSockets::bind(any, 1).unwrap()));
        let from_address = sockets[0].address();
        let clock = Clock::new(|| Instant::ORIGIN);
        let capabilities = Capabilities::default();
        let [from, to] = [0, 1].map(|index| {
            let [local, remote] = [index, 1 - index].map(|index: usize| sockets[index].address());
            let mut remote_features = capabilities.features();
            remote_features.insert("SleeveNative".to_owned(), versions.to_owned());
            let request =
                LinkRequest { remote_features, ..link_request(index == 0, local, remote) };
            let (sockets, waker) = (sockets[index].clone(), Waker::new(|| {}));
            SleeveForwarder::new(&request, waker, &capabilities, sockets, clock.clone())
        });
        let (to, registry) = (Arc::new(to), Arc::<Registry>::default());
        registry.insert(to.clone());
        let [_, sockets] = sockets;
        let receiver = Receiver::new(sockets, 0, registry, Arc::default(), clock);
        // Its address is not known before its first heartbeat.
        to.control(Instant::ORIGIN, |machine| {
            let (now, mut heartbeat) = (Instant::ORIGIN, Vec::new());
            SpecialFrame::Heartbeat(ConnectionUid(7)).emit(&mut heartbeat);
            machine.confirm(now);
            machine.handle_special(now, from_address, &heartbeat);
        });
        // Datagrams have the size that an Ethernet path carries.
        from.control(Instant::ORIGIN, |machine| machine.handle_too_big(Instant::ORIGIN, 1500));
        Setup { from, to, receiver }
    }

    impl Setup {
        fn send(&self, frame: Frame<'_>, relays: u8) {
            let (source, destination) = (self.from.own, self.from.remote);
            let envelope = Envelope { source, destination, frame, broadcast: false, relays };
            assert_eq!(self.from.forward(WORKER, envelope), Forwarded::Accepted);
        }

        fn calls(&self) -> u64 {
            self.receiver.shared_counters.calls.get()
        }
    }

    #[test]
    fn super_frames_are_reassembled_across_calls() {
        let mut setup = setup("1 2");
        let whole = super_frame_of(1, 2, &[7; 64_000], 1360);
        let small = super_frame_of(1, 2, &[7; 100], 1360);
        for round in 0..3 {
            // Each super-frame takes two batches, and the small one makes them arrive in different
            // calls.
            setup.send(small.frame(), 0);
            (0..5).for_each(|_| setup.send(whole.frame(), 0));
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
    #[test]
    fn the_number_of_relays_travels_with_frames_and_super_frames() {
        let whole = super_frame_of(1, 2, &[7; 20_000], 1360);
        // Without a checksum to complete, with one, and in segments.
        let small = super_frame_of(1, 2, &[7; 100], 1360);
        let unfinished = Frame { segmentation: None, ..small.frame() };
        for (versions, expected) in [("1 2", [0, 1, 30, 31]), ("1", [0; 4])] {
            let mut setup = setup(versions);
            for relays in [0, 1, 30, 31] {
                setup.send(Frame::plain(&[2; 60]), relays);
                setup.send(unfinished, relays);
                setup.send(whole.frame(), relays);
            }
            setup.from.flush(WORKER);
            let mut received = Vec::new();
            while setup.receiver.receive(|arrival, frame| {
                received.push((arrival.relays, frame.bytes.len()));
            }) == More::Likely
            {}
            let lengths = [60, unfinished.bytes.len(), whole.bytes.len()];
            let all = expected.map(|relays| lengths.map(|length| (relays, length)));
            let mut all = all.concat();
            // What may be fragmented travels in datagrams of its own.
            all.sort_unstable();
            received.sort_unstable();
            assert_eq!(received, all, "version {versions}");
        }
    }

    #[test]
    fn what_comes_in_clear_from_elsewhere_is_a_heartbeat_or_nothing() {
        let mut setup = setup("1 2");
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = setup.receiver.sockets.address();
        let datagram = |frame: &[u8]| {
            let (source, destination) = (setup.from.own, setup.from.remote);
            let write = |place: &mut [u8]| place.copy_from_slice(frame);
            let (form, length) = (Form::Complete, frame.len());
            let draft = Draft { source, destination, form, relays: 0, length, write };
            let encapsulation = &setup.from.encapsulation;
            let header = encapsulation.header_len();
            let mut datagram = vec![0; header + encapsulation.record_len(&draft)];
            encapsulation.emit(&draft, &mut datagram[header..]).unwrap();
            let all = 0..datagram.len();
            let channel = Channel::DontFragment;
            encapsulation.seal(Instant::ORIGIN, source, channel, &mut datagram, &[all]).unwrap();
            datagram
        };
        let frame = datagram(&[&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &[0; 60]].concat());
        let special = |special: SpecialFrame| {
            let mut bytes = Vec::new();
            special.emit(&mut bytes);
            datagram(&bytes)
        };
        let foreign = special(SpecialFrame::Heartbeat(ConnectionUid(8)));
        let heartbeat = special(SpecialFrame::Heartbeat(ConnectionUid(7)));
        let test = special(SpecialFrame::FragmentationTest);
        let to_carrier = Arc::clone(&setup.to);
        let stray = || to_carrier.received.stray.get();
        // Frames and stray datagrams; the kernel may take a moment.
        let receive = |receiver: &mut Receiver, datagrams: &[&[u8]], expected: (u64, u64)| {
            let (before, mut frames) = (stray(), 0);
            for datagram in datagrams {
                stranger.send_to(datagram, to).unwrap();
            }
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while (frames, stray() - before) != expected && std::time::Instant::now() < deadline {
                receiver.receive(|_, _| frames += 1);
            }
            assert_eq!((frames, stray() - before), expected);
        };
        receive(&mut setup.receiver, &[&frame, &foreign, &test], (0, 2));
        let before = to_carrier.received.datagrams.get();
        assert_eq!(setup.to.received.frames.get(), 0);
        // It moved.
        receive(&mut setup.receiver, &[&heartbeat, &frame], (1, 0));
        let datagrams = to_carrier.received.datagrams.get() - before;
        assert_eq!(datagrams, 2, "a datagram is counted, or the cause why it was dropped");
        setup.send(super_frame_of(1, 2, &[7; 100], 1360).frame(), 0);
        setup.from.flush(WORKER);
        receive(&mut setup.receiver, &[], (0, 1));
    }
}
