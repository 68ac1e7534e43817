//! Rings of others that do not fit ours. They are kept out, remembered and told; nothing else of
//! the mesh is touched by them.
//!
//! | what arrives | what is done |
//! |---|---|
//! | another owner for what is in use here | ours stays, in a version above theirs, and is told again |
//! | another owner for what a peer owns that is not gone, not from that peer | left out until the owner says so itself: it is asked |
//! | what a peer claims that was taken from it while it was gone | believed of that peer |
//! | another owner for what is ours and not in use, not from that owner | the same with that owner |
//! | a version that no honest mesh reaches | left out |
//! | a ring of other seeds, or of another range | left out as a whole |
//!
//! The question to an owner is a state without a ring and without a vote: Weave Net answers it with
//! its ring, too. A peer is gone when messages have not got to it for [`GONE_AFTER`]: until then
//! nobody else disposes of what it has, since its containers may run. What was taken over from a
//! peer by the user waits for [`TAKEOVER_WAIT`], so that hosts that did so at the same time find
//! out before they give addresses out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weave_core::mesh::PeerName;
use weave_core::time::Instant;
use weave_core::wire::gob::AtMost;

use super::{Allocator, Event, Refusal, Send, TICK};
use crate::ring::{Contested, Entry, RawRing, RingError};
use crate::{AddressSet, Range, Ring};

/// Versions rise by one with each change, and by 100 with a takeover. At a thousand changes a
/// second this one is reached after 24 days without a pause, by one token.
const MAX_VERSION: u32 = 1 << 31;
/// Who was out of reach for so long does not come back soon: the user, on another host, may have
/// taken over what it has. A restart takes less.
pub const GONE_AFTER: Duration = Duration::from_secs(30);
/// From one defence of a token to the next, doubled each time up to [`MAX_PAUSE`]: two peers that
/// both have good reasons must not write to their disks for ever.
const FIRST_PAUSE: Duration = TICK;
/// See [`FIRST_PAUSE`].
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// Defences in one [`TICK`]: each may add a token to the ring, which never leaves it.
const MAX_DEFENDED: usize = 16;
/// Owners that are asked in one [`TICK`]: each answers with the whole ring.
const MAX_QUESTIONS: usize = 16;
/// Conflicts of a kind that are remembered. Those beyond are kept out all the same.
const MAX_REMEMBERED: usize = 256;
/// A conflict of which nothing was heard for so long is over: neighbours tell all they know each
/// half minute.
const MEMORY: Duration = Duration::from_secs(180);
/// How long an owner may take to answer until it is worth telling the user.
const PATIENCE: Duration = Duration::from_secs(60);
/// A conflict that lasts is logged again after this time.
const LOG_PAUSE: Duration = Duration::from_secs(600);
/// Lines of the log in one [`TICK`].
const MAX_LINES: usize = 4;
/// What is taken over is not given out before this.
pub(super) const TAKEOVER_WAIT: Duration = TICK;

/// What does not fit, for status pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// Whose ring or claim it is.
    pub peer: PeerName,
    /// How that peer is called.
    pub nickname: String,
    /// What is wrong, and what to do.
    pub text: String,
    /// How often it was heard.
    pub count: u64,
}

/// What the conflicts are about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Subject {
    /// A token of this peer's.
    Ours(u32),
    /// A token of another peer's.
    Theirs(u32),
    /// All of a ring.
    Ring,
}

#[derive(Clone, Debug)]
struct Record {
    /// What was claimed; none if it is about all of a ring.
    entry: Option<Entry>,
    /// Who owns it as far as we know.
    owner: PeerName,
    error: Option<RingError>,
    first: Instant,
    last: Instant,
    count: u64,
    logged: Option<Instant>,
    defended: Option<Instant>,
    pause: Duration,
}

/// The conflicts there are.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    records: BTreeMap<(Subject, PeerName), Record>,
    /// Owners that were asked since the last tick.
    asked: BTreeSet<PeerName>,
    /// Since the last tick.
    defended: usize,
    /// What the user took over from others, and since when.
    taken: Vec<(Range, Instant)>,
    /// Tokens that others took from a peer that was gone, and from whom.
    lost: BTreeMap<u32, PeerName>,
    /// The seeds of the ring that the user decided for.
    adopting: Option<Vec<PeerName>>,
}

impl Conflicts {
    fn note(
        &mut self,
        now: Instant,
        key: (Subject, PeerName),
        owner: PeerName,
        entry: Option<Entry>,
        error: Option<RingError>,
    ) -> Option<&mut Record> {
        let of_kind = |(subject, _): &&(Subject, PeerName)| {
            std::mem::discriminant(subject) == std::mem::discriminant(&key.0)
        };
        if !self.records.contains_key(&key)
            && self.records.keys().filter(of_kind).count() >= MAX_REMEMBERED
        {
            return None;
        }
        let record = self.records.entry(key).or_insert(Record {
            entry,
            owner,
            error: None,
            first: now,
            last: now,
            count: 0,
            logged: None,
            defended: None,
            pause: FIRST_PAUSE,
        });
        (record.entry, record.owner, record.error, record.last) = (entry, owner, error, now);
        record.count += 1;
        Some(record)
    }

