//! What the control half and the data half of a link share.
//!
//! ```text
//!   data threads ── forward ──▶ batch of the thread ──▶ socket
//!        │                                                ▲
//!        │ EMSGSIZE                        special frames │
//!        ▼                                                │
//!   control: LinkMachine under a mutex ───────────────────┘
//!        ▲                 │ mtu, fragmentation, address: published, read without locks
//!        │ special frames  ▼
//!   receiving thread    data threads
//! ```

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use weave_core::mesh::PeerName;
use weave_core::mtu::{DEFAULT_FLOOR, MAX_UDP_PAYLOAD, PathMtu, UNKNOWN_MTU};
use weave_core::switch::{Envelope, Forwarded, Forwarder, LinkEvent, LinkParams, Waker, WorkerId};
use weave_core::time::Instant;
use weave_core::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;
use weave_core::wire::{Classified, fragment, ipv6};

use crate::aggregate::{Appended, Batch};
use crate::cipher::{Channel, Cipher, LegacyBox};
use crate::clock::Clock;
use crate::counters::{Counter, Received, Sent};
use crate::datagram;
use crate::encapsulation::{Emit, Encapsulation};
use crate::link::{Counts, LinkMachine, Special, TrainChange};
use crate::native::{self, Abilities, Choice, Form, Seal};
use crate::offload::Segments;
use crate::replay::Windows;
use crate::udp::{Path, UdpSockets, Unsent};

/// A link, as data threads see it.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) own: PeerName,
    pub(crate) remote: PeerName,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) sent: Sent,
    pub(crate) received: Received,
    /// Used by the thread that receives, and so never waited for.
    pub(crate) windows: Mutex<Windows>,
    local: std::net::IpAddr,
    sockets: Arc<UdpSockets>,
    clock: Clock,
    waker: Waker,
    published: Published,
    /// By worker; made when the worker first comes here.
    batches: Box<[OnceLock<Box<Mutex<Batches>>>]>,
    control: Mutex<Control>,
}

/// What data threads need to know of the state of the link.
#[derive(Debug)]
struct Published {
    path: ArcSwapOption<Path>,
    mtu: AtomicUsize,
    /// The neighbour acknowledged a frame of that size.
    mtu_verified: AtomicBool,
    max_payload: AtomicUsize,
    stack_fragments: AtomicBool,
}

/// What one worker has not sent yet.
#[derive(Debug)]
struct Batches {
    unfragmented: Batch,
    /// Made when it is first needed: most traffic is not fragmentable.
    fragmentable: Option<Batch>,
    /// For a frame that is cut here.
    whole: Vec<u8>,
}

#[derive(Debug)]
struct Control {
    machine: LinkMachine,
    /// For special frames.
    datagram: Vec<u8>,
}

impl Carrier {
    pub(crate) fn new(
        params: &LinkParams,
        abilities: &Abilities,
        sockets: Arc<UdpSockets>,
        clock: Clock,
    ) -> Self {
        let encapsulation = encapsulation(params, abilities, clock.now());
        let path_mtu = PathMtu::new(encapsulation.overhead(), DEFAULT_FLOOR);
        // The accepting side would only know the port of the TCP connection.
        let remote = params.outbound.then_some(params.remote_address);
        let machine = LinkMachine::new(params.connection_uid, remote, path_mtu);
        let machine = match encapsulation {
            Encapsulation::Legacy(_) => machine,
            Encapsulation::Native(_) => machine.with_counts(),
        };
        let carrier = Self {
            own: params.own,
            remote: params.remote,
            encapsulation,
            sent: Sent::default(),
            received: Received::default(),
            windows: Mutex::default(),
            local: params.local_address.ip(),
            sockets,
            clock,
            waker: params.waker.clone(),
            published: Published {
                path: ArcSwapOption::empty(),
                mtu: AtomicUsize::new(UNKNOWN_MTU),
                mtu_verified: AtomicBool::new(false),
                max_payload: AtomicUsize::new(MAX_UDP_PAYLOAD),
                stack_fragments: AtomicBool::new(false),
            },
            batches: (0..WorkerId::MAX).map(|_| OnceLock::new()).collect(),
            control: Mutex::new(Control { machine, datagram: Vec::new() }),
        };
        carrier.publish(&carrier.lock().machine);
        carrier
    }

