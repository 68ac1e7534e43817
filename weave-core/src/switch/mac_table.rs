//! Which peer a station lives behind, learnt from traffic alone (spec router.md, section 2).
//!
//! # Layout
//!
//! ```text
//! mac ──keyed hash──▶ shard (256, each made when first used)
//!                       └─▶ bucket (32)
//!                             └─▶ 8 places:  key  = mac 48 | 0 | generation 15
//!                                            home = peer 48 | 0 | generation 15
//!                                              or   asked 48 | 1 | generation 15, while in dispute
//!                                            seen = milliseconds
//!                                            former = peer 48
//! ```
//!
//! Looking up and refreshing take no lock: a place is two atomic words that are valid together
//! only if their generations agree, and each change of a place leaves every interleaving with a
//! reader harmless:
//!
//! * *insert*: `home` first, then `key`. A reader that finds the new key finds the new home.
//! * *remove*: `key` becomes zero. A reader that saw the old key sees either the old home, or that
//!   of the next occupant, whose generation differs: then the station is unknown, as it should be.
//! * *move*: only `home` changes, in one store, under the same generation.
//! * *ask*: `home` of a station in dispute changes from "not asked" to the time, by compare and
//!   exchange, so that it never undoes one of the others.
//!
//! `former` only ever decides whether a station may move. It is written under the lock of the shard
//! and looked at there; who looks at it before, and sees what it was a moment ago, or that of the
//! next occupant, either takes the lock for nothing or refuses one frame.
//!
//! Inserting, moving, removing and sweeping hold the lock of one shard. So in the common case, a
//! station that is already known, a frame costs reads; `seen` is written once a second.
//!
//! # Bounds
//!
//! 65,536 places, 1.5 MiB when all shards are in use. Among 10,000 stations hardly ever nine share
//! a bucket (once in twenty such tables). In a full bucket a newcomer takes the place of the
//! longest silent station of the peer that holds most places there: a host that invents addresses
//! displaces its own first.
//!
//! # Who wins
//!
//! Anybody can put any source address into a frame. So as long as a station speaks where it is
//! known to be, no frame from elsewhere moves it: such a frame is a [`Conflict`] and must be
//! dropped, or the bridge would learn from it what this table does not.
//!
//! | frame | moves its source if |
//! |---|---|
//! | *received* | nothing came from the known place for [`SETTLED`], nor for [`ANSWER`] after asking; or it comes from the former place |
//! | *captured* | nothing came from the known place for [`QUIET`], or the station is attached and was here |
//!
//! * A station that really moved is silent where it was, and is followed as soon as that shows.
//! * Whether one that was idle moved, or somebody lies, shows when it is asked. From the first
//!   frame that comes from elsewhere its place is *in dispute*: it is behind no peer, so what is
//!   sent to it is flooded, and reaches it wherever it is. If it answers where it was, it is there.
//!   If it does not for [`ANSWER`], the next frame from elsewhere moves it.
//! * One that does not answer can be taken, but only until it speaks again: it comes back at once,
//!   and who took it is not its former place, so has to wait for silence again.
//! * A station that is known to be attached here ([`MacTable::attach`]) is never taken by a
//!   received frame. That needs no silence to be broken, and so holds for one that only listens.
//!
//! Weave Net believes each received frame, and waits ten minutes before it believes a captured one,
//! so a container that moves to this host is mute for so long (spec router.md, section 15, item 5).
//! What the conflict is there for still works: a frame that this router injects and the bridge
//! sends straight back (hairpin, loop) arrives milliseconds after it was received.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::mesh::PeerName;
use crate::time::Instant;
use crate::wire::MacAddress;

const SHARDS: usize = 256;
const BUCKETS: usize = 32;
const WAYS: usize = 8;

/// Entries not refreshed for this long are removed (spec router.md, section 2).
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// How often [`MacTable::sweep`] wants to be called (spec router.md, section 2).
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How long nothing must have been received from a station before a frame captured here proves
/// that it moved to this host. Long against the way through a bridge and a capture queue, short
/// against the patience of a user.
pub const QUIET: Duration = Duration::from_secs(3);

