//! Peers that go for good: this one, or another whose space is taken over.

use weave_core::mesh::PeerName;
use weave_core::time::Instant;

use super::{Allocator, Event, Send};

impl Allocator {
    /// Gives all that this peer has to another one, and answers nobody any more. The process is
    /// expected to end.
    pub fn shut_down(&mut self, now: Instant) {
        self.advance(now);
        self.cancel_everything();
        self.leaving = true;
        let heir = self.heir();
        let own = self.config.name;
        if let Some(heir) = heir
            && !self.ring.transfer(own, heir).is_empty()
        {
            self.holdings.clear();
            self.space.set_ranges(&[]);
            self.ring_changed = true;
            self.sends.push(Send::Broadcast);
        }
        self.events.push(Event::Leaving { heir });
        self.finish();
    }

    /// Somebody in reach if there is any, and rather an owner of addresses.
    fn heir(&self) -> Option<PeerName> {
        let own = self.config.name;
        let owners =
            || self.ring.entries().iter().map(|entry| entry.peer).filter(|peer| *peer != own);
        let named = || self.nicknames.keys().copied().filter(|peer| *peer != own);
        let in_reach = |peer: &PeerName| self.can_reach(*peer);
        owners()
            .find(in_reach)
            .or_else(|| named().find(in_reach))
            .or_else(|| owners().next())
            .or_else(|| named().next())
    }

    /// Takes over what a peer owns that will never come back, by its nickname or its name. Says
    /// how many addresses were gained. It is up to the user to be certain that the peer is gone,
    /// and that nobody else takes it over too.
    pub fn take_over(&mut self, now: Instant, peer: &str) -> u32 {
        self.advance(now);
        let before = self.space.free().len();
        match self.find(peer) {
            Some(name) if name != self.config.name => {
                let given = self.believe_gifts_of(name);
                let gained = self.ring.transfer(name, self.config.name);
                self.conflicts.took_over(self.now, &gained);
                if given || !gained.is_empty() {
                    self.ring_updated();
                    self.sends.push(Send::Broadcast);
                }
                let addresses = self.space.free().len().saturating_sub(before);
                self.events.push(Event::TookOver { peer: name, addresses });
            }
            _ => self.events.push(Event::NothingToTakeOver(peer.to_owned())),
        }
        self.finish();
        self.space.free().len().saturating_sub(before)
    }

    /// Whether this peer, by its nickname or its name, is another one that is in reach.
    pub fn reaches(&self, peer: &str) -> bool {
        self.find(peer).is_some_and(|name| name != self.config.name && self.can_reach(name))
    }

    pub(super) fn find(&self, peer: &str) -> Option<PeerName> {
        let named = self.nicknames.iter().find(|(_, nickname)| *nickname == peer);
        named.map(|(name, _)| *name).or_else(|| peer.parse().ok())
    }
}