    /// Gives an input to the machine, sends what it wants to send, and publishes what changed.
    pub(crate) fn control<T>(&self, now: Instant, input: impl FnOnce(&mut LinkMachine) -> T) -> T {
        let mut control = self.lock();
        let control = &mut *control;
        control.machine.note_counts(self.counts());
        let output = input(&mut control.machine);
        if let Some(change) = control.machine.poll_train_change() {
            self.tell_of_trains(change);
        }
        while let Some(special) = control.machine.poll_transmit() {
            if let Some(remote) = control.machine.remote() {
                let path = Path { local: self.local, remote, trains: false };
                self.send_special(now, control, &path, special);
            }
        }
        self.publish(&control.machine);
        output
    }

    /// The same from a data thread: the router has to look at events and timers afterwards.
    pub(crate) fn control_and_wake(&self, now: Instant, input: impl FnOnce(&mut LinkMachine)) {
        let unchanged = self.control(now, |machine| {
            let before = machine.poll_timeout();
            input(machine);
            !machine.has_events() && machine.poll_timeout() == before
        });
        if !unchanged {
            self.waker.wake();
        }
    }

    /// Whether the kernel cuts datagrams that are larger than the path takes.
    pub(crate) fn stack_fragments(&self) -> bool {
        self.published.stack_fragments.load(Ordering::Relaxed)
    }

    /// The overlay MTU, once it is known.
    pub(crate) fn mtu(&self) -> Option<usize> {
        let mtu = self.published.mtu.load(Ordering::Relaxed);
        (mtu != UNKNOWN_MTU).then_some(mtu)
    }

    /// The same, once a frame of that size got through.
    pub(crate) fn verified_mtu(&self) -> Option<usize> {
        self.mtu().filter(|_| self.published.mtu_verified.load(Ordering::Relaxed))
    }

    /// Refuses frames from now on.
    pub(crate) fn close(&self) {
        self.published.path.store(None);
    }

    /// The next event of the machine.
    pub(crate) fn poll_event(&self) -> Option<LinkEvent> {
        self.lock().machine.poll_event()
    }

