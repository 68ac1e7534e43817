//! The allocator of one peer (spec ipam.md, sections 5 to 16).
//!
//! ```text
//!   allocate, claim, release, prime ─┐                       ┌─▶ Store    (first)
//!   handle_unicast, handle_gossip ───┼─▶  ring + space  ─────┼─▶ Unicast, Broadcast
//!   handle_timeout (every 5 s) ──────┤    consensus          ├─▶ Answer
//!   take_over, shut_down ────────────┘    holdings, pending  └─▶ Event
//! ```
//!
//! A request that cannot be answered waits: for the ring, or for space that a peer was asked for.
//! All that wait are tried again when the ring changes, and every 5 s.

mod conflicts;
mod holdings;
mod incoming;
mod leaving_peers;
mod output;
mod report;
mod requests;
mod settling;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use weave_core::mesh::{PeerName, Random, Uid};
use weave_core::time::Instant;
use weave_core::wire::gob::AtMost;

pub use conflicts::{Conflict, GONE_AFTER};
pub use output::{Answer, Event, Output, Refusal, RequestError, RequestId, Update};
pub use report::{Entry, PendingClaim, Report, Vote};

use crate::consensus::Consensus;
use crate::message::{Holding, State, Unicast, encode_ring};
use crate::ring::RawRing;
use crate::{Cidr, Range, Ring, Space, Subnet};
use conflicts::Conflicts;
use holdings::Holdings;
use requests::{Allocation, Claim};
pub use settling::GRACE;
use settling::{Others, Settling};

/// From one look at what waits to the next, as in the original.
pub const TICK: Duration = Duration::from_secs(5);
/// A container that died keeps its addresses for so long: it may be started again. As in the
/// original.
pub const DEATH_GRACE: Duration = Duration::from_secs(30);
/// How often a claim is tried of which the owner is out of reach, as in the original.
const MAX_TRIES: u32 = 5;

/// Requests for space in one range, while many wait for an address there: what is given is a block,
/// and mostly half of what the other has. The original asks once for each that waits, which takes
/// from others in a burst all they have.
const MAX_ASKED: usize = 2;

/// Who this peer is, and how its ring begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Its name.
    pub name: PeerName,
    /// This life of it.
    pub uid: Uid,
    /// How people call it.
    pub nickname: String,
    /// All addresses that peers share out among each other.
    pub universe: Subnet,
    /// Where the ring comes from if none is stored.
    pub origin: Origin,
}

/// Where the first division comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A vote, in which this peer takes part. The number of peers at the start, if the user told
    /// it: more than half of them decide.
    Consensus {
        /// How many peers there are at the start.
        peers: Option<usize>,
    },
    /// It is made among these peers; all of them are told the same.
    Seed(Vec<PeerName>),
    /// Others; this peer takes no part in the vote.
    Observer,
}

/// What was stored by an earlier life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// The ring.
    pub ring: Option<RawRing>,
    /// Who had which addresses.
    pub holdings: BTreeMap<String, Holding>,
}

/// An address that was found in use at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Who has it: an id, or [`Allocator::NOBODY`].
    pub holder: String,
    /// The address.
    pub cidr: Cidr,
    /// The holder is a container whose end will be told.
    pub is_container: bool,
}

/// The allocator of one peer.
///
/// The `handle_*` methods take what comes from the mesh and the time, the others what the user
/// wants. After each call, or several of them, drain [`Self::poll_output`]; [`Self::poll_timeout`]
/// says when [`Self::handle_timeout`] is wanted.
pub struct Allocator {
    config: Config,
    ring: Ring,
    space: Space,
    holdings: Holdings,
    nicknames: BTreeMap<PeerName, String>,
    /// The vote, for those who take part in it.
    consensus: Option<Consensus>,
    /// A ring is wanted, and there is none.
    awaiting: bool,
    /// Peers the user asked to connect to, from which the quorum is guessed.
    targets: usize,
    /// Peers that messages get to.
    reachable: BTreeSet<PeerName>,
    /// When messages got to others last that have addresses, to within a [`TICK`].
    seen: BTreeMap<PeerName, Instant>,
    /// When this life began.
    began: Instant,
    primes: Vec<RequestId>,
    claims: VecDeque<Claim>,
    allocations: VecDeque<Allocation>,
    /// When containers died.
    dead: BTreeMap<String, Instant>,
    /// How often space was asked for in a range since the ring changed last.
    asked: BTreeMap<Range, usize>,
    /// Peers that had nothing, since the ring changed last. They are asked last.
    denied: BTreeSet<PeerName>,
    conflicts: Conflicts,
    settling: Settling,
    /// Peers that frames get to.
    linked: BTreeSet<PeerName>,
    /// Those for whom an address is taken that may be in use elsewhere, by the address.
    probing: BTreeMap<u32, (Allocation, Instant)>,
    /// The driver can ask on the switch.
    can_probe: bool,
    /// What this peer knows was stored by an earlier life.
    is_restored: bool,
    leaving: bool,
    random: Random,
    now: Instant,
    tick_at: Instant,
    /// What is stored is void.
    clear: bool,
    ring_changed: bool,
    sends: Vec<Send>,
    answers: Vec<(RequestId, Result<Answer, RequestError>)>,
    events: Vec<Event>,
    outputs: VecDeque<Output>,
    /// Who is asked for space, if it may be asked.
    #[cfg(test)]
    pub(crate) favourite: Option<PeerName>,
}

