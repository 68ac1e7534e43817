//! The state that the control half and the data half of a link share.
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

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use weave_core::mesh::{LinkRequest, PeerName};
use weave_core::metric::Counter;
use weave_core::mtu::{DEFAULT_FLOOR, MAX_UDP_PAYLOAD, PathMtu, UNKNOWN_MTU};
use weave_core::switch::{Envelope, Forwarded, Forwarder, LinkEvent, Waker, WorkerId};
use weave_core::time::{Clock, Instant};
use weave_core::wire::ethernet::HEADER_LEN as ETHERNET_HEADER;
use weave_core::wire::fragment;
use weave_port::offload::Segments;

use crate::aggregate::{AppendOutcome, Batch};
use crate::cipher::Channel;
use crate::counters::{Received, Sent};
use crate::encapsulation::{Draft, Encapsulation};
use crate::fragment_policy::FragmentPolicy;
use crate::link::{Counts, GsoChange, LinkMachine, SpecialFrame};
use crate::native::{self, Capabilities, Form};
use crate::replay::Windows;
use crate::send_sockets::SendSockets;
use crate::udp::{Path, SendFailure, UdpSockets};

/// A link, as data threads see it.
#[derive(Debug)]
pub(crate) struct SleeveForwarder {
    pub(crate) own: PeerName,
    pub(crate) remote: PeerName,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) sent: Sent,
    pub(crate) received: Received,
    /// Used by the receiving thread alone, so that the lock is never contended.
    pub(crate) windows: Mutex<Windows>,
    local: std::net::IpAddr,
    sockets: Arc<UdpSockets>,
    send_sockets: Arc<SendSockets>,
    clock: Clock,
    waker: Waker,
    published: PublishedState,
    /// Indexed by worker. Batches are allocated when a worker first uses the link.
    batches: Box<[OnceLock<Box<Mutex<WorkerBatches>>>]>,
    control: Mutex<Control>,
}

/// The part of the link's state that data threads read.
#[derive(Debug)]
struct PublishedState {
    path: ArcSwapOption<Path>,
    mtu: AtomicUsize,
    /// Whether the neighbour acknowledged a frame of that size.
    mtu_verified: AtomicBool,
    max_payload: AtomicUsize,
    stack_fragments: AtomicBool,
}

/// The unsent datagrams of one worker.
#[derive(Debug)]
struct WorkerBatches {
    unfragmented: Batch,
    /// Allocated when it is first needed: most traffic is not fragmentable.
    fragmentable: Option<Batch>,
    /// Buffer for a frame that is fragmented here.
    whole: Vec<u8>,
}

#[derive(Debug)]
struct Control {
    machine: LinkMachine,
    /// Buffer for special frames.
    datagram: Vec<u8>,
}

impl SleeveForwarder {
    pub(crate) fn new(
        request: &LinkRequest,
        waker: Waker,
        capabilities: &Capabilities,
        sockets: Arc<UdpSockets>,
        clock: Clock,
    ) -> Self {
        let encapsulation = Encapsulation::negotiated(request, capabilities, clock.now());
        let path_mtu = PathMtu::new(encapsulation.overhead(), DEFAULT_FLOOR);
        // The accepting side would only know the port of the TCP connection.
        let remote = request.outbound.then_some(request.remote_address);
        let machine = LinkMachine::new(request.connection_uid, remote, path_mtu);
        let machine = match encapsulation {
            Encapsulation::Legacy(_) => machine,
            Encapsulation::Native(..) => machine.with_counts(),
        };
        let forwarder = Self {
            own: request.own,
            remote: request.remote,
            encapsulation,
            sent: Sent::default(),
            received: Received::default(),
            windows: Mutex::default(),
            local: request.local_address.ip(),
            send_sockets: sockets.send_sockets(),
            sockets,
            clock,
            waker,
            published: PublishedState {
                path: ArcSwapOption::empty(),
                mtu: AtomicUsize::new(UNKNOWN_MTU),
                mtu_verified: AtomicBool::new(false),
                max_payload: AtomicUsize::new(MAX_UDP_PAYLOAD),
                stack_fragments: AtomicBool::new(false),
            },
            batches: (0..WorkerId::MAX).map(|_| OnceLock::new()).collect(),
            control: Mutex::new(Control { machine, datagram: Vec::new() }),
        };
        forwarder.publish(&forwarder.lock().machine);
        forwarder
    }

