//! A member that lies: a real router, heard through a tap that changes, withholds, repeats and
//! reorders what it says, and that says things of its own.
//!
//! ```text
//!   Router ── says ──▶ mutate ──▶ connection      (a lie in a message that is due)
//!                        invent ──▶ connection      (a lie unasked: `Liar::act`)
//!                        hears ◀── connection       (so that lies are about what is there)
//! ```

mod invent;
mod ipam;
mod mutate;
mod topology;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weave_core::mesh::{ConnectionId, Features, Gossip, PeerName, Random, Uid};
use weave_core::sim::{HostId, Net, Tap, TappedFrame};
use weave_ipam::ring::Entry;

use crate::framing::{Framing, Piece};
use crate::records::{self, Record};

/// Marks what the invariants watch: the liar does not repeat it, since what a member repeats
/// cannot be told from what an honest one says twice.
pub const WATCHED: &[u8] = b"watched-by-the-invariants";

/// Bytes that one liar says of its own accord in a story: enough to find what a lie does, and few
/// enough for thousands of stories.
const MAX_SPENT: u64 = 400_000;

/// Messages that are remembered, to be said again.
const MAX_HEARD: usize = 48;
/// What is shown of a liar when an invariant is broken.
const MAX_LOG: usize = 40;

/// What is so among honest routers while somebody lies to them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Surroundings {
    /// Pairs of honest peers that have a connection, in both orders.
    pub adjacent: BTreeSet<(PeerName, PeerName)>,
    /// All of them have one to all others.
    pub is_full: bool,
    /// One of them is out of reach of another, and has been for a while.
    pub somebody_is_away: bool,
}

/// A way to lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Habit {
    /// Changes any field of a message that is due.
    Mutate,
    /// Changes any byte of a message that is due.
    Garble,
    /// Does not send what is due.
    Withhold,
    /// Sends what is due in another order.
    Reorder,
    /// Says again what somebody said.
    Replay,
    /// Tells of peers that are not there.
    InventPeers,
    /// Tells something else of honest peers.
    ForgeHonest,
    /// Tells each neighbour something else under one version.
    TwoTruths,
    /// Sends unicasts from anybody to anybody, of anything.
    Unicasts,
    /// Sends broadcasts and gossip of anybody, on any channel.
    Broadcasts,
    /// Compares inventories all the time.
    Sync,
    /// Probes and refuses.
    Notices,
    /// Control messages of transports.
    Controls,
    /// Frames from anybody to anybody.
    Frames,
    /// Messages that never end, or make no sense.
    Nonsense,
    /// Does not read.
    Deaf,
    /// Says that it is somebody else when it connects.
    Impersonate,
    /// Tells of rings of addresses that are not so.
    Rings,
    /// Asks for addresses, and says that it has none, in anybody's name.
    Requests,
    /// Says that addresses of others are its own, and gives them away.
    Usurp,
    /// Makes up what others voted for.
    Votes,
    /// Asks much with little, as often as it can.
    Flood,
}

impl Habit {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Mutate,
        Self::Garble,
        Self::Withhold,
        Self::Reorder,
        Self::Replay,
        Self::InventPeers,
        Self::ForgeHonest,
        Self::TwoTruths,
        Self::Unicasts,
        Self::Broadcasts,
        Self::Sync,
        Self::Notices,
        Self::Controls,
        Self::Frames,
        Self::Nonsense,
        Self::Deaf,
        Self::Impersonate,
        Self::Rings,
        Self::Requests,
        Self::Usurp,
        Self::Votes,
        Self::Flood,
    ];
}

/// What a liar does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Keeps to the rules.
    Truthful,
    /// Lies, but not about the records of honest peers.
    Careful,
    /// Lies about them as well, but neither says that it is one of them nor speaks about addresses
    /// in their name: what is told while peers come and go.
    Forging,
    /// Lies about everything.
    Lying,
}

impl Mood {
    /// Whether records of honest peers may be forged.
    const fn forges(self) -> bool {
        matches!(self, Self::Forging | Self::Lying)
    }
}

/// What a liar has said that its router has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that were unicasts.
    pub unicasts: u64,
    /// Frames.
    pub frames: u64,
}

/// A handle on a liar, whose tap is in the network.
#[derive(Clone)]
pub struct Liar {
    host: HostId,
    tongue: Arc<Mutex<Tongue>>,
}