/// How long nothing must have come from a station's place before a frame from another peer proves
/// that it moved there. Long against the pauses of one that talks, short against the patience of
/// somebody whose container was moved while it ran.
pub const SETTLED: Duration = Duration::from_secs(2);

/// How long a station whose place is in dispute has to answer, from when the first frame is sent to
/// it. Long against the way there and back, short against the time for which a station that moved
/// is flooded to.
pub const ANSWER: Duration = Duration::from_secs(1);

/// A sighting is written down if the last one noted is older than this. Weave Net's minute would
/// be too coarse to measure [`QUIET`].
const REFRESH: Duration = Duration::from_secs(1);

/// The concurrent table of stations.
pub struct MacTable {
    shards: Box<[OnceLock<Box<Shard>>]>,
    seed: u64,
    len: AtomicUsize,
    moves: AtomicU64,
    disputes: AtomicU64,
    evictions: AtomicU64,
    /// Stations that are known to be attached here.
    attached: ArcSwap<BTreeSet<MacAddress>>,
}

/// What a sighting changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    /// Nothing: the station is where it was.
    Known,
    /// The station was not in the table.
    New,
    /// The station was behind another peer. What was derived from that must be forgotten.
    Moved {
        /// Where it was.
        from: PeerName,
    },
    /// The station was idle behind another peer, and is in dispute now. What was derived from where
    /// it was must be forgotten.
    Disputed {
        /// Where it was.
        from: PeerName,
    },
    /// The station is in dispute still, since it was not asked yet, or has time left to answer.
    Unsettled,
    /// The station was in dispute and spoke where it was before. What was derived from its being
    /// nowhere must be forgotten.
    Settled,
}

impl Learned {
    /// Whether the station is where the frame came from.
    pub const fn is_certain(self) -> bool {
        !matches!(self, Self::Disputed { .. } | Self::Unsettled)
    }
}

/// The source of a frame is behind another peer than the one it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The peer behind which the station is believed to be.
    pub known: PeerName,
}

/// One station, for reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MacEntry {
    /// Its address.
    pub mac: MacAddress,
    /// The peer it is behind; while that is in dispute, the one it was behind before.
    pub peer: PeerName,
    /// When it was last heard, to about a second.
    pub last_seen: Instant,
}

/// A full lock-protected region of the table.
struct Shard {
    buckets: [Bucket; BUCKETS],
    writer: Mutex<()>,
}

/// Four cache lines; a lookup that misses touches the first only, one that hits the first three.
#[repr(align(64))]
#[derive(Default)]
struct Bucket {
    keys: [AtomicU64; WAYS],
    homes: [AtomicU64; WAYS],
    seen: [AtomicU64; WAYS],
    /// The place before `homes`, if it may have been left by a lie; else zero. Touched on rare
    /// paths.
    formers: [AtomicU64; WAYS],
}

impl MacTable {
    /// How many stations fit at most.
    pub const CAPACITY: usize = SHARDS * BUCKETS * WAYS;

