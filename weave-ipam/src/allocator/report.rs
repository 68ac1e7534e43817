//! The state of the allocator, for status pages and metrics.

use weave_core::mesh::PeerName;

use super::{Allocator, Conflict};
use crate::{Cidr, Range, Subnet};

/// The state of an allocator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Set while a ring is wanted and there is none.
    pub awaiting: Option<Vote>,
    /// All addresses that peers share out among each other.
    pub universe: Subnet,
    /// Addresses in use here.
    pub active: u32,
    /// The ring, ascending, the range that goes over its end in two.
    pub entries: Vec<Entry>,
    /// Addresses that are waited for.
    pub pending_claims: Vec<PendingClaim>,
    /// Subnets of which any address is waited for.
    pub pending_allocations: Vec<Subnet>,
    /// What others say that does not fit.
    pub conflicts: Vec<Conflict>,
    /// Addresses are not given out until other peers told what is in use.
    pub is_settling: bool,
}

/// How far the first division is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vote {
    /// This peer takes no part in the vote.
    Observing,
    /// It does.
    Electing {
        /// Nodes that it knows of.
        known: usize,
        /// How many decide.
        quorum: usize,
    },
}

/// A part of the ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The addresses.
    pub range: Range,
    /// Who owns them.
    pub peer: PeerName,
    /// How that is called.
    pub nickname: String,
    /// Whether it is in reach.
    pub is_known: bool,
    /// How often the token was changed.
    pub version: u32,
}

/// An address that is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingClaim {
    /// For whom.
    pub holder: String,
    /// The address.
    pub cidr: Cidr,
}

impl Allocator {
    /// The state of the allocator.
    pub fn report(&self) -> Report {
        let vote = || match &self.consensus {
            None => Vote::Observing,
            Some(consensus) => {
                Vote::Electing { known: consensus.claims().len(), quorum: consensus.quorum() }
            }
        };
        let entry = |(range, entry): (Range, crate::ring::Entry)| Entry {
            range,
            peer: entry.peer,
            nickname: self.nickname(entry.peer).to_owned(),
            is_known: self.can_reach(entry.peer),
            version: entry.version,
        };
        let claims = self.claims.iter();
        Report {
            awaiting: self.awaiting.then(vote),
            universe: self.config.universe,
            active: self.space.used().len(),
            entries: self.ring.ranges().into_iter().map(entry).collect(),
            pending_claims: claims
                .map(|claim| PendingClaim { holder: claim.holder.clone(), cidr: claim.cidr })
                .collect(),
            conflicts: self.conflicts(),
            is_settling: !self.settling.is_settled(),
            pending_allocations: self
                .allocations
                .iter()
                .chain(self.probing.values().map(|(waiting, _)| waiting))
                .map(|waiting| waiting.subnet)
                .collect(),
        }
    }
}