    /// Whether what is in use elsewhere is in doubt.
    pub(super) fn are_any(&self) -> bool {
        self.records.keys().any(|(subject, _)| matches!(subject, Subject::Ours(_) | Subject::Ring))
    }

    /// Another owner is believed, because of what `source` says.
    fn changed_hands(&mut self, source: Option<PeerName>, owner: PeerName, token: u32) {
        if source == Some(owner) {
            self.lost.remove(&token);
        } else if self.lost.len() < MAX_REMEMBERED {
            self.lost.entry(token).or_insert(owner);
        }
    }

    /// What was taken over stays out of use for a while.
    pub(super) fn took_over(&mut self, now: Instant, ranges: &[Range]) {
        self.taken.extend(ranges.iter().map(|range| (*range, now)));
    }

    /// What is not to be given out now: what was just taken over, and what was taken over and is
    /// claimed by another peer, who may have done the same.
    pub(super) fn frozen(&self, now: Instant, ring: &Ring) -> AddressSet {
        let mut frozen = AddressSet::default();
        if self.taken.is_empty() {
            return frozen;
        }
        let claimed: Vec<Range> = self
            .records
            .keys()
            .filter_map(|(subject, _)| match subject {
                Subject::Ours(token) => ring.range_at(*token),
                Subject::Theirs(_) | Subject::Ring => None,
            })
            .collect();
        for (range, since) in &self.taken {
            if now.saturating_since(*since) < TAKEOVER_WAIT {
                frozen.insert(*range);
            } else {
                claimed.iter().for_each(|claimed| frozen.insert(claimed.intersection(*range)));
            }
        }
        frozen
    }
}

