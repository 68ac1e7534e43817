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
use weave_core::mesh::{LinkRequest, PeerName};
use weave_core::mtu::{DEFAULT_FLOOR, MAX_UDP_PAYLOAD, PathMtu, UNKNOWN_MTU};
use weave_core::switch::{Envelope, Forwarded, Forwarder, LinkEvent, Waker, WorkerId};
use weave_core::time::Instant;
use weave_core::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;
use weave_core::wire::fragment;

use crate::aggregate::{Appended, Batch};
use crate::cipher::Channel;
use crate::clock::Clock;
use crate::counters::{Received, Sent};
use crate::encapsulation::{Draft, Encapsulation};
use crate::link::{Counts, LinkMachine, Special, TrainChange};
use crate::native::{self, Abilities, Form};
use crate::outlet::Outlet;
use crate::replay::Windows;
use crate::udp::{Path, UdpSockets, Unsent};
use crate::way::Way;
use weave_port::Counter;
use weave_port::offload::Segments;

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
    outlet: Arc<Outlet>,
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
        request: &LinkRequest,
        waker: Waker,
        abilities: &Abilities,
        sockets: Arc<UdpSockets>,
        clock: Clock,
    ) -> Self {
        let encapsulation = Encapsulation::agreed(request, abilities, clock.now());
        let path_mtu = PathMtu::new(encapsulation.overhead(), DEFAULT_FLOOR);
        // The accepting side would only know the port of the TCP connection.
        let remote = request.outbound.then_some(request.remote_address);
        let machine = LinkMachine::new(request.connection_uid, remote, path_mtu);
        let machine = match encapsulation {
            Encapsulation::Legacy(_) => machine,
            Encapsulation::Native(_) => machine.with_counts(),
        };
        let carrier = Self {
            own: request.own,
            remote: request.remote,
            encapsulation,
            sent: Sent::default(),
            received: Received::default(),
            windows: Mutex::default(),
            local: request.local_address.ip(),
            outlet: sockets.outlet(),
            sockets,
            clock,
            waker,
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
        let (form, length) = (Form::Complete, frame.len());
        let draft = Draft { source: self.own, destination: self.remote, form, length, write };
        let header = self.encapsulation.header_len();
        let trailer = self.encapsulation.trailer_len();
        datagram.clear();
        datagram.resize(header + self.encapsulation.record_len(&draft) + trailer, 0);
        let record = &mut datagram[header..];
        self.encapsulation.emit(&draft, record).expect("made with room for a frame below 64 KiB");
        let (channel, all) = (special.channel(), 0..datagram.len());
        let all = std::slice::from_ref(&all);
        if self.encapsulation.seal(now, self.own, channel, datagram, all).is_err() {
            return self.sent.unsealed.add(1);
        }
        let mut refused = None;
        let outlet = self.sockets.special_outlet();
        let handed = self.sockets.send(outlet, channel, path, datagram, all, |unsent| {
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
            (true, true) => "gso,gro",
            (true, false) => "gso",
            (false, true) => "gro",
            (false, false) => "none",
        };
        match self.lock().machine.train_loss() {
            None => trains.to_owned(),
            Some(lost) => format!("{trains},trains-off-for-{lost}%-loss"),
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
        let draft = Draft { source, destination, form: Form::Complete, length, write };
        self.append_draft(path, batch, &draft)
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
            let draft = Draft { source, destination, form, length, write };
            return self.append_draft(path, batch, &draft);
        }
        let Some(pieces) = segments.parts().and_then(native::pieces) else {
            return self.append_segments(path, batch, envelope, segments);
        };
        let (mut all, mut count, mut bytes) = (true, 0, 0);
        for piece in pieces {
            let write = |place: &mut [u8]| piece.write(place);
            let (form, length) = (piece.form, piece.len());
            let draft = Draft { source, destination, form, length, write };
            let taken = self.put(path, batch, &draft);
            all &= taken;
            count += usize::from(taken);
            bytes += if taken { length } else { 0 };
        }
        // Once for all of them, since threads share the counters.
        self.sent.frames.add(count);
        self.sent.bytes.add(bytes);
        all
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

    /// Appends a record to a batch.
    fn append_draft(
        &self,
        path: &Path,
        batch: &mut Batch,
        draft: &Draft<impl Fn(&mut [u8])>,
    ) -> bool {
        let taken = self.put(path, batch, draft);
        if taken {
            self.sent.frames.add(1);
            self.sent.bytes.add(draft.length);
        }
        taken
    }

    /// The same, but who calls counts what was taken. Sends the batch if that makes room.
    fn put(&self, path: &Path, batch: &mut Batch, draft: &Draft<impl Fn(&mut [u8])>) -> bool {
        let max_payload = self.published.max_payload.load(Ordering::Relaxed);
        let append = |batch: &mut Batch| batch.append(&self.encapsulation, max_payload, draft);
        let mut appended = append(batch);
        if appended == Appended::Full {
            self.transmit(path, batch);
            appended = append(batch);
        }
        match appended {
            Appended::Taken => true,
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
        let (outlet, channel) = (&self.outlet, batch.channel());
        let handed = self.sockets.send(outlet, channel, path, bytes, datagrams, |unsent| {
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

#[cfg(test)]
mod tests;
