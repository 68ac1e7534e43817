//! Seals datagrams, in several threads at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use arc_swap::{ArcSwap, Guard};
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;

use super::schedule::{EpochKey, Ratchet};
use super::{EPOCH_AGE, EPOCH_DATAGRAMS, HEADER_LEN, SEALED, Suite, TAG_LEN};

/// Numbers left when the next key is due. While one thread derives it, the others continue with
/// these without waiting.
const RESERVE: u32 = 1 << 16;

/// Datagrams that take their numbers together.
const BATCH: usize = 64;

/// Seals what one side of a connection sends.
///
/// Threads share one counter for each key; a thread takes the numbers of a whole batch at once.
#[derive(Debug)]
pub struct Sealer {
    suite: Suite,
    /// Numbers per epoch: [`EPOCH_DATAGRAMS`], except in tests.
    limit: u64,
    current: ArcSwap<Epoch>,
    /// Used by the thread that starts the next epoch.
    ratchet: Mutex<Ratchet>,
}

/// One key and the numbers used with it.
#[derive(Debug)]
struct Epoch {
    number: u64,
    since: Instant,
    key: EpochKey,
    next: Counter,
}

/// Numbers handed out. Those beyond the limit are not used. The counter has a cache line of its
/// own, because all threads write to it and read what lies beside it. It has 64 bits so that it
/// cannot wrap while threads find it used up.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

impl Sealer {
    /// Starts a session; `outbound` is true on the side that dialled.
    pub fn new(key: &SessionKey, outbound: bool, suite: Suite, now: Instant) -> Self {
        Self::with_limit(key, outbound, suite, now, EPOCH_DATAGRAMS)
    }

    /// Does the same with epochs of `limit` numbers, which are more than [`BATCH`].
    pub(super) fn with_limit(
        key: &SessionKey,
        outbound: bool,
        suite: Suite,
        now: Instant,
        limit: u32,
    ) -> Self {
        let mut ratchet = Ratchet::new(key, outbound, suite);
        let first = Epoch::new(0, now, &mut ratchet);
        Self {
            suite,
            limit: limit.into(),
            current: ArcSwap::from_pointee(first),
            ratchet: Mutex::new(ratchet),
        }
    }

    /// Returns the cipher suite.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Seals a datagram in place: room for the header, plaintext, room for the tag.
    ///
    /// # Panics
    /// If the datagram is shorter than header and tag.
    pub fn seal(&self, now: Instant, own: PeerName, datagram: &mut [u8]) {
        let (epoch, counter) = self.take(now, 1);
        epoch.seal(own, counter, datagram);
    }

    /// Seals several datagrams in one buffer, each as for [`Self::seal`], which is cheaper.
    ///
    /// # Panics
    /// If a datagram is shorter than header and tag, or not within the buffer.
    pub fn seal_batch(
        &self,
        now: Instant,
        own: PeerName,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) {
        for datagrams in datagrams.chunks(BATCH) {
            let (epoch, first) = self.take(now, datagrams.len() as u64);
            for (counter, datagram) in (first..).zip(datagrams) {
                epoch.seal(own, counter, &mut arena[datagram.clone()]);
            }
        }
    }

    /// Takes `count` consecutive numbers of one epoch for the caller alone, and returns the first.
    fn take(&self, now: Instant, count: u64) -> (Guard<Arc<Epoch>>, u32) {
        loop {
            let epoch = self.current.load();
            // No other memory depends on the order in which threads take theirs.
            let first = epoch.next.0.fetch_add(count, Ordering::Relaxed);
            let end = first + count;
            let spent = end > self.limit;
            let due = end > self.limit - (self.limit / 2).min(RESERVE.into())
                || now.saturating_since(epoch.since) >= EPOCH_AGE;
            // The remaining numbers of the old epoch are unused, which is harmless.
            if due && self.leave(epoch.number, now, spent) {
                continue;
            }
            let first = u32::try_from(first).expect("below the limit, which has 32 bits");
            return (epoch, first);
        }
    }

    /// Starts the epoch after this one, unless another thread has, or, if there is no need to
    /// `wait`, is about to. Returns whether this epoch is no longer the current one.
    fn leave(&self, number: u64, now: Instant, wait: bool) -> bool {
        let mut ratchet = match self.ratchet.try_lock() {
            Ok(ratchet) => ratchet,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if wait => {
                self.ratchet.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(TryLockError::WouldBlock) => return false,
        };
        if self.current.load().number == number {
            self.current.store(Arc::new(Epoch::new(number + 1, now, &mut ratchet)));
        }
        true
    }
}

impl Epoch {
    fn new(number: u64, since: Instant, ratchet: &mut Ratchet) -> Self {
        Self { number, since, key: ratchet.advance(), next: Counter::default() }
    }

    fn seal(&self, own: PeerName, counter: u32, datagram: &mut [u8]) {
        let (header, rest) =
            datagram.split_first_chunk_mut::<HEADER_LEN>().expect("made with room for the header");
        let (text, tag) =
            rest.split_last_chunk_mut::<TAG_LEN>().expect("made with room for the tag");
        let [_, _, _, _, _, _, _, epoch] = self.number.to_be_bytes();
        header[0] = SEALED;
        header[1] = epoch;
        header[2..8].copy_from_slice(&own.to_bytes());
        header[8..].copy_from_slice(&counter.to_be_bytes());
        *tag = self.key.seal(counter, header, text);
    }
}
