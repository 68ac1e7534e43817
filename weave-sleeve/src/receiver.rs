//! Datagrams come in (spec sleeve.md, section 3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};

use weave_core::switch::{Arrival, Frame};

use crate::carrier::Carrier;
use crate::cipher::OpenError;
use crate::clock::Clock;
use crate::counters::Counter;
use crate::datagram::{self, Record, Records};
use crate::link::is_special;
use crate::port::More;
use crate::registry::Registry;
use crate::sys::udp::Arrived;
use crate::udp::UdpSockets;

/// Datagrams, or trains of them, per system call.
const BATCH: usize = 32;

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
}

impl ReceiverCounters {
    /// By name; the names never change.
    pub fn list(&self) -> [(&'static str, u64); 4] {
        [
            ("rx_dropped_short", self.short.get()),
            ("rx_dropped_unknown_sender", self.unknown_sender.get()),
            ("rx_errors", self.errors.get()),
            // Those that brought at least one datagram.
            ("rx_calls", self.calls.get()),
        ]
    }
}

/// Takes in the datagrams of all links.
#[derive(Debug)]
pub struct Receiver {
    sockets: Arc<UdpSockets>,
    registry: Arc<Registry>,
    strangers: Arc<ReceiverCounters>,
    clock: Clock,
    buffer: Box<[u8]>,
    received: Box<[Arrived; BATCH]>,
}

impl Receiver {
    pub(crate) fn new(
        sockets: Arc<UdpSockets>,
        registry: Arc<Registry>,
        strangers: Arc<ReceiverCounters>,
        clock: Clock,
    ) -> Self {
        let buffer = vec![0; SLOT * BATCH].into();
        let received = Box::new([Arrived::default(); BATCH]);
        Self { sockets, registry, strangers, clock, buffer, received }
    }

    /// Readable when [`Self::receive`] has something to do.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.sockets.readiness()
    }

    /// Hands over the frames of the datagrams at hand, up to a batch. Never waits. Special frames
    /// are dealt with here.
    pub fn receive(&mut self, mut each: impl FnMut(Arrival, Frame<'_>)) -> More {
        let Self { sockets, registry, strangers, clock, buffer, received } = self;
        let count = match sockets.receive(buffer, &mut received[..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return More::No,
            Err(error) => {
                // A socket reports what went wrong with an earlier datagram; nothing of it
                // concerns the next ones.
                tracing::debug!(%error, "receiving from the UDP socket");
                strangers.errors.add(1);
                return More::No;
            }
        };
        strangers.calls.add(1);
        let links = registry.links();
        for (slot, arrived) in buffer.chunks_exact_mut(SLOT).zip(&received[..count]) {
            let Arrived { length, segment, from: Some(from) } = *arrived else { continue };
            if length == 0 {
                strangers.short.add(1);
            }
            let train = slot.get_mut(..length).unwrap_or_default();
            for datagram in train.chunks_mut(segment.max(1)) {
                let Ok(sender) = datagram::sender(datagram) else {
                    strangers.short.add(1);
                    continue;
                };
                match links.of(sender) {
                    Some(carrier) => take_apart(carrier, clock, from, datagram, &mut each),
                    None => strangers.unknown_sender.add(1),
                }
            }
        }
        if count == BATCH { More::Likely } else { More::No }
    }
}

/// Opens a datagram of this link and hands over its frames.
fn take_apart(
    carrier: &Carrier,
    clock: &Clock,
    from: SocketAddr,
    datagram: &mut [u8],
    each: &mut impl FnMut(Arrival, Frame<'_>),
) {
    let counters = &carrier.received;
    let opened = {
        let mut windows = carrier.windows.lock().unwrap_or_else(PoisonError::into_inner);
        carrier.cipher.open(&mut windows, datagram)
    };
    let records = match opened {
        Ok(records) => records,
        Err(OpenError::Forged) => return counters.forged.add(1),
        Err(OpenError::Replayed) => return counters.replayed.add(1),
        Err(OpenError::TooShort { .. }) => return counters.malformed.add(1),
    };
    let (mut frames, mut bytes) = (0, 0);
    for record in Records::new(records) {
        let Ok(Record { source, destination, frame }) = record else {
            counters.malformed.add(1);
            break;
        };
        if is_special(frame) {
            if source == carrier.remote && destination == carrier.own {
                let now = clock.now();
                carrier.control_and_wake(now, |machine| machine.handle_special(now, from, frame));
            } else {
                counters.misdirected.add(1);
            }
            continue;
        }
        frames += 1;
        bytes += frame.len();
        each(Arrival { neighbour: carrier.remote, source, destination }, Frame::plain(frame));
    }
    counters.datagrams.add(1);
    counters.frames.add(frames);
    counters.bytes.add(bytes);
}