/// Something to send when the present action is done.
enum Send {
    SpaceRequest(PeerName, Range),
    RingUpdate(PeerName),
    Denied(PeerName, Range),
    /// A state that says nothing, which is answered with the ring.
    Question(PeerName),
    Broadcast,
}

impl Allocator {
    /// The holder that stands for nobody in particular: each address allocated for it is another.
    pub const NOBODY: &'static str = holdings::NOBODY;

    /// The allocator of a peer that starts. `seed` is all the randomness it gets, for choosing whom
    /// to ask.
    pub fn new(
        config: Config,
        stored: Stored,
        found: Vec<Found>,
        seed: [u8; 32],
        now: Instant,
    ) -> Self {
        let ring = Ring::new(config.universe.range(), config.name);
        let mut allocator = Self {
            nicknames: [(config.name, config.nickname.clone())].into(),
            consensus: match config.origin {
                Origin::Observer => None,
                Origin::Consensus { .. } | Origin::Seed(_) => {
                    Some(Consensus::new(config.name, config.uid))
                }
            },
            config,
            ring,
            space: Space::default(),
            holdings: Holdings::default(),
            awaiting: false,
            targets: 0,
            reachable: BTreeSet::new(),
            seen: BTreeMap::new(),
            began: now,
            primes: Vec::new(),
            claims: VecDeque::new(),
            allocations: VecDeque::new(),
            dead: BTreeMap::new(),
            asked: BTreeMap::new(),
            denied: BTreeSet::new(),
            conflicts: Conflicts::default(),
            settling: Settling::default(),
            linked: BTreeSet::new(),
            probing: BTreeMap::new(),
            can_probe: false,
            is_restored: false,
            leaving: false,
            random: Random::new(seed),
            now,
            tick_at: now + TICK,
            clear: false,
            ring_changed: false,
            sends: Vec::new(),
            answers: Vec::new(),
            events: Vec::new(),
            outputs: VecDeque::new(),
            #[cfg(test)]
            favourite: None,
        };
        allocator.claims.extend(found.into_iter().map(Claim::found));
        allocator.begin(stored);
        allocator.finish();
        allocator
    }

    /// Gives out nothing that may be in use by containers that ran before this peer lost what it
    /// knew. To be called right after the start; from then on [`Output::Probe`] is answered by
    /// [`Self::handle_probed`].
    pub fn be_careful(&mut self) {
        self.can_probe = true;
        if self.is_restored {
            return;
        }
        self.settling = Settling::begin();
        if !self.ring.is_empty() {
            self.settling.ring_known(self.now);
        }
        self.settle();
    }

    fn begin(&mut self, stored: Stored) {
        let is_new = stored == Stored::default();
        match self.restore(stored) {
            Ok(()) => {
                self.is_restored = true;
                self.events.push(Event::Restored { in_use: self.space.used().len() });
                return self.try_pending();
            }
            Err(_) if is_new => {}
            Err(why) => {
                self.events.push(Event::Discarded(why));
                self.clear = true;
            }
        }
        if let Origin::Seed(seeds) = &self.config.origin
            && !seeds.is_empty()
        {
            let seeds = seeds.clone();
            self.create_ring(&seeds);
        }
    }