impl Allocator {
    /// Takes the entries out of a ring that are not to be believed, and asks those who know.
    pub(super) fn left_out(&mut self, source: Option<PeerName>, theirs: RawRing) -> RawRing {
        if self.ring.is_empty() {
            return theirs;
        }
        let own = self.config.name;
        let mut raw = theirs;
        let entries = std::mem::take(&mut raw.entries.0);
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            let known = self.ring.entry_at(entry.token);
            let is_news = known.is_none_or(|known| {
                entry.version > known.version
                    || entry.version == known.version && entry.free > known.free
            });
            let owner = self.ring.owner(entry.token).unwrap_or(own);
            let lie = entry.version > MAX_VERSION
                && known.is_none_or(|known| entry.version > known.version);
            let changes_hands = is_news && owner != entry.peer && !lie;
            let hearsay = changes_hands && self.is_hearsay(source, owner, &entry);
            if !lie && !hearsay {
                if changes_hands {
                    self.conflicts.changed_hands(source, owner, entry.token);
                }
                kept.push(entry);
                continue;
            }
            let subject = if owner == own {
                Subject::Ours(entry.token)
            } else {
                Subject::Theirs(entry.token)
            };
            self.conflicts.note(self.now, (subject, entry.peer), owner, Some(entry), None);
            if hearsay {
                self.question(if owner == own { entry.peer } else { owner });
            }
        }
        raw.entries = AtMost(kept);
        raw
    }

    /// Whether somebody else speaks than the one who would know.
    fn is_hearsay(&self, source: Option<PeerName>, owner: PeerName, entry: &Entry) -> bool {
        let own = self.config.name;
        if owner == own {
            // What is in use is defended, whoever speaks.
            let range = self.ring.range_at(entry.token).unwrap_or_default();
            return source != Some(entry.peer)
                && self.can_reach(entry.peer)
                && self.space.is_free(range);
        }
        if source == Some(owner) {
            return false;
        }
        let takes_back =
            source == Some(entry.peer) && self.conflicts.lost.get(&entry.token) == source.as_ref();
        !takes_back && !self.is_gone(owner)
    }

    /// Whether a peer has been out of reach for long.
    fn is_gone(&self, peer: PeerName) -> bool {
        let seen = self.seen.get(&peer).copied().unwrap_or(self.began);
        !self.can_reach(peer) && self.now.saturating_since(seen) >= GONE_AFTER
    }

    /// Asks a peer for its ring.
    pub(super) fn question(&mut self, owner: PeerName) {
        let asked = &mut self.conflicts.asked;
        if self.reachable.contains(&owner) && asked.len() < MAX_QUESTIONS && asked.insert(owner) {
            self.sends.push(Send::Question(owner));
        }
    }

    /// Holds on to what is in use here, and tells so.
    pub(super) fn defend(&mut self, contested: Vec<Contested>) {
        for Contested { entry, error } in contested {
            let (own, now) = (self.config.name, self.now);
            let key = (Subject::Ours(entry.token), entry.peer);
            let room = self.conflicts.defended < MAX_DEFENDED;
            let Some(record) = self.conflicts.note(now, key, own, Some(entry), Some(error)) else {
                continue;
            };
            let is_due = record.defended.is_none_or(|at| now.saturating_since(at) >= record.pause);
            if !is_due || !room || entry.version >= MAX_VERSION {
                continue;
            }
            if record.defended.replace(now).is_some() {
                record.pause = (record.pause * 2).min(MAX_PAUSE);
            }
            self.conflicts.defended += 1;
            self.ring.defend(entry.token, entry.version);
            self.ring_changed = true;
            self.sends.push(Send::Broadcast);
        }
    }

    /// Has all peers take the side of this one where another has the same right.
    pub(super) fn win(&mut self, ties: &[Entry]) {
        for tie in ties {
            if self.conflicts.defended >= MAX_DEFENDED || tie.version >= MAX_VERSION {
                return;
            }
            self.conflicts.defended += 1;
            self.ring.defend(tie.token, tie.version);
            self.ring_changed = true;
            self.sends.push(Send::Broadcast);
        }
    }

    /// A ring that does not belong to ours at all.
    pub(super) fn foreign(&mut self, peer: PeerName, error: RingError) {
        let key = (Subject::Ring, peer);
        self.conflicts.note(self.now, key, self.config.name, None, Some(error));
    }

    /// Forgets what is over, asks again, and tells what lasts.
    pub(super) fn look_at_conflicts(&mut self) {
        let now = self.now;
        self.conflicts.asked.clear();
        self.conflicts.defended = 0;
        self.forget_settled();
        let owners: BTreeSet<PeerName> = self
            .conflicts
            .records
            .iter()
            .filter(|((subject, _), _)| matches!(subject, Subject::Theirs(_)))
            .map(|(_, record)| record.owner)
            .collect();
        owners.into_iter().for_each(|owner| self.question(owner));
        let due = |record: &Record| match record.logged {
            Some(at) => now.saturating_since(at) >= LOG_PAUSE,
            None => is_told(now, record),
        };
        let due: Vec<(Subject, PeerName)> = self
            .conflicts
            .records
            .iter()
            .filter(|(_, record)| due(record))
            .map(|(key, _)| *key)
            .collect();
        // One line for each peer, whatever it claims.
        let mut told = BTreeSet::new();
        for key in due {
            let text = self.conflicts.records.get(&key).map(|record| self.text(key, record));
            if !told.contains(&key.1) && told.len() >= MAX_LINES {
                continue;
            }
            if let (Some(text), true) = (text, told.insert(key.1)) {
                self.events.push(Event::Conflict { peer: key.1, text });
            }
            if let Some(record) = self.conflicts.records.get_mut(&key) {
                record.logged = Some(now);
            }
        }
        let ring = &self.ring;
        let own = self.config.name;
        self.conflicts.taken.retain(|(range, _)| ring.owner(range.start) == Some(own));
    }

    fn forget_settled(&mut self) {
        let (now, ring, own) = (self.now, &self.ring, self.config.name);
        let mut over = BTreeSet::new();
        self.conflicts.records.retain(|(subject, peer), record| {
            let settled = match subject {
                Subject::Theirs(token) => {
                    let known = ring.entry_at(*token);
                    ring.owner(*token) == Some(*peer)
                        || known.is_some_and(|known| {
                            record.entry.is_some_and(|entry| known.version > entry.version)
                        })
                }
                Subject::Ours(token) => {
                    ring.owner(*token) != Some(own)
                        || record.error.is_none() && now.saturating_since(record.last) > TICK
                }
                Subject::Ring => false,
            };
            let kept = !settled && now.saturating_since(record.last) < MEMORY;
            if !kept && record.logged.is_some() {
                over.insert(*peer);
            }
            kept
        });
        for peer in over {
            if !self.conflicts.records.keys().any(|(_, other)| *other == peer) {
                self.events.push(Event::ConflictOver(peer));
            }
        }
    }

    /// Whether something is claimed that is not believed; for how long is up to the caller.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let told = self.conflicts.records.iter().filter(|(_, record)| is_told(self.now, record));
        told.map(|(key, record)| Conflict {
            peer: key.1,
            nickname: self.nickname(key.1).to_owned(),
            text: self.text(*key, record),
            count: record.count,
        })
        .collect()
    }

    fn text(&self, (subject, peer): (Subject, PeerName), record: &Record) -> String {
        let named = |peer: PeerName| format!("{peer}({})", self.nickname(peer));
        let claimant = named(peer);
        let at = |token: u32| std::net::Ipv4Addr::from_bits(token);
        let version = record.entry.map_or(0, |entry| entry.version);
        match subject {
            Subject::Ours(token) => format!(
                "{claimant} claims the range at {} in version {version}, which is ours and in use \
                 here: we keep it. If we should give it up, `weave accept {peer}` here; if that \
                 peer lies, shut it out of the mesh",
                at(token)
            ),
            Subject::Theirs(token) if peer == self.config.name => {
                let owner = record.owner;
                format!(
                    "the range at {} of {} is said to be given to us, and its owner does not \
                     confirm it: not used. If that peer is gone for good, `weave rmpeer {owner}` here",
                    at(token),
                    named(owner)
                )
            }
            Subject::Theirs(token) => format!(
                "the range at {} of {} is said to be {claimant}'s in version {version}, and its \
                 owner does not confirm it: not believed. If it is so, `weave accept {peer}` here",
                at(token),
                named(record.owner)
            ),
            Subject::Ring => match &record.error {
                Some(RingError::DifferentSeeds { theirs, ours }) => {
                    let refusal = Refusal::DifferentSeeds {
                        theirs: self.with_nicknames(theirs),
                        ours: self.with_nicknames(ours),
                    };
                    format!(
                        "{claimant}: {refusal}, or let each of them take the ring of the others with \
                         `weave accept {peer}`"
                    )
                }
                Some(error) => format!(
                    "{claimant}: {error}. No addresses are exchanged with it: give all peers the same \
                     --ipalloc-range"
                ),
                None => claimant,
            },
        }
    }

    /// Gives in to a peer that claims something else than we do. Says whether there was anything to
    /// give in to.
    ///
    /// What is in use here is kept in any case: of a range that both claim, the peer gets the rest;
    /// if its whole ring is another one, that takes the place of ours as soon as the peer tells it,
    /// and what is in use here is claimed there.
    pub fn give_in(&mut self, now: Instant, peer: &str) -> bool {
        self.advance(now);
        let Some(peer) = self.find(peer) else { return false };
        let of_peer = |(_, claimant): &(Subject, PeerName)| *claimant == peer;
        let keys: Vec<_> = self.conflicts.records.keys().copied().filter(of_peer).collect();
        for key in &keys {
            let Some(record) = self.conflicts.records.remove(key) else { continue };
            match (key.0, record.entry, record.error) {
                (Subject::Ours(token), Some(entry), _) => self.concede(token, entry),
                (Subject::Theirs(_), Some(entry), _) => {
                    self.ring.put(entry);
                    self.ring_updated();
                }
                (Subject::Ring, _, Some(RingError::DifferentSeeds { theirs, .. })) => {
                    self.conflicts.adopting = Some(theirs);
                    self.sends.push(Send::Question(peer));
                }
                _ => {}
            }
        }
        if !keys.is_empty() {
            self.events.push(Event::Accepted(peer));
            self.sends.push(Send::Broadcast);
        }
        self.finish();
        !keys.is_empty()
    }

    /// Gives a peer what it claims and is not in use here.
    fn concede(&mut self, token: u32, claimed: Entry) {
        let Some(range) = self.ring.range_at(token) else { return };
        self.ring.defend(token, claimed.version.min(MAX_VERSION));
        let free: Vec<Range> = self.space.free().within(range).collect();
        for part in free {
            self.ring.grant(part, claimed.peer);
        }
        self.ring_updated();
    }

    /// What the user confirms about a peer that is gone: what it is said to have given to us.
    pub(super) fn believe_gifts_of(&mut self, owner: PeerName) -> bool {
        let own = self.config.name;
        let given: Vec<_> = self
            .conflicts
            .records
            .iter()
            .filter(|((_, peer), record)| *peer == own && record.owner == owner)
            .filter_map(|(key, record)| Some((*key, record.entry?)))
            .collect();
        for (key, entry) in &given {
            self.conflicts.records.remove(key);
            self.ring.put(*entry);
        }
        !given.is_empty()
    }

    /// The ring that the user decided for takes the place of ours.
    pub(super) fn adopts(&mut self, theirs: &Ring) -> bool {
        let wanted = self.conflicts.adopting.as_deref() == Some(theirs.seeds());
        if !wanted || theirs.range() != self.ring.range() || theirs.is_empty() {
            return false;
        }
        self.conflicts.adopting = None;
        self.conflicts.records.clear();
        self.claim_what_is_held();
        self.ring = Ring::new(self.config.universe.range(), self.config.name);
        self.space.set_ranges(&[]);
        true
    }
}

fn is_told(now: Instant, record: &Record) -> bool {
    record.error.is_some() || now.saturating_since(record.first) >= PATIENCE
}
