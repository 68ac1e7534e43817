//! The vote on the peers that the ring is first divided among (spec ipam.md, section 6): Paxos,
//! with the state of all nodes spread by gossip.
//!
//! Nobody is told anything: everybody tells all it knows of everybody, and who learns something new
//! thinks about it. A proposal is accepted when as many nodes as the quorum have promised to take
//! none that is older, and decided when as many have accepted it.

use std::collections::BTreeMap;

use weave_core::gob_struct;
use weave_core::mesh::{PeerName, Uid};
use weave_core::wire::gob::AtMost;

use crate::ring::MAX_SEEDS;

/// Nodes that are remembered. A mesh has at most 4096 peers, and each restart during the vote makes
/// one more node.
pub const MAX_NODES: usize = 1 << 14;
/// Names in the values that all nodes accepted, together: those of a thousand nodes of a mesh of a
/// thousand peers.
pub const MAX_NAMES: usize = 1 << 20;
/// Rounds beyond this are not from counting: each tick of 5 s makes one.
const MAX_ROUND: u64 = 1 << 48;

gob_struct! {
    /// A peer from its start to its end: who starts again has forgotten what it promised.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    pub struct NodeId as "NodeID" {
        /// The peer.
        pub name: PeerName = "Name",
        /// Which of its lives.
        pub uid: u64 = "UID",
    }
}

gob_struct! {
    /// Names a proposal. Later ones are greater; round 0 is before all.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
    pub struct ProposalId as "ProposalID" {
        /// Counts attempts.
        pub round: u64 = "Round",
        /// Whose it is.
        pub proposer: NodeId = "Proposer",
    }
}

gob_struct! {
    /// What a node has accepted.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    pub struct AcceptedValue as "AcceptedValue" {
        /// The peers to divide among, in any order.
        pub value: AtMost<MAX_SEEDS, Vec<PeerName>> = "Value",
        /// The proposal that it came up in.
        pub origin: ProposalId = "Origin",
    }
}

gob_struct! {
    /// The state of one node.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    pub struct NodeClaims as "NodeClaims" {
        /// It will accept nothing older than this.
        pub promise: ProposalId = "Promise",
        /// The proposal it accepted.
        pub accepted: ProposalId = "Accepted",
        /// What that says.
        pub accepted_value: AcceptedValue = "AcceptedVal",
    }
}

/// What is known of all nodes.
pub type Claims = BTreeMap<NodeId, NodeClaims>;

/// Claims that no vote makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimsError {
    /// Rounds are counted from 1.
    #[error("round {round} of the vote on the first division, from {node}: nobody counts that far")]
    Round {
        /// The number.
        round: u64,
        /// Whose claims have it.
        node: PeerName,
    },
    /// There cannot be so many peers.
    #[error("more than {MAX_NODES} nodes in the vote on the first division")]
    TooManyNodes,
    /// There cannot be so many peers.
    #[error("more than {MAX_NAMES} names in the vote on the first division")]
    TooManyNames,
}

/// One node of the vote.
#[derive(Clone, Debug)]
pub struct Consensus {
    node: NodeId,
    quorum: usize,
    claims: Claims,
}

impl Consensus {
    /// A node that knows of nobody.
    pub const fn new(name: PeerName, uid: Uid) -> Self {
        Self { node: NodeId { name, uid: uid.0 }, quorum: 0, claims: Claims::new() }
    }

    /// How many nodes decide. Before it is known, nothing is decided.
    pub const fn set_quorum(&mut self, quorum: usize) {
        self.quorum = quorum;
    }

    /// How many nodes decide; 0 if that is not known yet.
    pub const fn quorum(&self) -> usize {
        self.quorum
    }

    /// All that is known.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Starts a round of one's own.
    pub fn propose(&mut self) {
        let rounds =
            self.claims.values().map(|claims| claims.promise.round.max(claims.accepted.round));
        let round = rounds.max().unwrap_or(0) + 1;
        let promise = ProposalId { round, proposer: self.node };
        self.claims.entry(self.node).or_default().promise = promise;
        if self.quorum == 1 {
            self.think();
        }
    }

    /// Takes in what another node knows. Says whether any of it is new.
    ///
    /// # Errors
    /// If it is more than a vote can be about; then nothing is taken in.
    pub fn update(&mut self, claims: &Claims) -> Result<bool, ClaimsError> {
        self.check(claims)?;
        let mut news = false;
        for (node, theirs) in claims {
            let Some(ours) = self.claims.get_mut(node) else {
                self.claims.insert(*node, theirs.clone());
                news = true;
                continue;
            };
            if ours.promise < theirs.promise {
                ours.promise = theirs.promise;
                news = true;
            }
            if ours.accepted < theirs.accepted {
                ours.accepted = theirs.accepted;
                ours.accepted_value = theirs.accepted_value.clone();
                news = true;
            }
        }
        Ok(news)
    }

    fn check(&self, claims: &Claims) -> Result<(), ClaimsError> {
        for (node, theirs) in claims {
            let rounds = [theirs.promise, theirs.accepted, theirs.accepted_value.origin];
            let round = rounds.iter().map(|proposal| proposal.round).max().unwrap_or(0);
            if round > MAX_ROUND {
                return Err(ClaimsError::Round { round, node: node.name });
            }
        }
        let names = |claims: &Claims| -> usize {
            claims.values().map(|claims| claims.accepted_value.value.0.len()).sum()
        };
        if self.claims.len() + claims.keys().filter(|node| !self.claims.contains_key(node)).count()
            > MAX_NODES
        {
            return Err(ClaimsError::TooManyNodes);
        }
        if names(&self.claims) + names(claims) > 2 * MAX_NAMES {
            return Err(ClaimsError::TooManyNames);
        }
        Ok(())
    }

    /// Draws the conclusions. Says whether that changed what this node claims.
    pub fn think(&mut self) -> bool {
        let mut own = self.claims.get(&self.node).cloned().unwrap_or_default();
        let before = (own.promise, own.accepted, own.accepted_value.origin);
        own.promise = self.claims.values().map(|claims| claims.promise).max().unwrap_or_default();

        if own.promise.round > 0 && own.promise.proposer == self.node {
            let promised = || self.claims.values().filter(|claims| claims.promise == own.promise);
            if self.quorum > 0 && promised().count() >= self.quorum {
                let accepted = promised().filter(|claims| claims.accepted.round > 0);
                let value = accepted.max_by_key(|claims| claims.accepted).map_or_else(
                    || AcceptedValue {
                        value: AtMost(self.claims.keys().map(|node| node.name).collect()),
                        origin: own.promise,
                    },
                    |claims| claims.accepted_value.clone(),
                );
                own.accepted = own.promise;
                own.accepted_value = value;
            }
        }
        let accepted = self
            .claims
            .values()
            .find(|claims| claims.accepted.round > 0 && claims.accepted == own.promise);
        if let Some(claims) = accepted {
            own.accepted = claims.accepted;
            own.accepted_value = claims.accepted_value.clone();
        }
        let changed = before != (own.promise, own.accepted, own.accepted_value.origin);
        if changed {
            self.claims.insert(self.node, own);
        }
        changed
    }

    /// What was decided on, if it was.
    pub fn decided(&self) -> Option<&[PeerName]> {
        let mut votes = BTreeMap::<ProposalId, usize>::new();
        for claims in self.claims.values().filter(|claims| claims.accepted.round > 0) {
            let count = votes.entry(claims.accepted_value.origin).or_default();
            *count += 1;
            if self.quorum > 0 && *count >= self.quorum {
                return Some(&claims.accepted_value.value.0);
            }
        }
        None
    }
}