    /// Goes on from what was stored; says why that cannot be.
    fn restore(&mut self, stored: Stored) -> Result<(), String> {
        let raw = stored.ring.ok_or("there is no ring")?;
        let ring = Ring::try_from(raw).map_err(|error| error.to_string())?;
        if ring.is_empty() {
            return Err("the ring is not divided".to_owned());
        }
        if ring.peer() != self.config.name {
            return Err(format!("it is of the peer {}", ring.peer()));
        }
        if ring.range() != self.config.universe.range() {
            return Err(format!("it is of the range {}", ring.range()));
        }
        self.space.set_ranges(&ring.owned_by(self.config.name));
        self.ring = ring;
        self.consensus = None;
        for (holder, holding) in stored.holdings {
            for cidr in &holding.cidrs {
                // Some lie outside of our ranges, or of all ranges.
                let _not_ours = self.space.claim(cidr.address().to_bits());
            }
            self.holdings.restore(holder, holding);
        }
        Ok(())
    }

    // What the mesh knows.

    /// The peers that messages get to.
    pub fn set_reachable(&mut self, peers: BTreeSet<PeerName>) {
        let before = std::mem::replace(&mut self.reachable, peers);
        for peer in &self.reachable {
            self.seen.remove(peer);
        }
        let gone = before.difference(&self.reachable);
        self.seen.extend(gone.map(|peer| (*peer, self.now)));
        // Nobody asks for those who have nothing.
        let owners = self.ring.entries().iter().map(|entry| entry.peer);
        let owners: BTreeSet<PeerName> = owners.collect();
        self.seen.retain(|peer, _| owners.contains(peer));
    }

    /// The peers that frames get to.
    pub fn set_linked(&mut self, peers: BTreeSet<PeerName>) {
        self.linked = peers;
        self.linked.remove(&self.config.name);
        if self.settle() {
            self.try_pending();
        }
        self.finish();
    }

    /// Looks whether addresses may be given out. Says whether they just may.
    fn settle(&mut self) -> bool {
        let missing = self.settling.missing(&self.linked);
        missing.into_iter().for_each(|peer| self.question(peer));
        let own = self.config.name;
        let expected = match &self.config.origin {
            Origin::Consensus { peers: Some(peers) } => peers.saturating_sub(1),
            Origin::Seed(names) => names.iter().filter(|name| **name != own).count(),
            Origin::Consensus { peers: None } | Origin::Observer => self.targets,
        };
        let claims_wait = self.waits_for_found();
        let others = Others { linked: &self.linked, expected, claims_wait };
        if self.settling.shows(&others) {
            self.sends.push(Send::Broadcast);
        }
        let Some(missing) = self.settling.look(self.now, &others) else { return false };
        if missing > 0 {
            self.events.push(Event::Unheard(missing));
        }
        true
    }

    /// How many peers the user asked to connect to.
    pub const fn set_targets(&mut self, count: usize) {
        self.targets = count;
    }

    /// Peers left the mesh.
    pub fn handle_peers_removed(&mut self, peers: &[PeerName]) {
        for peer in peers {
            if !self.ring.entries().iter().any(|entry| entry.peer == *peer) {
                self.nicknames.remove(peer);
            }
        }
        self.nicknames.insert(self.config.name, self.config.nickname.clone());
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        // A clock that went back would let nothing be asked again until it has caught up.
        let is_ahead = self.tick_at > now + TICK;
        if now < self.tick_at && !is_ahead {
            return;
        }
        self.tick_at = now + TICK;
        self.tick();
        self.finish();
    }

    #[cfg(test)]
    pub(crate) fn tick_at(&mut self, now: Instant) {
        self.advance(now);
        self.tick();
        self.finish();
    }