    /// When the machine wants its timer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().machine.poll_timeout()
    }

    fn send_special(&self, now: Instant, control: &mut Control, path: &Path, special: Special) {
        let Control { machine, datagram } = control;
        let mut frame = Vec::new();
        special.emit(&mut frame);
        let write = |place: &mut [u8]| place.copy_from_slice(&frame);
        let (source, destination) = (self.own, self.remote);
        let around = (self.encapsulation.header_len(), self.encapsulation.trailer_len());
        match self.encapsulation {
            Encapsulation::Legacy(_) => {
                let draft = datagram::Draft { source, destination, length: frame.len(), write };
                put_alone(&draft, around, datagram);
            }
            Encapsulation::Native(_) => {
                let (form, length) = (Form::Complete, frame.len());
                let draft = native::Draft { source, destination, form, length, write };
                put_alone(&draft, around, datagram);
            }
        }
        let (channel, all) = (special.channel(), 0..datagram.len());
        let all = std::slice::from_ref(&all);
        if self.encapsulation.seal(now, self.own, channel, datagram, all).is_err() {
            return self.sent.unsealed.add(1);
        }
        let mut refused = None;
        let handed = self.sockets.send(channel, path, datagram, all, |unsent| {
            refused = Some(unsent);
        });
        self.sent.calls.add(handed.calls);
        self.sent.trains.add_all(&handed.trains);
        match refused {
            None => {
                self.sent.special.add(1);
                self.sent.datagrams.add(1);
            }
            Some(Unsent::TooBig) => {
                if let Ok(path_mtu) = UdpSockets::path_mtu(path) {
                    machine.handle_too_big(now, path_mtu);
                }
            }
            Some(Unsent::QueueFull) => self.sent.queue_full.add(1),
            Some(Unsent::Unreachable) => self.sent.unreachable.add(1),
        }
    }

    /// What the neighbour is asked for, and what it is told when it asks.
    fn counts(&self) -> Counts {
        let Self { sent, received, .. } = self;
        let but = |all: &Counter, special: &Counter| all.get().saturating_sub(special.get());
        Counts {
            sent: but(&sent.datagrams, &sent.special),
            in_trains: sent.in_trains.get(),
            opened: but(&received.datagrams, &received.special),
            unopened: received.forged.get() + received.replayed.get() + received.epoch.get(),
        }
    }

    fn tell_of_trains(&self, change: TrainChange) {
        let peer = self.remote;
        match change {
            TrainChange::Off { lost, damaged, time } => {
                self.sent.trains_off.add(1);
                tracing::warn!(
                    %peer,
                    "{lost} % of the datagrams sent in trains are lost, {damaged} % of these arrive \
                     damaged: sending them one by one for {} s",
                    time.as_secs()
                );
            }
            TrainChange::Retried => tracing::info!(%peer, "sending datagrams in trains again"),
            TrainChange::Acquitted { lost } => tracing::info!(
                %peer,
                "{lost} % of the datagrams sent one by one are lost, too: sending them in trains \
                 again"
            ),
        }
    }

    fn publish(&self, machine: &LinkMachine) {
        let Published { path, mtu, mtu_verified, max_payload, stack_fragments } = &self.published;
        let trains = machine.uses_trains();
        let current = machine.remote().map(|remote| Path { local: self.local, remote, trains });
        if path.load().as_deref() != current.as_ref() {
            path.store(current.map(Arc::new));
        }
        mtu.store(machine.path_mtu().mtu(), Ordering::Relaxed);
        mtu_verified.store(machine.path_mtu().verified().is_some(), Ordering::Relaxed);
        max_payload.store(machine.path_mtu().max_payload(), Ordering::Relaxed);
        stack_fragments.store(machine.stack_fragments(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batches(&self, worker: WorkerId) -> Option<MutexGuard<'_, Batches>> {
        let place = self.batches.get(worker.get())?;
        let batches = place.get_or_init(|| {
            Box::new(Mutex::new(Batches {
                unfragmented: Batch::new(Channel::DontFragment),
                fragmentable: None,
                whole: Vec::new(),
            }))
        });
        Some(batches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the kernel does for this link, for the status: cut trains of datagrams, put them
    /// together again.
    pub(crate) fn offload(&self) -> String {
        let trains = match self.sockets.trains() {
            (true, true) => "gso gro",
            (true, false) => "gso",
            (false, true) => "gro",
            (false, false) => "none",
        };
        match self.lock().machine.train_loss() {
            None => trains.to_owned(),
            Some(lost) => format!("{trains} (trains off: {lost} % lost)"),
        }
    }

    /// Appends a complete frame to a batch.
    fn append(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        length: usize,
        write: impl Fn(&mut [u8]),
    ) -> bool {
        let Envelope { source, destination, .. } = *envelope;
        match self.encapsulation {
            Encapsulation::Legacy(_) => {
                let draft = datagram::Draft { source, destination, length, write };
                self.append_draft(path, batch, length, &draft)
            }
            Encapsulation::Native(_) => {
                let form = Form::Complete;
                let draft = native::Draft { source, destination, form, length, write };
                self.append_draft(path, batch, length, &draft)
            }
        }
    }

    /// Appends a frame in the native format: uncut and unfinished, if it can be.
    fn append_native(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        segments: &Segments<'_>,
    ) -> bool {
        let Envelope { source, destination, frame, .. } = *envelope;
        if segments.only_lacks_its_checksum() {
            let (form, length) = (Form::Unfinished, frame.bytes.len());
            let write = |place: &mut [u8]| place.copy_from_slice(frame.bytes);
            let draft = native::Draft { source, destination, form, length, write };
            return self.append_draft(path, batch, length, &draft);
        }
        let Some(pieces) = segments.parts().and_then(native::pieces) else {
            return self.append_segments(path, batch, envelope, segments);
        };
        let mut taken = true;
        for piece in pieces {
            let write = |place: &mut [u8]| piece.write(place);
            let (form, length) = (piece.form, piece.len());
            let draft = native::Draft { source, destination, form, length, write };
            taken &= self.append_draft(path, batch, length, &draft);
        }
        taken
    }

    /// Appends the frames that a captured one stands for.
    fn append_segments(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        segments: &Segments<'_>,
    ) -> bool {
        let mut taken = true;
        for index in 0..segments.count() {
            let write = |place: &mut [u8]| segments.write(index, place);
            taken &= self.append(path, batch, envelope, segments.frame_len(index), write);
        }
        taken
    }

    /// Appends a record to a batch, and sends the batch if that makes room.
    fn append_draft(
        &self,
        path: &Path,
        batch: &mut Batch,
        length: usize,
        draft: &impl Emit,
    ) -> bool {
        let max_payload = self.published.max_payload.load(Ordering::Relaxed);
        let append = |batch: &mut Batch| batch.append(&self.encapsulation, max_payload, draft);
        let mut appended = append(batch);
        if appended == Appended::Full {
            self.transmit(path, batch);
            appended = append(batch);
        }
        match appended {
            Appended::Taken => {
                self.sent.frames.add(1);
                self.sent.bytes.add(length);
                true
            }
            Appended::TooLong | Appended::Full => {
                self.sent.oversize.add(1);
                false
            }
        }
    }

    /// Cuts an IP packet into pieces of the path's size and appends them.
    fn append_fragments(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        whole: &[u8],
        mtu: usize,
    ) -> bool {
        let Ok(pieces) = fragment(whole, mtu) else {
            self.sent.oversize.add(1);
            return false;
        };
        let mut taken = true;
        for piece in pieces {
            let write = |place: &mut [u8]| {
                piece.write(place).expect("a place of its length");
            };
            taken &= self.append(path, batch, envelope, piece.frame_len(), write);
        }
        taken
    }

    /// Sends what is in a batch.
    fn transmit(&self, path: &Path, batch: &mut Batch) {
        let now = self.clock.now();
        let sealed = batch.seal(now, &self.encapsulation, self.own);
        let (bytes, datagrams) = batch.datagrams();
        if sealed.is_err() {
            self.sent.unsealed.add(datagrams.len());
            return batch.clear();
        }
        let (mut lost, mut too_big) = (0, false);
        let handed = self.sockets.send(batch.channel(), path, bytes, datagrams, |unsent| {
            lost += 1;
            match unsent {
                Unsent::TooBig => {
                    too_big = true;
                    self.sent.too_big.add(1);
                }
                Unsent::QueueFull => self.sent.queue_full.add(1),
                Unsent::Unreachable => self.sent.unreachable.add(1),
            }
        });
        self.sent.calls.add(handed.calls);
        self.sent.trains.add_all(&handed.trains);
        self.sent.in_trains.add(handed.in_trains);
        self.sent.datagrams.add(datagrams.len().saturating_sub(lost));
        batch.clear();
        if too_big && let Ok(path_mtu) = UdpSockets::path_mtu(path) {
            self.control_and_wake(now, |machine| machine.handle_too_big(now, path_mtu));
        }
    }
}

/// What this side and the neighbour have in common.
fn encapsulation(params: &LinkParams, abilities: &Abilities, now: Instant) -> Encapsulation {
    let LinkParams { remote_features, outbound, session_key, .. } = params;
    let choice = abilities.agree(remote_features, *outbound, session_key.is_some());
    match (session_key, choice) {
        (None, Choice::Plain) => Encapsulation::Native(Seal::Plain),
        (None, _) => Encapsulation::Legacy(Cipher::Plain),
        (Some(key), Choice::Sealed(suite)) => {
            Encapsulation::Native(Seal::new(key, *outbound, suite, now))
        }
        (Some(key), _) => Encapsulation::Legacy(Cipher::Legacy(LegacyBox::new(key, *outbound))),
    }
}

/// Makes a datagram of one record, with room around it.
fn put_alone(draft: &impl Emit, (header, trailer): (usize, usize), datagram: &mut Vec<u8>) {
    datagram.clear();
    datagram.resize(header + draft.buffer_len() + trailer, 0);
    draft.emit(&mut datagram[header..]).expect("made with room for a frame below 64 KiB");
}

impl Forwarder for Carrier {
    fn forward(&self, worker: WorkerId, envelope: Envelope<'_>) -> Forwarded {
        let path = self.published.path.load();
        let Some(path) = path.as_deref() else {
            self.sent.no_address.add(1);
            return Forwarded::Refused;
        };
        let mtu = self.published.mtu.load(Ordering::Relaxed);
        let Ok(segments) = Segments::new(envelope.frame) else {
            self.sent.malformed.add(1);
            return Forwarded::Dropped;
        };
        let longest = mtu + ETHERNET_HEADER;
        let segments = segments.limited_to(longest);
        let too_big = segments.longest() > longest;
        let way = Way::of(envelope.frame.bytes, too_big, envelope.broadcast);
        let Some(mut batches) = self.batches(worker) else { return Forwarded::Refused };
        let Batches { unfragmented, fragmentable, whole } = &mut *batches;
        let taken = match way {
            Way::TooBig => return Forwarded::TooBig { mtu },
            Way::Whole => match self.encapsulation {
                Encapsulation::Legacy(_) => {
                    self.append_segments(path, unfragmented, &envelope, &segments)
                }
                Encapsulation::Native(_) => {
                    self.append_native(path, unfragmented, &envelope, &segments)
                }
            },
            Way::Cut if !self.stack_fragments() => {
                let mut taken = true;
                for index in 0..segments.count() {
                    whole.resize(segments.frame_len(index), 0);
                    segments.write(index, whole);
                    taken &= self.append_fragments(path, unfragmented, &envelope, whole, mtu);
                }
                taken
            }
            Way::Cut | Way::Fragmentable => {
                let batch = fragmentable.get_or_insert_with(|| Batch::new(Channel::Fragmentable));
                self.append_segments(path, batch, &envelope, &segments)
            }
        };
        if envelope.frame.segmentation.is_some() {
            self.sent.super_frames.add(1);
        }
        if taken { Forwarded::Taken } else { Forwarded::Dropped }
    }

    fn flush(&self, worker: WorkerId) {
        let Some(mut batches) = self.batches(worker) else { return };
        let Batches { unfragmented, fragmentable, .. } = &mut *batches;
        let path = self.published.path.load();
        for batch in [Some(unfragmented), fragmentable.as_mut()].into_iter().flatten() {
            match path.as_deref() {
                _ if batch.is_empty() => {}
                Some(path) => self.transmit(path, batch),
                // Closed since.
                None => batch.clear(),
            }
        }
    }
}

/// How a frame travels (spec sleeve.md, section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// In one piece, with "don't fragment" set.
    Whole,
    /// Larger than the path takes; may be cut by anybody.
    Cut,
    /// Without "don't fragment", whatever its size.
    Fragmentable,
    /// Not at all; its sender is to be told.
    TooBig,
}

impl Way {
    /// IPv6 is cut by nobody but its sender (RFC 8200, section 5), which hears that a packet is
    /// too big unless many would answer at once, or the packet is so small that every link has to
    /// carry it in some way. Weave Net sends all IPv6 like `Fragmentable`; the receiver cannot
    /// tell.
    fn of(frame: &[u8], too_big: bool, broadcast: bool) -> Self {
        match Classified::of(frame) {
            Classified::Ipv4 { .. } | Classified::Ipv6 { .. } if !too_big => Self::Whole,
            Classified::Ipv4 { packet, .. } if packet.dont_fragment() => Self::TooBig,
            Classified::Ipv4 { .. } => Self::Cut,
            Classified::Ipv6 { packet, .. }
                if !broadcast && packet.packet().len() > ipv6::MIN_MTU =>
            {
                Self::TooBig
            }
            _ => Self::Fragmentable,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{SocketAddr, UdpSocket};

    use weave_core::mesh::{ConnectionId, ConnectionUid, SessionKey, ShortId};
    use weave_core::switch::{ChecksumRequest, Frame};
    use weave_core::wire::Checksum;

    use weave_core::wire::complete_checksum;

    use super::*;
    use crate::encapsulation::Opened;
    use crate::offload::sample::super_frame;

    const WORKER: WorkerId = WorkerId::new(0).expect("zero is below the limit");

    /// A link to a socket of the test.
    struct Setup {
        carrier: Carrier,
        neighbour: UdpSocket,
    }

    fn setup(session_key: Option<SessionKey>) -> Setup {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let neighbour = UdpSocket::bind(any).unwrap();
        neighbour.set_nonblocking(true).unwrap();
        let sockets = Arc::new(UdpSockets::bind(any, 1).unwrap());
        let params = LinkParams {
            connection: ConnectionId(1),
            own: PeerName::from_u64(0xa1).unwrap(),
            remote: PeerName::from_u64(0xa2).unwrap(),
            connection_uid: ConnectionUid(7),
            outbound: true,
            local_address: sockets.address(),
            remote_address: neighbour.local_addr().unwrap(),
            own_short_id: ShortId::new(1).unwrap(),
            remote_short_id: None,
            session_key,
            remote_features: BTreeMap::new(),
            waker: Waker::new(|| {}),
        };
        let clock = Clock::new(|| Instant::ORIGIN);
        let abilities = Abilities::default();
        Setup { carrier: Carrier::new(&params, &abilities, sockets, clock), neighbour }
    }

    impl Setup {
        fn forward(&self, frame: &[u8], broadcast: bool) -> Forwarded {
            let envelope = Envelope {
                source: self.carrier.own,
                destination: self.carrier.remote,
                frame: Frame::plain(frame),
                broadcast,
            };
            self.carrier.forward(WORKER, envelope)
        }

        fn forward_marked(&self, frame: Frame<'_>) -> Forwarded {
            let (source, destination) = (self.carrier.own, self.carrier.remote);
            let envelope = Envelope { source, destination, frame, broadcast: false };
            self.carrier.forward(WORKER, envelope)
        }

        /// What the neighbour gets after a flush, datagram by datagram.
        fn received(&self) -> Vec<Vec<Vec<u8>>> {
            self.carrier.flush(WORKER);
            let mut datagrams = Vec::new();
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = self.neighbour.recv(&mut buffer) {
                let mut windows = Windows::default();
                let theirs = match &self.carrier.encapsulation {
                    Encapsulation::Native(_) => Encapsulation::Native(Seal::Plain),
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

        /// As if the kernel had refused a datagram, and the neighbour acknowledged the test.
        fn discover(&self, path_mtu: usize) {
            let overhead = self.carrier.encapsulation.overhead();
            let mtu = u16::try_from(path_mtu - overhead).unwrap().to_be_bytes();
            self.carrier.control(Instant::ORIGIN, |machine| {
                machine.handle_too_big(Instant::ORIGIN, path_mtu);
            });
            assert_eq!(self.carrier.verified_mtu(), None);
            self.carrier.control(Instant::ORIGIN, |machine| {
                machine.handle_control(Instant::ORIGIN, 3, &mtu);
            });
            self.received();
        }
    }

    /// An Ethernet frame with an IPv4 packet of this many bytes.
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
    fn too_big_is_told_by_whoever_must_not_be_cut() {
        for (key, mtu) in [(None, 1438), (Some(SessionKey([1; 32])), 1414)] {
            let setup = setup(key);
            setup.discover(1500);
            assert_eq!(setup.carrier.mtu(), Some(mtu));
            assert_eq!(setup.carrier.verified_mtu(), Some(mtu));
            let length = u16::try_from(mtu).unwrap();
            assert_eq!(setup.forward(&ipv4(length, true), false), Forwarded::Taken);
            assert_eq!(setup.received(), [[ipv4(length, true)]]);
            for frame in [ipv4(length + 1, true), ipv6(length + 1)] {
                assert_eq!(setup.forward(&frame, false), Forwarded::TooBig { mtu });
            }
            assert_eq!(setup.forward(&ipv4(1500, true), true), Forwarded::TooBig { mtu });
            assert!(setup.received().is_empty());
            // Nobody would be content with less.
            setup.discover(1300);
            assert_eq!(setup.forward(&ipv6(1280), false), Forwarded::Taken);
            assert_eq!(setup.received(), [[ipv6(1280)]]);
            let small = setup.carrier.mtu().unwrap();
            assert!(small < 1280);
            assert_eq!(setup.forward(&ipv6(1281), false), Forwarded::TooBig { mtu: small });
            // Nobody could answer to all who get it.
            assert_eq!(setup.forward(&ipv6(length + 1), true), Forwarded::Taken);
            assert_eq!(setup.received(), [[ipv6(length + 1)]]);
        }
    }

    #[test]
    fn what_may_be_cut_is_cut_here_or_by_the_kernel() {
        let setup = setup(None);
        setup.discover(1500);
        let big = ipv4(4000, false);
        assert_eq!(setup.forward(&big, false), Forwarded::Taken);
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
        setup.carrier.control(Instant::ORIGIN, |m| m.handle_control(Instant::ORIGIN, 2, &[]));
        assert_eq!(setup.forward(&big, false), Forwarded::Taken);
        assert_eq!(setup.received(), [[big.clone()]]);

        setup.carrier.control(Instant::ORIGIN, |m| {
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
        assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Taken);
        setup.carrier.close();
        assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Refused);
        assert!(setup.received().is_empty(), "what was waiting is forgotten");
        assert_eq!(setup.carrier.sent.no_address.get(), 1);
    }

    #[test]
    fn unfinished_checksums_are_finished() {
        let setup = setup(None);
        let bytes = ipv4(100, true);
        let checksum = Some(ChecksumRequest { start: 34, offset: 6 });
        let frame = Frame { checksum, ..Frame::plain(&bytes) };
        let mut finished = bytes.clone();
        complete_checksum(&mut finished, 34, 6).unwrap();
        assert_eq!(setup.forward_marked(frame), Forwarded::Taken);
        assert_eq!(setup.received(), [[finished]]);

        let checksum = Some(ChecksumRequest { start: 34, offset: 600 });
        let frame = Frame { checksum, ..Frame::plain(&bytes) };
        assert_eq!(setup.forward_marked(frame), Forwarded::Dropped);
        assert_eq!(setup.carrier.sent.malformed.get(), 1);
    }

    #[test]
    fn super_frames_are_cut_to_what_the_path_takes() {
        for key in [None, Some(SessionKey([1; 32]))] {
            let setup = setup(key);
            let whole = super_frame(60_000, 1348);
            let segments = Segments::new(whole.frame()).unwrap();
            let expected: Vec<Vec<Vec<u8>>> = (0..segments.count())
                .map(|index| {
                    let mut frame = vec![0; segments.frame_len(index)];
                    segments.write(index, &mut frame);
                    vec![frame]
                })
                .collect();
            setup.carrier.published.max_payload.store(1472, Ordering::Relaxed);
            assert_eq!(setup.forward_marked(whole.frame()), Forwarded::Taken);
            assert_eq!(setup.received(), expected);
            assert_eq!(setup.carrier.sent.super_frames.get(), 1);

            setup.carrier.published.mtu.store(1000, Ordering::Relaxed);
            assert_eq!(setup.forward_marked(whole.frame()), Forwarded::Taken);
            let lengths: Vec<_> = setup.received().concat().iter().map(Vec::len).collect();
            assert!(lengths.iter().all(|length| *length <= 1014));
            assert_eq!(lengths.len(), 60_000_usize.div_ceil(1000 - 52));
        }
    }

    #[test]
    fn workers_have_batches_of_their_own() {
        let setup = setup(None);
        let other = WorkerId::new(63).unwrap();
        let (source, destination) = (setup.carrier.own, setup.carrier.remote);
        let frame = ipv4(100, true);
        let frame = Frame::plain(&frame);
        let envelope = Envelope { source, destination, frame, broadcast: false };
        assert_eq!(setup.carrier.forward(WORKER, envelope), Forwarded::Taken);
        assert_eq!(setup.carrier.forward(other, envelope), Forwarded::Taken);
        assert_eq!(setup.received().len(), 1);
        setup.carrier.flush(other);
        assert_eq!(setup.received().len(), 1);
    }

    #[test]
    fn a_lost_route_costs_frames_but_not_the_link() {
        let setup = setup(None);
        // The broadcast address: a socket needs a permission that this one does not have.
        setup.carrier.published.path.store(Some(Arc::new(Path {
            local: [127, 0, 0, 1].into(),
            remote: SocketAddr::from(([255, 255, 255, 255], 9)),
            trains: true,
        })));
        assert_eq!(setup.forward(&ipv4(100, true), false), Forwarded::Taken);
        assert!(setup.received().is_empty());
        assert_eq!(setup.carrier.sent.unreachable.get(), 1);
        assert_eq!(setup.carrier.poll_event(), None);
    }
}
