//! When a peer gives addresses out that does not know who had which before.
//!
//! ```text
//!   no store ──▶ Ringless ──ring──▶ Waiting ──all heard, or GRACE──▶ Settled ──DOUBT──▶ Certain
//!   store ───────────────────────────────────────────────────────────────────────────▶ Certain
//! ```
//!
//! Its containers may run, and so may those of others that lost their state with it. Each peer
//! claims the addresses it finds in use on its host as soon as there is a ring. So nothing is given
//! out, and no space to others, until everybody who is expected has shown a ring, which it does
//! after its claims. Whoever never comes is waited for no longer than [`GRACE`]. For some time
//! after that the allocator has the driver ask on the switch, before an address is given out,
//! whether somebody uses it already.

use std::collections::BTreeSet;
use std::time::Duration;

use weave_core::mesh::PeerName;
use weave_core::time::Instant;

/// From when there is a ring until addresses are given out whoever is missing: six attempts to
/// claim.
pub const GRACE: Duration = Duration::from_secs(30);
/// How long addresses are asked for on the switch before they are given out. A host whose router
/// comes later than this claims what its containers have before its frames are carried.
const DOUBT: Duration = Duration::from_secs(600);

/// In a larger mesh each asks the others by and by: all of them telling all would be too much.
const MAX_SHOWN_TO: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// There is no ring.
    Ringless,
    /// There is one since then.
    Waiting(Instant),
    /// Addresses are given out since then.
    Settled(Instant),
    /// Whatever is in use is known.
    Certain,
}

/// How far the claims of all peers are.
#[derive(Debug)]
pub(super) struct Settling {
    phase: Phase,
    /// Peers that showed a ring.
    heard: BTreeSet<PeerName>,
    /// This peer showed its own.
    shown: bool,
}

impl Default for Settling {
    fn default() -> Self {
        Self { phase: Phase::Certain, heard: BTreeSet::new(), shown: true }
    }
}

/// What is known of the others.
pub(super) struct Others<'a> {
    /// Those that frames get to.
    pub(super) linked: &'a BTreeSet<PeerName>,
    /// How many should be there.
    pub(super) expected: usize,
    /// An address that was found in use waits for its owner.
    pub(super) claims_wait: bool,
}

impl Settling {
    /// Of a peer that begins without a store.
    pub(super) fn begin() -> Self {
        Self { phase: Phase::Ringless, heard: BTreeSet::new(), shown: false }
    }

    /// Whether addresses may be given out.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled(_) | Phase::Certain)
    }

    /// Whether an address is asked for before it is given out.
    pub(super) fn doubts(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Settled(since) => now.saturating_since(since) < DOUBT,
            Phase::Ringless | Phase::Waiting(_) => true,
            Phase::Certain => false,
        }
    }

    /// There is a ring.
    pub(super) fn ring_known(&mut self, now: Instant) {
        if self.phase == Phase::Ringless {
            self.phase = Phase::Waiting(now);
        }
    }

    /// A peer showed a ring.
    pub(super) fn heard(&mut self, peer: PeerName) {
        if matches!(self.phase, Phase::Waiting(_)) {
            self.heard.insert(peer);
        }
    }

    /// Whether this peer is to show its ring now, so that others need not ask for it.
    pub(super) fn shows(&mut self, others: &Others<'_>) -> bool {
        let is_time = matches!(self.phase, Phase::Waiting(_)) && !others.claims_wait;
        let shows = is_time && !self.shown && (1..=MAX_SHOWN_TO).contains(&others.linked.len());
        self.shown |= shows;
        shows
    }

    /// Those that are there and did not show a ring yet.
    pub(super) fn missing(&self, linked: &BTreeSet<PeerName>) -> Vec<PeerName> {
        let waits = matches!(self.phase, Phase::Waiting(_));
        if waits { linked.difference(&self.heard).copied().collect() } else { Vec::new() }
    }

    /// Looks whether the time has come. Says how many peers are missing if it just has.
    pub(super) fn look(&mut self, now: Instant, others: &Others<'_>) -> Option<usize> {
        let Phase::Waiting(since) = self.phase else { return None };
        let heard = others.linked.intersection(&self.heard).count();
        let missing = others.expected.max(others.linked.len()).saturating_sub(heard);
        let is_time = now.saturating_since(since) >= GRACE;
        if !is_time && (missing > 0 || others.claims_wait) {
            return None;
        }
        self.phase = Phase::Settled(now);
        self.heard.clear();
        Some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(number: u64) -> PeerName {
        PeerName::from_u64(number).unwrap()
    }

    fn others(linked: &BTreeSet<PeerName>, expected: usize, claims_wait: bool) -> Others<'_> {
        Others { linked, expected, claims_wait }
    }

    #[test]
    fn all_who_are_there_are_waited_for() {
        let (mut settling, start) = (Settling::begin(), Instant::ORIGIN);
        let linked: BTreeSet<PeerName> = [peer(2), peer(3)].into();
        assert_eq!(settling.look(start + GRACE, &others(&linked, 2, false)), None, "no ring");
        settling.ring_known(start);
        settling.heard(peer(2));
        assert_eq!(settling.missing(&linked), [peer(3)]);
        assert_eq!(settling.look(start + SECOND, &others(&linked, 1, false)), None);
        settling.heard(peer(3));
        assert_eq!(settling.look(start + SECOND, &others(&linked, 3, false)), None, "one is away");
        assert_eq!(settling.look(start + SECOND, &others(&linked, 2, true)), None, "a claim waits");
        assert!(!settling.is_settled());
        assert_eq!(settling.look(start + SECOND, &others(&linked, 2, false)), Some(0));
        assert!(settling.is_settled() && settling.doubts(start + SECOND * 2));
        assert!(!settling.doubts(start + SECOND + DOUBT));
    }

    #[test]
    fn who_never_comes_is_not_waited_for() {
        let (mut settling, start) = (Settling::begin(), Instant::ORIGIN);
        let linked: BTreeSet<PeerName> = [peer(2)].into();
        settling.ring_known(start);
        settling.ring_known(start + SECOND * 20);
        assert_eq!(settling.look(start + SECOND * 29, &others(&linked, 3, true)), None);
        assert_eq!(settling.look(start + GRACE, &others(&linked, 3, true)), Some(3));
        assert_eq!(settling.look(start + GRACE, &others(&linked, 3, true)), None, "told once");
    }

    #[test]
    fn a_lone_peer_and_one_with_a_store_wait_for_nobody() {
        let (mut settling, start) = (Settling::begin(), Instant::ORIGIN);
        settling.ring_known(start);
        assert_eq!(settling.look(start, &others(&BTreeSet::new(), 0, false)), Some(0));
        let settling = Settling::default();
        assert!(settling.is_settled() && !settling.doubts(start));
    }
}