    fn tick(&mut self) {
        self.look_at_conflicts();
        self.give_up_probes();
        let settled = self.settle();
        self.asked.clear();
        if self.awaiting {
            self.propose();
        } else if self.is_pending() || settled {
            if self.ring.is_empty() {
                self.establish_ring();
            } else {
                self.try_pending();
            }
        }
        self.expire_dead();
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub const fn poll_timeout(&self) -> Instant {
        self.tick_at
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What all peers are told. `wall_clock` is the time in seconds since 1970, which is told with
    /// it. Everything that was to be stored must have been.
    pub fn state(&self, wall_clock: i64) -> State {
        let ring = (!self.ring.is_empty()).then(|| RawRing::from(&self.ring));
        let claims = match (&ring, &self.consensus) {
            (None, Some(consensus)) => Some(AtMost(consensus.claims().clone())),
            _ => None,
        };
        State { now: wall_clock, nicknames: Some(AtMost(self.nicknames.clone())), claims, ring }
    }

    /// The ring.
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The addresses this peer can give out.
    pub const fn space(&self) -> &Space {
        &self.space
    }

    // The first division.

    /// Sees to it that there will be a ring.
    fn establish_ring(&mut self) {
        if !self.ring.is_empty() || self.awaiting {
            return;
        }
        self.awaiting = true;
        self.propose();
    }

    fn propose(&mut self) {
        if let Some(consensus) = &mut self.consensus {
            let quorum = match self.config.origin {
                Origin::Consensus { peers: Some(peers) } if peers > 0 => peers / 2 + 1,
                _ => {
                    let quorum = self.targets.div_ceil(2) + 1;
                    if quorum != consensus.quorum() {
                        self.events.push(Event::QuorumAssumed(quorum));
                    }
                    quorum
                }
            };
            consensus.set_quorum(quorum);
            consensus.propose();
        }
        self.sends.push(Send::Broadcast);
        self.conclude();
    }

    /// Divides the ring if that is decided.
    fn conclude(&mut self) {
        let decided = self.consensus.as_ref().and_then(Consensus::decided).map(<[_]>::to_vec);
        if let Some(peers) = decided
            && self.ring.is_empty()
        {
            self.create_ring(&peers);
        }
    }

    fn create_ring(&mut self, peers: &[PeerName]) {
        self.ring.divide(peers);
        let seeds = self.with_nicknames(self.ring.seeds());
        self.events.push(Event::Divided { seeds });
        self.ring_updated();
        self.sends.push(Send::Broadcast);
    }

    /// What this peer owns may have changed.
    fn ring_updated(&mut self) {
        self.awaiting = false;
        self.consensus = None;
        self.ring_changed = true;
        self.asked.clear();
        self.denied.clear();
        self.space.set_ranges(&self.ring.owned_by(self.config.name));
        self.settling.ring_known(self.now);
        self.try_pending();
        if self.settle() {
            self.try_pending();
        }
    }

    fn with_nicknames(&self, peers: &[PeerName]) -> String {
        let texts: Vec<String> =
            peers.iter().map(|peer| format!("{peer}({})", self.nickname(*peer))).collect();
        texts.join(" ")
    }

    fn nickname(&self, peer: PeerName) -> &str {
        self.nicknames.get(&peer).map_or("", String::as_str)
    }

    fn can_reach(&self, peer: PeerName) -> bool {
        peer == self.config.name || self.reachable.contains(&peer)
    }

    /// A clock that goes back stands still.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Ends an action: what it changed is to be stored before what it says is sent.
    fn finish(&mut self) {
        let space = &self.space;
        self.ring_changed |= self.ring.report_free(|range| space.free_within(range));
        debug_assert_eq!(self.ring.check_with(&self.space), Ok(()), "ring and space differ");
        let holdings = self.holdings.take_changed().into_iter();
        let update = Update {
            clear: std::mem::take(&mut self.clear),
            ring: std::mem::take(&mut self.ring_changed).then(|| encode_ring(&self.ring)),
            holdings: holdings.map(|(holder, h)| (holder, h.map(|h| h.encode()))).collect(),
        };
        if !update.is_empty() {
            self.outputs.push_back(Output::Store(update));
        }
        let mut sends = std::mem::take(&mut self.sends);
        // Whoever is asked may need to hear the rest to answer.
        sends.sort_by_key(|send| matches!(send, Send::Question(_)));
        // What is told is the state at the end: once is enough.
        let told = sends.iter().rposition(|send| matches!(send, Send::Broadcast));
        for (place, send) in sends.into_iter().enumerate() {
            let (to, message) = match send {
                Send::Broadcast => {
                    if told == Some(place) {
                        self.outputs.push_back(Output::Broadcast);
                    }
                    continue;
                }
                Send::SpaceRequest(to, range) => (to, Unicast::SpaceRequest(range)),
                Send::Denied(to, range) => (to, Unicast::Denied(range)),
                // Nobody reads the time in it.
                Send::Question(to) => (to, Unicast::RingUpdate(State::default())),
                Send::RingUpdate(to) => (to, Unicast::RingUpdate(self.state(0))),
            };
            let payload = Bytes::from(message.encode());
            self.outputs.push_back(Output::Unicast { to, payload });
        }
        for (request, answer) in self.answers.drain(..) {
            self.outputs.push_back(Output::Answer { request, answer });
        }
        self.outputs.extend(self.events.drain(..).map(Output::Event));
    }
}