    /// An empty table. The seed keeps outsiders from choosing addresses that share a bucket.
    pub fn new(seed: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| OnceLock::new()).collect(),
            seed,
            len: AtomicUsize::new(0),
            moves: AtomicU64::new(0),
            disputes: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            attached: ArcSwap::default(),
        }
    }

    /// These stations are attached to this host, and no others.
    pub fn attach(&self, stations: BTreeSet<MacAddress>) {
        self.attached.store(Arc::new(stations));
    }

    /// The peer a station is behind; none while that is in dispute. Does not ask how old the entry
    /// is.
    pub fn lookup(&self, mac: MacAddress) -> Option<PeerName> {
        self.bucket(mac)?.find(mac)?.home.peer()
    }

    /// Looks a station up in order to send it a frame, which goes everywhere if there is no answer:
    /// a station whose place is in dispute is asked by that.
    pub fn lookup_to_send(&self, now: Instant, mac: MacAddress) -> Option<PeerName> {
        let bucket = self.bucket(mac)?;
        let found = bucket.find(mac)?;
        if let Home::Disputed { asked: None } = found.home {
            bucket.ask(found.way, now);
        }
        found.home.peer()
    }

    /// A frame from this station was captured here; `own` is this peer.
    ///
    /// # Errors
    /// The station was heard behind another peer less than [`QUIET`] ago.
    pub fn learn_captured(
        &self,
        now: Instant,
        mac: MacAddress,
        own: PeerName,
    ) -> Result<Learned, Conflict> {
        self.learn(now, mac, own, own, |known| {
            known.is_none_or(|known| {
                now.saturating_since(known.last_seen) >= QUIET
                    || known.former == Some(own) && self.attached.load().contains(&mac)
            })
        })
    }

    /// A frame from this station was received, having been captured by `peer`; `own` is this peer.
    ///
    /// # Errors
    /// The station is behind another peer, or attached here.
    pub fn learn_received(
        &self,
        now: Instant,
        mac: MacAddress,
        peer: PeerName,
        own: PeerName,
    ) -> Result<Learned, Conflict> {
        self.learn(now, mac, peer, own, |known| {
            // One that was idle for so long that it was forgotten is here as well.
            if known.is_none_or(|known| known.home == own) && self.attached.load().contains(&mac) {
                return false;
            }
            known.is_none_or(|known| {
                known.is_disputed
                    || now.saturating_since(known.last_seen) >= SETTLED
                    || known.former == Some(peer)
            })
        })
    }

    /// Removes what has not been heard for [`MAX_AGE`].
    pub fn sweep(&self, now: Instant) {
        self.retain(|entry| now.saturating_since(entry.last_seen) <= MAX_AGE);
    }

    /// Removes all stations behind peers that are gone.
    pub fn remove_peers(&self, peers: &[PeerName]) {
        self.retain(|entry| !peers.contains(&entry.peer));
    }

    /// All stations, in the order of their addresses.
    pub fn entries(&self) -> Vec<MacEntry> {
        let mut entries: Vec<_> = self
            .shards
            .iter()
            .filter_map(OnceLock::get)
            .flat_map(|shard| &shard.buckets)
            .flat_map(|bucket| (0..WAYS).filter_map(|way| bucket.entry(way)))
            .collect();
        entries.sort_unstable();
        entries
    }

    /// How many stations are known.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether no station is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many times a station changed its peer.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// How many times the place of a station came into dispute.
    pub fn disputes(&self) -> u64 {
        self.disputes.load(Ordering::Relaxed)
    }

    /// How many stations were forgotten for want of room.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn learn(
        &self,
        now: Instant,
        mac: MacAddress,
        peer: PeerName,
        own: PeerName,
        may_be_there: impl Fn(Option<&Known>) -> bool,
    ) -> Result<Learned, Conflict> {
        let (shard, bucket) = self.place(mac);
        let shard = self.shards[shard].get_or_init(Box::default);
        let bucket = &shard.buckets[bucket];
        if let Some(found) = bucket.find(mac) {
            if found.home == Home::Behind(peer) {
                bucket.refresh(found.way, now);
                return Ok(Learned::Known);
            }
            let known = bucket.known(&found, own);
            if !may_be_there(Some(&known)) {
                return Err(Conflict { known: known.home });
            }
        }
        let _writing = shard.lock();
        // Another thread may have been faster.
        let Some(found) = bucket.find(mac) else {
            if !may_be_there(None) {
                return Err(Conflict { known: own });
            }
            self.insert(bucket, now, mac, peer);
            return Ok(Learned::New);
        };
        if found.home == Home::Behind(peer) {
            return Ok(Learned::Known);
        }
        let known = bucket.known(&found, own);
        if !may_be_there(Some(&known)) {
            return Err(Conflict { known: known.home });
        }
        let is_back = known.former == Some(peer);
        match found.home {
            // A frame that was captured here is no hearsay.
            Home::Behind(from) if !is_back && peer != own => {
                bucket.dispute(found.way, from, now);
                self.disputes.fetch_add(1, Ordering::Relaxed);
                return Ok(Learned::Disputed { from });
            }
            Home::Disputed { .. } if is_back => {
                bucket.move_home(found.way, peer, None, now);
                return Ok(Learned::Settled);
            }
            Home::Disputed { asked } if peer != own => {
                if asked.is_none_or(|asked| now.saturating_since(asked) < ANSWER) {
                    bucket.refresh(found.way, now);
                    return Ok(Learned::Unsettled);
                }
            }
            Home::Behind(_) | Home::Disputed { .. } => {}
        }
        // Who is followed back to where the station was has told the truth.
        let former = (!is_back).then_some(known.home);
        bucket.move_home(found.way, peer, former, now);
        self.moves.fetch_add(1, Ordering::Relaxed);
        Ok(Learned::Moved { from: known.home })
    }

    fn insert(&self, bucket: &Bucket, now: Instant, mac: MacAddress, peer: PeerName) {
        let free = (0..WAYS).find(|&way| bucket.entry(way).is_none());
        let way = free.unwrap_or_else(|| {
            self.evictions.fetch_add(1, Ordering::Relaxed);
            bucket.victim()
        });
        if free.is_some() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        bucket.occupy(way, mac, peer, now);
    }

    fn retain(&self, keep: impl Fn(&MacEntry) -> bool) {
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let _writing = shard.lock();
            for bucket in &shard.buckets {
                for way in 0..WAYS {
                    if bucket.entry(way).is_some_and(|entry| !keep(&entry)) {
                        bucket.vacate(way);
                        self.len.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    fn bucket(&self, mac: MacAddress) -> Option<&Bucket> {
        let (shard, bucket) = self.place(mac);
        Some(&self.shards[shard].get()?.buckets[bucket])
    }

    /// Shard and bucket of an address: the finalizer of SplitMix64 over address and seed.
    fn place(&self, mac: MacAddress) -> (usize, usize) {
        let mut hash = mac_number(mac) ^ self.seed;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        let shard = hash % SHARDS as u64;
        let bucket = (hash >> 32) % BUCKETS as u64;
        // Both are below small constants.
        (usize::try_from(shard).unwrap_or(0), usize::try_from(bucket).unwrap_or(0))
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Bucket::default()), writer: Mutex::new(()) }
    }
}

impl Shard {
    /// The lock guards no data that a panic could leave half changed.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Found {
    way: usize,
    home: Home,
}

/// Where a station is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    Behind(PeerName),
    /// In one of two places. Since when it has been asked.
    Disputed {
        asked: Option<Instant>,
    },
}

