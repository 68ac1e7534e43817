//! Sealing, by several threads at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use arc_swap::{ArcSwap, Guard};
use weave_core::mesh::{PeerName, SessionKey};
use weave_core::time::Instant;

use super::schedule::{EpochKey, Ratchet};
use super::{EPOCH_AGE, EPOCH_DATAGRAMS, HEADER_LEN, SEALED, Suite, TAG_LEN};

/// Numbers left when the next key is due. While one thread makes it, the others go on with these
/// and wait for nothing.
const RESERVE: u32 = 1 << 16;

/// Datagrams that take their numbers together.
const TRAIN: usize = 64;

/// Seals what one side of a connection sends.
///
/// Threads share one counter for each key; a thread takes the numbers of a train at once.
#[derive(Debug)]
pub struct Sealer {
    suite: Suite,
    /// Numbers of an epoch. [`EPOCH_DATAGRAMS`], but for tests.
    limit: u64,
    current: ArcSwap<Epoch>,
    /// For whoever goes to the next epoch.
    ratchet: Mutex<Ratchet>,
}

/// What is sealed with one key.
#[derive(Debug)]
struct Epoch {
    number: u64,
    since: Instant,
    key: EpochKey,
    taken: Counter,
}

/// Numbers handed out; beyond the limit they are not used. On a cache line of its own: all
/// threads write to it and read what lies beside it. It has 64 bits so that it cannot wrap while
/// threads find it used up.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

impl Sealer {
    /// A fresh session; `outbound` if this side dialled.
    pub fn new(key: &SessionKey, outbound: bool, suite: Suite, now: Instant) -> Self {
        Self::with_limit(key, outbound, suite, now, EPOCH_DATAGRAMS)
    }

    /// The same with other epochs, of more numbers than [`TRAIN`].
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

    /// What it seals with.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Seals a datagram where it lies: room for the header, plaintext, room for the tag.
    ///
    /// # Panics
    /// If the datagram is shorter than header and tag.
    pub fn seal(&self, now: Instant, own: PeerName, datagram: &mut [u8]) {
        let (epoch, counter) = self.take(now, 1);
        epoch.seal(own, counter, datagram);
    }

    /// Seals several datagrams that lie in one buffer, each as for [`Self::seal`], and cheaper.
    ///
    /// # Panics
    /// If a datagram is shorter than header and tag, or not within the buffer.
    pub fn seal_train(
        &self,
        now: Instant,
        own: PeerName,
        arena: &mut [u8],
        datagrams: &[Range<usize>],
    ) {
        for datagrams in datagrams.chunks(TRAIN) {
            let (epoch, first) = self.take(now, datagrams.len() as u64);
            for (counter, datagram) in (first..).zip(datagrams) {
                epoch.seal(own, counter, &mut arena[datagram.clone()]);
            }
        }
    }

    /// That many numbers of one epoch, for the caller alone, from the returned one on.
    fn take(&self, now: Instant, count: u64) -> (Guard<Arc<Epoch>>, u32) {
        loop {
            let epoch = self.current.load();
            // No other memory depends on the order in which threads take theirs.
            let first = epoch.taken.0.fetch_add(count, Ordering::Relaxed);
            let end = first + count;
            let spent = end > self.limit;
            let due = end > self.limit - (self.limit / 2).min(RESERVE.into())
                || now.saturating_since(epoch.since) >= EPOCH_AGE;
            // The numbers taken of an epoch that is left are lost, which hurts nobody.
            if due && self.leave(epoch.number, now, spent) {
                continue;
            }
            let first = u32::try_from(first).expect("below the limit, which has 32 bits");
            return (epoch, first);
        }
    }

    /// Goes to the epoch after this one, unless another thread did or, if there is no need to
    /// `wait`, is about to. Whether this epoch is no longer the current one.
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
        Self { number, since, key: ratchet.advance(), taken: Counter::default() }
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