struct Tongue {
    random: Random,
    own: PeerName,
    honest: Vec<PeerName>,
    habits: BTreeSet<Habit>,
    mood: Mood,
    connections: BTreeMap<ConnectionId, Directions>,
    held_back: BTreeMap<ConnectionId, Bytes>,
    heard: VecDeque<Vec<u8>>,
    records: BTreeMap<Vec<u8>, Record>,
    honest_uids: BTreeMap<PeerName, Uid>,
    ring: Option<weave_ipam::message::State>,
    /// It goes on telling two truths so often, and how often it has.
    going_round: (u32, u64),
    /// What it tells them: that each is next to the target, or that each is behind the next one.
    tells_roots: bool,
    /// Tokens that it has claimed.
    usurped: Vec<Entry>,
    surroundings: Surroundings,
    log: VecDeque<String>,
    spent: Spent,
}

#[derive(Default)]
struct Directions {
    outgoing: Framing,
    incoming: Framing,
    /// The neighbour, once it has told its name.
    peer: Option<PeerName>,
    /// The own first message is out: others may follow.
    talks: bool,
}

impl Liar {
    /// The router of this host lies from now on, once it is told to.
    pub fn new(
        net: &mut Net,
        host: HostId,
        honest: Vec<PeerName>,
        habits: BTreeSet<Habit>,
        seed: [u8; 32],
    ) -> Self {
        let tongue = Tongue {
            random: Random::new(seed),
            own: net.name(host),
            honest,
            habits,
            mood: Mood::Truthful,
            connections: BTreeMap::new(),
            held_back: BTreeMap::new(),
            heard: VecDeque::new(),
            records: BTreeMap::new(),
            honest_uids: BTreeMap::new(),
            ring: None,
            going_round: (0, 0),
            tells_roots: false,
            usurped: Vec::new(),
            surroundings: Surroundings::default(),
            log: VecDeque::new(),
            spent: Spent::default(),
        };
        let liar = Self { host, tongue: Arc::new(Mutex::new(tongue)) };
        net.set_tap(host, Box::new(liar.clone()));
        liar
    }

    /// Its host.
    pub const fn host(&self) -> HostId {
        self.host
    }

    /// What it does from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// What is so around it.
    pub fn set_surroundings(&self, surroundings: Surroundings) {
        self.lock().surroundings = surroundings;
    }

    /// What it has said of its own accord.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// The last lies, in words.
    pub fn log(&self) -> Vec<String> {
        self.lock().log.iter().cloned().collect()
    }

    /// Tells a lie or two that nothing called for.
    pub fn act(&self, net: &mut Net) {
        let ends = net.connections(self.host);
        let mut tongue = self.lock();
        if tongue.mood == Mood::Truthful || tongue.spent.bytes > MAX_SPENT {
            return;
        }
        let up: Vec<(ConnectionId, PeerName)> = ends
            .iter()
            .filter_map(|(id, _)| {
                let directions = tongue.connections.get(id)?;
                Some((*id, directions.peer.filter(|_| directions.talks)?))
            })
            .collect();
        if up.is_empty() {
            return;
        }
        let lies = tongue.invent(&up);
        if tongue.has(Habit::Deaf) && tongue.one_in(20) {
            let reads = tongue.one_in(2);
            tongue.note(format!("reads: {reads}"));
            net.set_reading(self.host, reads);
        }
        let parts = (tongue.has(Habit::Impersonate) && tongue.mood == Mood::Lying)
            .then(|| (tongue.one_in(10), tongue.pick(&ends).copied()));
        drop(tongue);
        // To come again, as somebody else.
        if let Some((true, Some((_, other)))) = parts {
            net.reset_connections(self.host, other);
        }
        for lie in lies {
            self.tell(net, lie);
        }
    }

