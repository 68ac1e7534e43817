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
use weave_core::wire::{Classified, fragment};

use crate::aggregate::{Appended, Batch};
use crate::cipher::{Channel, Cipher, LegacyBox};
use crate::clock::Clock;
use crate::counters::{Received, Sent};
use crate::datagram::put_record;
use crate::link::{LinkMachine, Special};
use crate::replay::Windows;
use crate::udp::{Path, UdpSockets, Unsent};

const ETHERNET_HEADER: usize = 14;

/// A link, as data threads see it.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) own: PeerName,
    pub(crate) remote: PeerName,
    pub(crate) cipher: Cipher,
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
    max_payload: AtomicUsize,
    stack_fragments: AtomicBool,
}

/// What one worker has not sent yet.
#[derive(Debug)]
struct Batches {
    unfragmented: Batch,
    /// Made when it is first needed: most traffic is not fragmentable.
    fragmentable: Option<Batch>,
    /// For a piece of a frame that is cut here.
    piece: Vec<u8>,
}

#[derive(Debug)]
struct Control {
    machine: LinkMachine,
    /// For special frames.
    datagram: Vec<u8>,
}

impl Carrier {
    pub(crate) fn new(params: &LinkParams, sockets: Arc<UdpSockets>, clock: Clock) -> Self {
        let cipher = match &params.session_key {
            None => Cipher::Plain,
            Some(key) => Cipher::Legacy(LegacyBox::new(key.clone(), params.outbound)),
        };
        let path_mtu = PathMtu::new(cipher.overhead(), DEFAULT_FLOOR);
        // The accepting side would only know the port of the TCP connection.
        let remote = params.outbound.then_some(params.remote_address);
        let carrier = Self {
            own: params.own,
            remote: params.remote,
            cipher,
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
                max_payload: AtomicUsize::new(MAX_UDP_PAYLOAD),
                stack_fragments: AtomicBool::new(false),
            },
            batches: (0..WorkerId::MAX).map(|_| OnceLock::new()).collect(),
            control: Mutex::new(Control {
                machine: LinkMachine::new(params.connection_uid, remote, path_mtu),
                datagram: Vec::new(),
            }),
        };
        carrier.publish(&carrier.lock().machine);
        carrier
    }

    /// Gives an input to the machine, sends what it wants to send, and publishes what changed.
    pub(crate) fn control<T>(&self, now: Instant, input: impl FnOnce(&mut LinkMachine) -> T) -> T {
        let mut control = self.lock();
        let control = &mut *control;
        let output = input(&mut control.machine);
        while let Some(special) = control.machine.poll_transmit() {
            if let Some(remote) = control.machine.remote() {
                let path = Path { local: self.local, remote };
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
        let header = self.cipher.header_len();
        let mut frame = Vec::new();
        special.emit(&mut frame);
        datagram.clear();
        datagram.resize(header + crate::datagram::RECORD_HEADER + frame.len(), 0);
        put_record(datagram, header, self.own, self.remote, &frame);
        if self.cipher.seal(self.own, special.channel(), datagram).is_err() {
            return self.sent.unsealed.add(1);
        }
        let mut refused = None;
        let all = 0..datagram.len();
        self.sockets.send(special.channel(), path, datagram, &[all], |unsent| {
            refused = Some(unsent);
        });
        match refused {
            None => self.sent.datagrams.add(1),
            Some(Unsent::TooBig) => {
                if let Ok(path_mtu) = UdpSockets::path_mtu(path) {
                    machine.handle_too_big(now, path_mtu);
                }
            }
            Some(Unsent::QueueFull) => self.sent.queue_full.add(1),
            Some(Unsent::Unreachable) => self.sent.unreachable.add(1),
        }
    }

    fn publish(&self, machine: &LinkMachine) {
        let Published { path, mtu, max_payload, stack_fragments } = &self.published;
        let current = machine.remote().map(|remote| Path { local: self.local, remote });
        if path.load().as_deref() != current.as_ref() {
            path.store(current.map(Arc::new));
        }
        mtu.store(machine.path_mtu().mtu(), Ordering::Relaxed);
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
                piece: Vec::new(),
            }))
        });
        Some(batches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends a frame to a batch, and sends the batch if that makes room.
    fn append(
        &self,
        path: &Path,
        batch: &mut Batch,
        envelope: &Envelope<'_>,
        frame: &[u8],
    ) -> bool {
        let max_payload = self.published.max_payload.load(Ordering::Relaxed);
        let names = (envelope.source, envelope.destination);
        let append =
            |batch: &mut Batch| batch.append(&self.cipher, max_payload, self.own, names, frame);
        let mut appended = append(batch);
        if appended == Ok(Appended::Full) {
            self.transmit(path, batch);
            appended = append(batch);
        }
        match appended {
            Ok(Appended::Taken) => {
                self.sent.frames.add(1);
                self.sent.bytes.add(frame.len());
                true
            }
            Ok(Appended::TooLong | Appended::Full) => {
                self.sent.oversize.add(1);
                false
            }
            Err(_) => {
                self.sent.unsealed.add(1);
                false
            }
        }
    }

    /// Sends what is in a batch.
    fn transmit(&self, path: &Path, batch: &mut Batch) {
        if batch.close(&self.cipher, self.own).is_err() {
            self.sent.unsealed.add(1);
        }
        let (bytes, datagrams) = batch.datagrams();
        let (mut lost, mut too_big) = (0, false);
        self.sockets.send(batch.channel(), path, bytes, datagrams, |unsent| {
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
        self.sent.datagrams.add(datagrams.len().saturating_sub(lost));
        batch.clear();
        if too_big && let Ok(path_mtu) = UdpSockets::path_mtu(path) {
            let now = self.clock.now();
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
        let frame = envelope.frame.bytes;
        if envelope.frame.checksum.is_some() || envelope.frame.segmentation.is_some() {
            self.sent.unfinished.add(1);
            return Forwarded::Dropped;
        }
        let mtu = self.published.mtu.load(Ordering::Relaxed);
        let way = Way::of(frame, frame.len() > mtu + ETHERNET_HEADER, envelope.broadcast);
        let Some(mut batches) = self.batches(worker) else { return Forwarded::Refused };
        let Batches { unfragmented, fragmentable, piece } = &mut *batches;
        let taken = match way {
            Way::TooBig => return Forwarded::TooBig { mtu },
            Way::Whole => self.append(path, unfragmented, &envelope, frame),
            Way::Cut if !self.stack_fragments() => {
                let Ok(pieces) = fragment(frame, mtu) else {
                    self.sent.oversize.add(1);
                    return Forwarded::Dropped;
                };
                let mut taken = true;
                for part in pieces {
                    piece.resize(part.frame_len(), 0);
                    taken &= part.write(piece).is_some()
                        && self.append(path, unfragmented, &envelope, piece);
                }
                taken
            }
            Way::Cut | Way::Fragmentable => {
                let batch = fragmentable.get_or_insert_with(|| Batch::new(Channel::Fragmentable));
                self.append(path, batch, &envelope, frame)
            }
        };
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
    /// too big unless many would answer at once. Weave Net sends all IPv6 like `Fragmentable`;
    /// the receiver cannot tell.
    fn of(frame: &[u8], too_big: bool, broadcast: bool) -> Self {
        match Classified::of(frame) {
            Classified::Ipv4 { .. } | Classified::Ipv6 { .. } if !too_big => Self::Whole,
            Classified::Ipv4 { packet, .. } if packet.dont_fragment() => Self::TooBig,
            Classified::Ipv4 { .. } => Self::Cut,
            Classified::Ipv6 { .. } if !broadcast => Self::TooBig,
            _ => Self::Fragmentable,
        }
    }
}