impl Home {
    /// The home that a word says.
    fn of(word: u64) -> Option<Self> {
        if word & DISPUTED == 0 {
            return PeerName::from_u64(upper(word)).map(Self::Behind);
        }
        let asked = upper(word).checked_sub(1);
        let at = |millis| Instant::since_origin(Duration::from_millis(millis));
        Some(Self::Disputed { asked: asked.map(at) })
    }

    const fn peer(self) -> Option<PeerName> {
        match self {
            Self::Behind(peer) => Some(peer),
            Self::Disputed { .. } => None,
        }
    }
}

/// What a move of a station depends on.
struct Known {
    /// Where it is; while that is in dispute, where it was.
    home: PeerName,
    is_disputed: bool,
    former: Option<PeerName>,
    last_seen: Instant,
}

impl Bucket {
    fn find(&self, mac: MacAddress) -> Option<Found> {
        let wanted = mac_number(mac);
        for way in 0..WAYS {
            // Pairs with the store in `occupy`: whoever sees the key sees its home.
            let key = self.keys[way].load(Ordering::Acquire);
            if key != 0 && upper(key) == wanted {
                let home = self.homes[way].load(Ordering::Acquire);
                if generation(home) == generation(key) {
                    return Home::of(home).map(|home| Found { way, home });
                }
            }
        }
        None
    }

    fn entry(&self, way: usize) -> Option<MacEntry> {
        let key = self.keys[way].load(Ordering::Acquire);
        let home = self.homes[way].load(Ordering::Acquire);
        if key == 0 || generation(home) != generation(key) {
            return None;
        }
        let [_, _, a, b, c, d, e, f] = upper(key).to_be_bytes();
        Some(MacEntry {
            mac: MacAddress([a, b, c, d, e, f]),
            peer: Home::of(home)?.peer().or_else(|| self.former(way))?,
            last_seen: self.last_seen(way),
        })
    }