    fn tell(&self, net: &mut Net, lie: Lie) {
        match lie {
            Lie::Bytes { id, bytes, messages, unicasts } => {
                let len = bytes.len() as u64;
                if net.inject(self.host, id, bytes) {
                    let spent = &mut self.lock().spent;
                    spent.messages += messages;
                    spent.bytes += len;
                    spent.unicasts += unicasts;
                }
            }
            Lie::Frame { to, frame } => {
                if net.inject_frame(self.host, to, frame) {
                    self.lock().spent.frames += 1;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tongue> {
        self.tongue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something to say unasked.
enum Lie {
    Bytes { id: ConnectionId, bytes: Bytes, messages: u64, unicasts: u64 },
    Frame { to: PeerName, frame: TappedFrame },
}

impl Tap for Liar {
    fn restarted(&mut self) {
        let mut tongue = self.lock();
        tongue.connections.clear();
        tongue.held_back.clear();
    }

    fn outgoing(&mut self, id: ConnectionId, bytes: Bytes) -> Vec<Bytes> {
        let mut tongue = self.lock();
        let directions = tongue.connections.entry(id).or_default();
        let pieces = directions.outgoing.push(&bytes);
        if pieces.iter().any(|piece| matches!(piece, Piece::Features(_))) {
            directions.talks = true;
        }
        pieces.into_iter().flat_map(|piece| tongue.say(id, piece)).collect()
    }

    fn incoming(&mut self, id: ConnectionId, bytes: Bytes) -> Bytes {
        let mut tongue = self.lock();
        let directions = tongue.connections.entry(id).or_default();
        for piece in directions.incoming.push(&bytes) {
            tongue.hear(id, piece);
        }
        bytes
    }

    fn frame(&mut self, frame: TappedFrame) -> Vec<TappedFrame> {
        self.lock().relay(frame)
    }
}

impl Tongue {
    fn hear(&mut self, id: ConnectionId, piece: Piece) {
        match piece {
            Piece::Prefix(_) => {}
            Piece::Features(message) => {
                let Ok(features) = Features::decode(&message) else { return };
                self.honest_uids.insert(features.name, features.uid);
                if let Some(directions) = self.connections.get_mut(&id) {
                    directions.peer = Some(features.name);
                }
            }
            Piece::Message(message) => self.remember(message),
        }
    }

    fn remember(&mut self, message: Vec<u8>) {
        if message.windows(WATCHED.len()).any(|window| window == WATCHED) {
            return;
        }
        if let Some((4 | 6, payload)) = message.split_first().map(|(tag, rest)| (*tag, rest))
            && let Ok(gossip) = Gossip::decode(payload)
        {
            match gossip.channel {
                "topology" => {
                    for record in records::decode(gossip.data) {
                        self.records.insert(record.name.clone(), record);
                    }
                }
                weave_ipam::message::CHANNEL => {
                    let state = weave_ipam::message::State::decode(gossip.data);
                    self.ring = state.ok().or(self.ring.take());
                }
                _ => {}
            }
        }
        self.heard.push_back(message);
        if self.heard.len() > MAX_HEARD {
            self.heard.pop_front();
        }
    }

    fn has(&self, habit: Habit) -> bool {
        self.mood != Mood::Truthful && self.habits.contains(&habit)
    }

    fn note(&mut self, line: String) {
        self.log.push_back(line);
        if self.log.len() > MAX_LOG {
            self.log.pop_front();
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.random.below(bound as u64)).unwrap_or(0)
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.random.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(of.len());
        of.get(at)
    }

    /// Any peer: an honest one, the own, or one that is not there.
    fn anybody(&mut self) -> PeerName {
        match self.below(4) {
            0 => self.own,
            1 => self.invented(),
            _ => {
                let honest = self.honest.clone();
                self.pick(&honest).copied().unwrap_or(self.own)
            }
        }
    }

    /// Whose message it is said to be, if `to` reads it, or anybody if that is nobody.
    ///
    /// Messages are not signed. Of a neighbour a router hears from that neighbour alone, and
    /// believes nobody else who speaks in its name; of a peer behind others it hears through them,
    /// and they can make it say anything: that it gave away what it has. Nothing on this wire tells
    /// such a message from a true one (docs/security.md, what is inherited from the protocol). So
    /// the liar speaks about addresses in the name of those alone whom the reader has a connection
    /// to.
    fn source_on(&mut self, channel: &str, to: Option<PeerName>) -> PeerName {
        if channel != weave_ipam::message::CHANNEL {
            return self.anybody();
        }
        let Surroundings { adjacent, is_full, .. } = &self.surroundings;
        let known = |name: &PeerName| match to {
            Some(to) if self.is_honest(&to.to_bytes()) => adjacent.contains(&(*name, to)),
            _ => *is_full,
        };
        let calm = self.mood != Mood::Forging;
        let known: Vec<PeerName> =
            self.honest.iter().copied().filter(|name| calm && known(name)).collect();
        match self.below(4) {
            0 => self.invented(),
            1 => self.own,
            _ => self.pick(&known).copied().unwrap_or(self.own),
        }
    }

    /// A peer that is not there. There are few, so that lies meet.
    fn invented(&mut self) -> PeerName {
        PeerName::from_u64(0x0bad_0000_0000 + self.random.below(12)).unwrap_or(self.own)
    }

    fn is_honest(&self, name: &[u8]) -> bool {
        self.honest.iter().any(|honest| honest.to_bytes() == name)
    }
}
