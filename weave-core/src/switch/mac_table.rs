//! Which peer a station lives behind, learnt from traffic alone (spec router.md, section 2).
//!
//! # Layout
//!
//! ```text
//! mac ──keyed hash──▶ shard (256, each made when first used)
//!                       └─▶ bucket (32)
//!                             └─▶ 8 places:  key  = mac 48 | generation 16
//!                                            home = peer 48 | generation 16
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
//!
//! `former` only ever decides whether a station may move. It is written under the lock of the shard
//! and looked at there; who looks at it before, and sees what it was a moment ago, or that of the next
//! occupant, either takes the lock for nothing or refuses one frame.
//!
//! Inserting, moving, removing and sweeping hold the lock of one shard. So in the common case, a
//! station that is already known, a frame costs reads; `seen` is written once a second.
//!
//! # Bounds
//!
//! 65,536 places, 1.5 MiB when all shards are in use. Among 10,000 stations hardly ever nine share
//! a bucket (once in twenty such tables). In a full bucket a newcomer takes the place of the longest silent station of
//! the peer that holds most places there: a host that invents addresses displaces its own first.
//!
//! # Who wins
//!
//! Anybody can put any source address into a frame. So as long as a station speaks where it is
//! known to be, no frame from elsewhere moves it: such a frame is a [`Conflict`] and must be dropped, or
//! the bridge would learn from it what this table does not.
//!
//! | frame | moves its source if |
//! |---|---|
//! | *received* | nothing came from the known place for [`SETTLED`], or it comes from the place before that one |
//! | *captured* | nothing came from the known place for [`QUIET`], or the station is attached here and was here before |
//!
//! * A station that really moved is silent where it was, and is followed as soon as that shows.
//! * One that was idle can be taken by a single frame, but only until it speaks again: it comes back
//!   at once, and who took it is not its former place, so has to wait for silence again.
//! * A station that is known to be attached here ([`MacTable::attach`]) is never taken by a received
//!   frame. That needs no silence to be broken, and so holds for one that only listens.
//!
//! Weave Net believes each received frame, and waits ten minutes before it believes a captured one, so
//! a container that moves to this host is mute for so long (spec router.md, section 15, item 5). What
//! the conflict is there for still works: a frame that this router injects and the bridge sends
//! straight back (hairpin, loop) arrives milliseconds after it was received.

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

/// A sighting is written down if the last one noted is older than this. Weave Net's minute would
/// be too coarse to measure [`QUIET`].
const REFRESH: Duration = Duration::from_secs(1);