    fn known(&self, found: &Found, own: PeerName) -> Known {
        let former = self.former(found.way);
        Known {
            // That there is none shows who looks while it is settled: the lock tells.
            home: found.home.peer().or(former).unwrap_or(own),
            is_disputed: found.home.peer().is_none(),
            former,
            last_seen: self.last_seen(found.way),
        }
    }

    fn former(&self, way: usize) -> Option<PeerName> {
        let former = self.formers[way].load(Ordering::Relaxed);
        PeerName::from_u64(former).filter(|_| former != 0)
    }

    /// Notes that a station in dispute was sent something, if nobody was faster.
    fn ask(&self, way: usize, now: Instant) {
        let word = self.homes[way].load(Ordering::Acquire);
        if let Some(Home::Disputed { asked: None }) = Home::of(word) {
            let asked = millis(now).wrapping_add(1) << 16 | word;
            // Who was faster has asked, or settled it.
            let _ =
                self.homes[way].compare_exchange(word, asked, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    fn last_seen(&self, way: usize) -> Instant {
        let millis = self.seen[way].load(Ordering::Relaxed);
        Instant::since_origin(Duration::from_millis(millis))
    }

    fn refresh(&self, way: usize, now: Instant) {
        if now.saturating_since(self.last_seen(way)) >= REFRESH {
            self.seen[way].store(millis(now), Ordering::Relaxed);
        }
    }

    /// The longest silent station of the peer that has most places here.
    fn victim(&self) -> usize {
        let entries: [Option<MacEntry>; WAYS] = std::array::from_fn(|way| self.entry(way));
        let share = |entry: &MacEntry| {
            entries.iter().flatten().filter(|other| other.peer == entry.peer).count()
        };
        (0..WAYS)
            .filter_map(|way| entries[way].map(|entry| (way, entry)))
            .max_by_key(|(_, entry)| (share(entry), std::cmp::Reverse(entry.last_seen)))
            .map_or(0, |(way, _)| way)
    }

    // The rest is called under the lock of the shard.

    fn occupy(&self, way: usize, mac: MacAddress, peer: PeerName, now: Instant) {
        self.keys[way].store(0, Ordering::Relaxed);
        let generation = generation(self.homes[way].load(Ordering::Relaxed)).wrapping_add(1);
        self.seen[way].store(millis(now), Ordering::Relaxed);
        self.formers[way].store(0, Ordering::Relaxed);
        // The generation of the home keeps a reader that still holds the old key away. It must
        // not be seen before that key is gone, nor after the new key.
        self.homes[way].store(word(peer.to_u64(), generation), Ordering::Release);
        self.keys[way].store(word(mac_number(mac), generation), Ordering::Release);
    }

    fn move_home(&self, way: usize, peer: PeerName, former: Option<PeerName>, now: Instant) {
        self.formers[way].store(former.map_or(0, PeerName::to_u64), Ordering::Relaxed);
        let generation = generation(self.homes[way].load(Ordering::Relaxed));
        self.seen[way].store(millis(now), Ordering::Relaxed);
        self.homes[way].store(word(peer.to_u64(), generation), Ordering::Release);
    }

    fn dispute(&self, way: usize, from: PeerName, now: Instant) {
        self.formers[way].store(from.to_u64(), Ordering::Relaxed);
        let generation = generation(self.homes[way].load(Ordering::Relaxed));
        self.seen[way].store(millis(now), Ordering::Relaxed);
        self.homes[way].store(word(0, generation) | DISPUTED, Ordering::Release);
    }

    fn vacate(&self, way: usize) {
        self.keys[way].store(0, Ordering::Release);
    }
}

/// The bit of a home that says that there is none.
const DISPUTED: u64 = 1 << 15;

const fn word(upper: u64, generation: u16) -> u64 {
    upper << 16 | generation as u64 & (DISPUTED - 1)
}

const fn upper(word: u64) -> u64 {
    word >> 16
}

const fn generation(word: u64) -> u16 {
    let [.., high, low] = word.to_be_bytes();
    u16::from_be_bytes([high & 0x7f, low])
}

const fn mac_number(mac: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn millis(now: Instant) -> u64 {
    u64::try_from(now.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