    /// Passes an input to the state machine, sends its special frames, and publishes its state.
    pub(crate) fn control<T>(&self, now: Instant, input: impl FnOnce(&mut LinkMachine) -> T) -> T {
        let mut control = self.lock();
        let control = &mut *control;
        control.machine.set_counts(self.counts());
        let output = input(&mut control.machine);
        if let Some(change) = control.machine.poll_gso_change() {
            self.log_gso_change(change);
        }
        while let Some(special) = control.machine.poll_transmit() {
            if let Some(remote) = control.machine.remote() {
                let path = Path { local: self.local, remote, gso: false };
                self.send_special(now, control, &path, special);
            }
        }
        self.publish(&control.machine);
        output
    }

    /// Does the same from a data thread, and wakes the router if it has to look at events and
    /// timers.
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

    /// Returns whether the neighbour may send from this address. Nothing else identifies the sender
    /// of an unencrypted datagram.
    pub(crate) fn takes_from(&self, from: SocketAddr) -> bool {
        self.encapsulation.cipher().is_some()
            || self.published.path.load().as_ref().is_some_and(|path| path.remote == from)
    }

    /// Returns whether the kernel may fragment datagrams that are larger than the path MTU.
    pub(crate) fn stack_fragments(&self) -> bool {
        self.published.stack_fragments.load(Ordering::Relaxed)
    }

    /// Returns the overlay MTU, once it is known.
    pub(crate) fn mtu(&self) -> Option<usize> {
        let mtu = self.published.mtu.load(Ordering::Relaxed);
        (mtu != UNKNOWN_MTU).then_some(mtu)
    }

    /// Returns the overlay MTU, once a frame of that size got through.
    pub(crate) fn verified_mtu(&self) -> Option<usize> {
        self.mtu().filter(|_| self.published.mtu_verified.load(Ordering::Relaxed))
    }

    /// Refuses all further frames.
    pub(crate) fn close(&self) {
        self.published.path.store(None);
    }

    /// Returns the next event of the state machine.
    pub(crate) fn poll_event(&self) -> Option<LinkEvent> {
        self.lock().machine.poll_event()
    }