/// The concurrent table of stations.
pub struct MacTable {
    shards: Box<[OnceLock<Box<Shard>>]>,
    seed: u64,
    len: AtomicUsize,
    moves: AtomicU64,
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
    /// The peer it is behind.
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
    /// The place before `homes`, if it may have been left by a lie; else zero. Touched on rare paths.
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
            evictions: AtomicU64::new(0),
            attached: ArcSwap::default(),
        }
    }

    /// These stations are attached to this host, and no others.
    pub fn attach(&self, stations: BTreeSet<MacAddress>) {
        self.attached.store(Arc::new(stations));
    }

    /// The peer a station is behind. Does not ask how old the entry is.
    pub fn lookup(&self, mac: MacAddress) -> Option<PeerName> {
        let (shard, bucket) = self.place(mac);
        let bucket = &self.shards[shard].get()?.buckets[bucket];
        bucket.find(mac).map(|found| found.peer)
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
                now.saturating_since(known.last_seen) >= SETTLED || known.former == Some(peer)
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
            if found.peer == peer {
                bucket.refresh(found.way, now);
                return Ok(Learned::Known);
            }
            if !may_be_there(Some(&bucket.known(&found))) {
                return Err(Conflict { known: found.peer });
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
        if found.peer == peer {
            return Ok(Learned::Known);
        }
        let known = bucket.known(&found);
        if !may_be_there(Some(&known)) {
            return Err(Conflict { known: found.peer });
        }
        // Who is followed back to where the station was has told the truth.
        let former = (known.former != Some(peer)).then_some(found.peer);
        bucket.move_home(found.way, peer, former, now);
        self.moves.fetch_add(1, Ordering::Relaxed);
        Ok(Learned::Moved { from: found.peer })
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
    peer: PeerName,
}

/// What a move of a station depends on.
struct Known {
    home: PeerName,
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
                    return PeerName::from_u64(upper(home)).map(|peer| Found { way, peer });
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
            peer: PeerName::from_u64(upper(home))?,
            last_seen: self.last_seen(way),
        })
    }

    fn known(&self, found: &Found) -> Known {
        let former = self.formers[found.way].load(Ordering::Relaxed);
        Known {
            home: found.peer,
            former: PeerName::from_u64(former).filter(|_| former != 0),
            last_seen: self.last_seen(found.way),
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

    fn vacate(&self, way: usize) {
        self.keys[way].store(0, Ordering::Release);
    }
}

const fn word(upper: u64, generation: u16) -> u64 {
    upper << 16 | generation as u64
}

const fn upper(word: u64) -> u64 {
    word >> 16
}

const fn generation(word: u64) -> u16 {
    let [.., high, low] = word.to_be_bytes();
    u16::from_be_bytes([high, low])
}

const fn mac_number(mac: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn millis(now: Instant) -> u64 {
    u64::try_from(now.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    const OWN: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 1]);
    const A: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 2]);
    const B: PeerName = PeerName::from_bytes([2, 0, 0, 0, 0, 3]);

    fn mac(number: u32) -> MacAddress {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddress([2, 7, a, b, c, d])
    }

    fn at(seconds: u64) -> Instant {
        Instant::since_origin(Duration::from_secs(seconds))
    }

    fn receive(
        table: &MacTable,
        now: Instant,
        mac: MacAddress,
        peer: PeerName,
    ) -> Result<Learned, Conflict> {
        table.learn_received(now, mac, peer, OWN)
    }

    #[test]
    fn a_station_is_followed_once_it_is_silent_where_it_was() {
        let table = MacTable::new(7);
        assert_eq!(receive(&table, at(0), mac(1), A), Ok(Learned::New));
        assert_eq!(receive(&table, at(0), mac(1), A), Ok(Learned::Known));
        assert_eq!(receive(&table, at(1), mac(1), B), Err(Conflict { known: A }));
        assert_eq!(receive(&table, at(2), mac(1), B), Ok(Learned::Moved { from: A }));
        assert_eq!(table.lookup(mac(1)), Some(B));
        assert_eq!(table.lookup(mac(2)), None);
        assert_eq!((table.len(), table.moves()), (1, 1));
        // One that is found nowhere is where it says.
        table.remove_peers(&[B]);
        assert_eq!(receive(&table, at(2), mac(1), A), Ok(Learned::New));
    }

    #[test]
    fn a_station_that_speaks_is_not_taken_by_a_frame_from_elsewhere() {
        let table = MacTable::new(7);
        for tick in 0..1000_u64 {
            let now = Instant::since_origin(Duration::from_millis(100 * tick));
            // It speaks once a second; somebody else claims it every 100 ms.
            if tick % 10 == 0 {
                assert!(receive(&table, now, mac(1), A).is_ok(), "{tick}");
            }
            assert_eq!(receive(&table, now, mac(1), B), Err(Conflict { known: A }), "{tick}");
        }
        assert_eq!(table.moves(), 0);
    }

    #[test]
    fn a_station_that_was_taken_while_it_was_idle_is_back_with_its_next_frame() {
        let table = MacTable::new(7);
        let later = |millis| at(100) + Duration::from_millis(millis);
        receive(&table, at(0), mac(1), A).unwrap();
        assert_eq!(receive(&table, later(0), mac(1), B), Ok(Learned::Moved { from: A }));
        assert_eq!(receive(&table, later(1), mac(1), B), Ok(Learned::Known));
        assert_eq!(receive(&table, later(2), mac(1), A), Ok(Learned::Moved { from: B }));
        // That does not work the other way round.
        for millis in [3, 500, 1999] {
            assert_eq!(receive(&table, later(millis), mac(1), B), Err(Conflict { known: A }));
        }
        // A third one has no part in it.
        let own = PeerName::from_bytes([2, 0, 0, 0, 0, 9]);
        assert_eq!(receive(&table, later(1999), mac(1), own), Err(Conflict { known: A }));
    }

    #[test]
    fn a_station_that_is_attached_here_is_never_taken_from_outside() {
        let table = MacTable::new(7);
        table.learn_captured(at(0), mac(1), OWN).unwrap();
        table.learn_captured(at(0), mac(2), OWN).unwrap();
        table.attach([mac(1), mac(3)].into());
        // It does not have to speak.
        assert_eq!(receive(&table, at(300), mac(1), A), Err(Conflict { known: OWN }));
        assert_eq!(receive(&table, at(300), mac(2), A), Ok(Learned::Moved { from: OWN }));
        // One that is found attached after it was taken is back at once.
        assert_eq!(table.learn_captured(at(301), mac(2), OWN), Err(Conflict { known: A }));
        table.attach([mac(1), mac(2), mac(3)].into());
        assert_eq!(table.learn_captured(at(301), mac(2), OWN), Ok(Learned::Moved { from: A }));
        // It may have been forgotten meanwhile.
        table.sweep(at(1000));
        assert_eq!(receive(&table, at(1000), mac(1), A), Err(Conflict { known: OWN }));
        table.learn_captured(at(1000), mac(1), OWN).unwrap();
        // A container cannot take the address of a station elsewhere by having it.
        table.attach([mac(1)].into());
        receive(&table, at(1000), mac(3), A).unwrap();
        table.attach([mac(1), mac(3)].into());
        assert_eq!(table.learn_captured(at(1001), mac(3), OWN), Err(Conflict { known: A }));
        receive(&table, at(1001), mac(3), A).unwrap();
        assert_eq!(table.lookup(mac(3)), Some(A));
        // Once it is detached, it is followed.
        table.attach([].into());
        assert_eq!(receive(&table, at(1004), mac(1), B), Ok(Learned::Moved { from: OWN }));
    }

    #[test]
    fn a_frame_that_the_bridge_sends_back_does_not_move_its_station() {
        let table = MacTable::new(7);
        for tick in 0..100 {
            let now = at(tick);
            receive(&table, now, mac(1), A).unwrap();
            let echo = now + Duration::from_millis(2);
            assert_eq!(table.learn_captured(echo, mac(1), OWN), Err(Conflict { known: A }));
            assert_eq!(table.lookup(mac(1)), Some(A));
        }
        assert_eq!(table.moves(), 0);
    }

    #[test]
    fn a_container_that_moved_here_is_heard_after_a_few_seconds() {
        let table = MacTable::new(7);
        receive(&table, at(10), mac(1), A).unwrap();
        assert!(table.learn_captured(at(12), mac(1), OWN).is_err());
        assert_eq!(table.learn_captured(at(13), mac(1), OWN), Ok(Learned::Moved { from: A }));
        assert_eq!(table.learn_captured(at(13), mac(1), OWN), Ok(Learned::Known));
        // And back again, at once.
        assert_eq!(receive(&table, at(13), mac(1), A), Ok(Learned::Moved { from: OWN }));
    }

    #[test]
    fn sightings_refresh_to_the_second_and_old_entries_are_swept() {
        let table = MacTable::new(7);
        receive(&table, at(0), mac(1), A).unwrap();
        receive(&table, at(0), mac(2), A).unwrap();
        receive(&table, at(0) + Duration::from_millis(900), mac(1), A).unwrap();
        assert_eq!(table.entries()[0].last_seen, at(0));
        receive(&table, at(1), mac(1), A).unwrap();
        assert_eq!(table.entries()[0].last_seen, at(1));
        table.sweep(at(600));
        assert_eq!(table.len(), 2, "ten minutes old is not yet too old");
        table.sweep(at(601));
        assert_eq!(table.entries(), [MacEntry { mac: mac(1), peer: A, last_seen: at(1) }]);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn stations_leave_with_their_peer() {
        let table = MacTable::new(7);
        for number in 0..1000 {
            receive(&table, at(0), mac(number), if number % 3 == 0 { A } else { B }).unwrap();
        }
        table.remove_peers(&[A]);
        assert_eq!(table.len(), 666);
        assert!(table.entries().iter().all(|entry| entry.peer == B));
        assert_eq!(receive(&table, at(0), mac(0), B), Ok(Learned::New));
    }

    #[test]
    fn a_flood_of_invented_addresses_displaces_its_own() {
        let table = MacTable::new(7);
        for number in 0..5_000 {
            receive(&table, at(0), mac(number), A).unwrap();
        }
        for number in 0..300_000 {
            receive(&table, at(1), mac(1_000_000 + number), B).unwrap();
        }
        let honest = (0..5_000).filter(|&number| table.lookup(mac(number)) == Some(A)).count();
        assert!(honest > 4_950, "{honest} of 5000 left");
        assert!(table.len() <= MacTable::CAPACITY);
        assert_eq!(table.len(), table.entries().len());
        assert!(table.evictions() > 200_000);
    }

    #[test]
    fn threads_see_only_homes_that_were_set() {
        let table = MacTable::new(7);
        // So many addresses that places change hands all the time; each may have two homes only.
        let home = |number: u32, flip: bool| {
            PeerName::from_u64(u64::from(number) * 2 + u64::from(flip) + 1).expect("small number")
        };
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..60_000u32 {
                        let number =
                            round.wrapping_mul(2_654_435_761).wrapping_add(thread) % 90_000;
                        let flip = round % 7 == thread;
                        let _ =
                            receive(table, at(u64::from(round)), mac(number), home(number, flip));
                        let probe = round.wrapping_mul(40_503) % 90_000;
                        if let Some(found) = table.lookup(mac(probe)) {
                            assert!(found == home(probe, false) || found == home(probe, true));
                        }
                    }
                });
            }
        });
        assert_eq!(table.len(), table.entries().len());
    }

    /// What the table should know of a station.
    #[derive(Clone, Copy)]
    struct Place {
        home: PeerName,
        former: Option<PeerName>,
        seen: Instant,
    }

    proptest! {
        /// Below the size at which buckets overflow the table is a map.
        #[test]
        fn behaves_like_a_map(operations in prop::collection::vec((0u8..4, 0u32..40, 0u64..3, 0u64..5), 0..300)) {
            let table = MacTable::new(99);
            let mut model: BTreeMap<MacAddress, Place> = BTreeMap::new();
            let mut now = at(0);
            for (kind, number, peer, wait) in operations {
                now += Duration::from_millis(wait * 700);
                let (mac, peer) = (mac(number), [OWN, A, B][usize::try_from(peer).unwrap()]);
                let known = model.get(&mac).copied();
                match kind {
                    0 | 1 => {
                        let outcome = if kind == 0 {
                            table.learn_captured(now, mac, OWN)
                        } else {
                            receive(&table, now, mac, peer)
                        };
                        let peer = if kind == 0 { OWN } else { peer };
                        let patience = if kind == 0 { QUIET } else { SETTLED };
                        let expected = match known {
                            None => Ok(Learned::New),
                            Some(place) if place.home == peer => Ok(Learned::Known),
                            Some(place)
                                if now.saturating_since(place.seen) >= patience
                                    || kind != 0 && place.former == Some(peer) =>
                            {
                                Ok(Learned::Moved { from: place.home })
                            }
                            Some(place) => Err(Conflict { known: place.home }),
                        };
                        prop_assert_eq!(outcome, expected);
                        match (expected, known) {
                            (Ok(Learned::Known), Some(place)) => {
                                if now.saturating_since(place.seen) >= REFRESH {
                                    model.insert(mac, Place { seen: now, ..place });
                                }
                            }
                            (Ok(_), known) => {
                                let former = known
                                    .filter(|place| place.former != Some(peer))
                                    .map(|place| place.home);
                                model.insert(mac, Place { home: peer, former, seen: now });
                            }
                            (Err(_), _) => {}
                        }
                    }
                    2 => {
                        table.remove_peers(&[peer]);
                        model.retain(|_, place| place.home != peer);
                    }
                    _ => prop_assert_eq!(table.lookup(mac), known.map(|place| place.home)),
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
    }
}