    /// Returns when the state machine next needs its timer.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.lock().machine.poll_timeout()
    }

    fn send_special(
        &self,
        now: Instant,
        control: &mut Control,
        path: &Path,
        special: SpecialFrame,
    ) {
        let Control { machine, datagram } = control;
        let mut frame = Vec::new();
        special.emit(&mut frame);
        let write = |place: &mut [u8]| place.copy_from_slice(&frame);
        let (form, length) = (Form::Complete, frame.len());
        let (source, destination) = (self.own, self.remote);
        let draft = Draft { source, destination, form, relays: 0, length, write };
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
        let send_sockets = self.sockets.special_sockets();
        let stats = self.sockets.send(send_sockets, channel, path, datagram, all, |failure| {
            refused = Some(failure);
        });
        self.sent.calls.add(stats.calls);
        self.sent.batches.add_all(&stats.batches);
        match refused {
            None => {
                self.sent.special.add(1);
                self.sent.datagrams.add(1);
            }
            Some(SendFailure::TooBig) => {
                if let Ok(path_mtu) = UdpSockets::path_mtu(path) {
                    machine.handle_too_big(now, path_mtu);
                }
            }
            Some(SendFailure::QueueFull) => self.sent.queue_full.add(1),
            Some(SendFailure::Unreachable) => self.sent.unreachable.add(1),
        }
    }

    /// Returns the counts that both sides compare.
    fn counts(&self) -> Counts {
        let Self { sent, received, .. } = self;
        let but = |all: &Counter, special: &Counter| all.get().saturating_sub(special.get());
        Counts {
            sent: but(&sent.datagrams, &sent.special),
            in_batches: sent.in_batches.get(),
            opened: but(&received.datagrams, &received.special),
            unopened: received.forged.get() + received.replayed.get() + received.epoch.get(),
        }
    }

    fn log_gso_change(&self, change: GsoChange) {
        let peer = self.remote;
        match change {
            GsoChange::Disabled { lost, damaged, backoff } => {
                self.sent.gso_disabled.add(1);
                tracing::warn!(
                    %peer,
                    "{lost} % of the datagrams sent in GSO batches are lost, {damaged} % of these arrive \
                     damaged: sending them one by one for {} s",
                    backoff.as_secs()
                );
            }
            GsoChange::Retried => tracing::info!(%peer, "sending datagrams in GSO batches again"),
            GsoChange::Cleared { lost } => tracing::info!(
                %peer,
                "{lost} % of the datagrams sent one by one are lost, too: sending them in batches \
                 again"
            ),
        }
    }

    fn publish(&self, machine: &LinkMachine) {
        let PublishedState { path, mtu, mtu_verified, max_payload, stack_fragments } =
            &self.published;
        let gso = machine.uses_gso();
        let current = machine.remote().map(|remote| Path { local: self.local, remote, gso });
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

    fn batches(&self, worker: WorkerId) -> Option<MutexGuard<'_, WorkerBatches>> {
        let place = self.batches.get(worker.get())?;
        let batches = place.get_or_init(|| {
            Box::new(Mutex::new(WorkerBatches {
                unfragmented: Batch::new(Channel::DontFragment),
                fragmentable: None,
                whole: Vec::new(),
            }))
        });
        Some(batches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns what the kernel does for this link, for the status: segmenting batches of datagrams
    /// and coalescing them.
    pub(crate) fn offload(&self) -> String {
        let kernel = match self.sockets.offloads() {
            (true, true) => "gso,gro",
            (true, false) => "gso",
            (false, true) => "gro",
            (false, false) => "none",
        };
        match self.lock().machine.gso_loss() {
            None => kernel.to_owned(),
            Some(lost) => format!("{kernel},trains-off-for-{lost}%-loss"),
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
        let Envelope { source, destination, relays, .. } = *envelope;
        let form = Form::Complete;
        let draft = Draft { source, destination, form, relays, length, write };
        self.append_draft(path, batch, &draft)
    }

    /// Appends a frame in the native format, if possible without segmenting it or completing its
    /// checksum.
    fn append_native(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        segments: &Segments<'_>,
    ) -> bool {
        let Envelope { source, destination, frame, relays, .. } = *envelope;
        if segments.lacks_only_checksum() {
            let (form, length) = (Form::Unfinished, frame.bytes.len());
            let write = |place: &mut [u8]| place.copy_from_slice(frame.bytes);
            let draft = Draft { source, destination, form, relays, length, write };
            return self.append_draft(path, batch, &draft);
        }
        let Some(segments) = segments.parts().and_then(native::segments) else {
            return self.append_segments(path, batch, envelope, segments);
        };
        let (mut all, mut count, mut bytes) = (true, 0, 0);
        for segment in segments {
            let write = |place: &mut [u8]| segment.write(place);
            let (form, length) = (segment.form, segment.len());
            let draft = Draft { source, destination, form, relays, length, write };
            let appended = self.append_uncounted(path, batch, &draft);
            all &= appended;
            count += usize::from(appended);
            bytes += if appended { length } else { 0 };
        }
        // Added once for all segments, since threads share the counters.
        self.sent.frames.add(count);
        self.sent.bytes.add(bytes);
        all
    }

    /// Appends the frames that a captured frame stands for.
    fn append_segments(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        segments: &Segments<'_>,
    ) -> bool {
        let mut appended = true;
        for index in 0..segments.count() {
            let write = |place: &mut [u8]| segments.write(index, place);
            appended &= self.append(path, batch, envelope, segments.frame_len(index), write);
        }
        appended
    }

    /// Appends a record to a batch.
    fn append_draft(
        &self,
        path: &Path,
        batch: &mut Batch,
        draft: &Draft<impl Fn(&mut [u8])>,
    ) -> bool {
        let appended = self.append_uncounted(path, batch, draft);
        if appended {
            self.sent.frames.add(1);
            self.sent.bytes.add(draft.length);
        }
        appended
    }

    /// Appends a record without counting it, and sends the batch if that makes room.
    fn append_uncounted(
        &self,
        path: &Path,
        batch: &mut Batch,
        draft: &Draft<impl Fn(&mut [u8])>,
    ) -> bool {
        let max_payload = self.published.max_payload.load(Ordering::Relaxed);
        let append = |batch: &mut Batch| batch.append(&self.encapsulation, max_payload, draft);
        let mut appended = append(batch);
        if appended == AppendOutcome::Full {
            self.transmit(path, batch);
            appended = append(batch);
        }
        match appended {
            AppendOutcome::Appended => true,
            AppendOutcome::TooLong | AppendOutcome::Full => {
                self.sent.oversize.add(1);
                false
            }
        }
    }

    /// Fragments an IP packet to the size of the path, and appends the fragments.
    fn append_fragments(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        whole: &[u8],
        mtu: usize,
    ) -> bool {
        let Ok(fragments) = fragment(whole, mtu) else {
            self.sent.oversize.add(1);
            return false;
        };
        let mut appended = true;
        for fragment in fragments {
            let write = |place: &mut [u8]| {
                fragment.write(place).expect("a place of its length");
            };
            appended &= self.append(path, batch, envelope, fragment.frame_len(), write);
        }
        appended
    }

    /// Seals and sends a batch.
    fn transmit(&self, path: &Path, batch: &mut Batch) {
        let now = self.clock.now();
        let sealed = batch.seal(now, &self.encapsulation, self.own);
        let (bytes, datagrams) = batch.datagrams();
        if sealed.is_err() {
            self.sent.unsealed.add(datagrams.len());
            return batch.clear();
        }
        let (mut lost, mut too_big) = (0, false);
        let (send_sockets, channel) = (&self.send_sockets, batch.channel());
        let stats = self.sockets.send(send_sockets, channel, path, bytes, datagrams, |failure| {
            lost += 1;
            match failure {
                SendFailure::TooBig => {
                    too_big = true;
                    self.sent.too_big.add(1);
                }
                SendFailure::QueueFull => self.sent.queue_full.add(1),
                SendFailure::Unreachable => self.sent.unreachable.add(1),
            }
        });
        self.sent.calls.add(stats.calls);
        self.sent.batches.add_all(&stats.batches);
        self.sent.in_batches.add(stats.in_batches);
        self.sent.datagrams.add(datagrams.len().saturating_sub(lost));
        batch.clear();
        if too_big && let Ok(path_mtu) = UdpSockets::path_mtu(path) {
            self.control_and_wake(now, |machine| machine.handle_too_big(now, path_mtu));
        }
    }
}

impl Forwarder for SleeveForwarder {
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
        let policy = FragmentPolicy::of(envelope.frame.bytes, too_big, envelope.broadcast);
        let Some(mut batches) = self.batches(worker) else { return Forwarded::Refused };
        let WorkerBatches { unfragmented, fragmentable, whole } = &mut *batches;
        let appended = match policy {
            FragmentPolicy::TooBig => return Forwarded::TooBig { mtu },
            FragmentPolicy::Unfragmented => match self.encapsulation {
                Encapsulation::Legacy(_) => {
                    self.append_segments(path, unfragmented, &envelope, &segments)
                }
                Encapsulation::Native(..) => {
                    self.append_native(path, unfragmented, &envelope, &segments)
                }
            },
            FragmentPolicy::Fragment if !self.stack_fragments() => {
                let mut appended = true;
                for index in 0..segments.count() {
                    whole.resize(segments.frame_len(index), 0);
                    segments.write(index, whole);
                    appended &= self.append_fragments(path, unfragmented, &envelope, whole, mtu);
                }
                appended
            }
            FragmentPolicy::Fragment | FragmentPolicy::Fragmentable => {
                let batch = fragmentable.get_or_insert_with(|| Batch::new(Channel::Fragmentable));
                self.append_segments(path, batch, &envelope, &segments)
            }
        };
        if envelope.frame.segmentation.is_some() {
            self.sent.super_frames.add(1);
        }
        if appended { Forwarded::Accepted } else { Forwarded::Dropped }
    }

    fn flush(&self, worker: WorkerId) {
        let Some(mut batches) = self.batches(worker) else { return };
        let WorkerBatches { unfragmented, fragmentable, .. } = &mut *batches;
        let path = self.published.path.load();
        for batch in [Some(unfragmented), fragmentable.as_mut()].into_iter().flatten() {
            match path.as_deref() {
                _ if batch.is_empty() => {}
                Some(path) => self.transmit(path, batch),
                // The link was closed in the meantime.
                None => batch.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
