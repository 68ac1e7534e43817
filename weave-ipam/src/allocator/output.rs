//! What the allocator wants done, and what it tells.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use weave_core::mesh::PeerName;

use crate::consensus::ClaimsError;
use crate::message::MessageError;
use crate::ring::{Repair, RingError};
use crate::{Cidr, Range, Subnet};

/// Names a request, from when it is made until it is answered or cancelled. The caller chooses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Something to do, in the order given: nothing may be sent or answered before what was to be
/// stored before it is on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Store this, all of it or nothing.
    Store(Update),
    /// Send a message to a peer.
    Unicast {
        /// To whom.
        to: PeerName,
        /// The message.
        payload: Bytes,
    },
    /// Tell every peer the state, as it is when it is sent.
    Broadcast,
    /// A request was answered.
    Answer {
        /// Which.
        request: RequestId,
        /// How.
        answer: Result<Answer, RequestError>,
    },
    /// Ask on the switch whether somebody has this address, and tell
    /// [`super::Allocator::handle_probed`].
    Probe(std::net::Ipv4Addr),
    /// Something an operator may want to know.
    Event(Event),
}

/// A change of what is stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    /// Forget what was stored before.
    pub clear: bool,
    /// The ring, if it changed.
    pub ring: Option<Vec<u8>>,
    /// Holders of addresses that changed; none for those that have nothing any more.
    pub holdings: BTreeMap<String, Option<Vec<u8>>>,
}

impl Update {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        !self.clear && self.ring.is_none() && self.holdings.is_empty()
    }

    /// Makes one change of two.
    pub fn append(&mut self, later: Self) {
        if later.clear {
            *self = later;
            return;
        }
        self.ring = later.ring.or(self.ring.take());
        self.holdings.extend(later.holdings);
    }
}

/// How a request ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The address, with the prefix length of its subnet.
    Allocated(Cidr),
    /// The address is the holder's, or will be.
    Claimed,
    /// There is a ring.
    Primed,
}

/// Why a request failed. The texts are for users, some of them known to scripts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody wants it any more, or this peer is leaving.
    #[error("cancelled")]
    Cancelled,
    /// None of the subnet can be allocated.
    #[error("range {subnet} out of bounds: addresses are allocated from {universe}")]
    OutOfBounds {
        /// What was asked for.
        subnet: Subnet,
        /// What there is.
        universe: Range,
    },
    /// Somebody else has the address.
    #[error("address {cidr} is already in use by {holder}")]
    AlreadyInUse {
        /// The address.
        cidr: Cidr,
        /// Who has it.
        holder: String,
    },
    /// Somebody else has the address.
    #[error("address {cidr} is already owned by {holder}")]
    AlreadyOwned {
        /// The address.
        cidr: Cidr,
        /// Who has it.
        holder: String,
    },
    /// The address is another peer's to give.
    #[error("address {cidr} is owned by other peer {peer}({nickname}): {reason}")]
    OwnedByOther {
        /// The address.
        cidr: Cidr,
        /// The peer.
        peer: PeerName,
        /// How it is called.
        nickname: String,
        /// Why it did not give it.
        reason: &'static str,
    },
    /// The address was not free, which should not be.
    #[error("address {cidr} cannot be claimed: {error}")]
    NotFree {
        /// The address.
        cidr: Cidr,
        /// Why.
        error: crate::SpaceError,
    },
    /// The holder has no address at all.
    #[error("Delete: no addresses for {0}")]
    NothingHeld(String),
    /// The holder does not have this address.
    #[error("Free: address {address} not found for {holder}")]
    NotHeld {
        /// The holder.
        holder: String,
        /// The address.
        address: std::net::Ipv4Addr,
    },
}

/// Why a message is refused. The connection it came over ends with that text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It makes no sense.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Its part of the vote makes no sense.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Its ring does not fit ours.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// It belongs to a cluster that was started apart from ours.
    #[error(
        "IP allocation was seeded by different peers (received: [{theirs}], ours: [{ours}]). \
         Clusters that were started apart cannot be joined: reset the peers of one of them"
    )]
    DifferentSeeds {
        /// Their seeds, with nicknames.
        theirs: String,
        /// Ours.
        ours: String,
    },
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// What was stored is used.
    Restored {
        /// How many addresses are in use.
        in_use: u32,
    },
    /// What was stored is not used: why.
    Discarded(String),
    /// The ring was divided here.
    Divided {
        /// Among these, with nicknames.
        seeds: String,
    },
    /// A round of the vote began with a quorum that nobody told.
    QuorumAssumed(usize),
    /// An address that nobody can allocate was claimed.
    ClaimedOutside(Cidr),
    /// A claim waits for the first division.
    ClaimWaits(Cidr),
    /// A claim that nobody waits for failed.
    ClaimFailed(RequestError),
    /// Something that was ours is not any more.
    Repaired(Repair),
    /// There is nothing left in this subnet, as far as is known.
    Full(Subnet),
    /// An address of a dead container was taken back.
    Expired(String),
    /// The space of a peer was taken over.
    TookOver {
        /// Of whom.
        peer: PeerName,
        /// How many addresses are free now that were not.
        addresses: u32,
    },
    /// There is nobody of this name whose space could be taken over.
    NothingToTakeOver(String),
    /// A space request for a range that is none.
    BadRequest {
        /// From whom.
        from: PeerName,
        /// For what.
        range: Range,
    },
    /// A message of no use was ignored.
    Ignored {
        /// From whom.
        from: PeerName,
        /// Why.
        error: MessageError,
    },
    /// Something of another peer's ring does not fit ours.
    Conflict {
        /// Whose it is.
        peer: PeerName,
        /// What is wrong, and what to do.
        text: String,
    },
    /// Nothing of this peer's ring conflicts with ours any more.
    ConflictOver(PeerName),
    /// The user decided for this peer.
    Accepted(PeerName),
    /// The ring of a peer took the place of ours, as the user wanted.
    Adopted(PeerName),
    /// Addresses are given out although these many peers were not heard, who may have containers.
    Unheard(usize),
    /// An address is in use that was about to be given out.
    InUse(Cidr),
    /// This peer gives its space away and leaves.
    Leaving {
        /// To whom; nobody if there is nobody.
        heir: Option<PeerName>,
    },
}

impl Event {
    /// Whether somebody should look.
    pub const fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Discarded(_)
                | Self::ClaimFailed(_)
                | Self::Full(_)
                | Self::NothingToTakeOver(_)
                | Self::BadRequest { .. }
                | Self::Ignored { .. }
                | Self::Conflict { .. }
                | Self::Unheard(_)
                | Self::InUse(_)
                | Self::Leaving { heir: None }
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored { in_use } => {
                write!(f, "Initialising with persisted data: {in_use} addresses in use")
            }
            Self::Discarded(why) => write!(f, "Discarding persisted data: {why}"),
            Self::Divided { seeds } => write!(f, "Divided the range among the seeds [{seeds}]"),
            Self::QuorumAssumed(size) => write!(f, "Assuming quorum size of {size}"),
            Self::ClaimedOutside(cidr) => {
                write!(f, "Address {cidr} claimed; it is outside of the allocation range")
            }
            Self::ClaimWaits(cidr) => {
                write!(f, "Claim {cidr}: waiting for the IP allocation to be initialised")
            }
            Self::ClaimFailed(error) => write!(f, "a claim failed: {error}"),
            Self::Repaired(Repair { token, peer, version }) => write!(
                f,
                "gave up the range at {}: {peer} owns it in version {version}",
                std::net::Ipv4Addr::from_bits(*token)
            ),
            Self::Full(subnet) => write!(
                f,
                "no address is free in {subnet}, here or at a peer in reach: requests wait until \
                 one is released"
            ),
            Self::Expired(holder) => write!(f, "{holder} is dead: its addresses are free again"),
            Self::TookOver { peer, addresses } => {
                write!(f, "took over the space of {peer}: {addresses} addresses")
            }
            Self::NothingToTakeOver(name) => {
                write!(
                    f,
                    "Attempt to take over range from unknown peer {name:?}, or from ourselves"
                )
            }
            Self::BadRequest { from, range } => {
                write!(f, "{from} asks for space in {range}, which is not in the allocation range")
            }
            Self::Ignored { from, error } => write!(f, "ignored a message of {from}: {error}"),
            Self::Conflict { text, .. } => write!(f, "conflict: {text}"),
            Self::ConflictOver(peer) => write!(f, "the ring of {peer} fits ours again"),
            Self::Accepted(peer) => write!(f, "gave in to {peer}, as told"),
            Self::Adopted(peer) => {
                write!(f, "took the ring of {peer}, as told: what is in use here is claimed there")
            }
            Self::Unheard(missing) => write!(
                f,
                "what was given out before is not known, and {missing} peers that may know it did not come \
                 in time: addresses are given out without them"
            ),
            Self::InUse(cidr) => {
                write!(
                    f,
                    "{cidr} is in use on the switch: it is set aside, and another one is taken"
                )
            }
            Self::Leaving { heir: Some(heir) } => write!(f, "leaving: the space goes to {heir}"),
            Self::Leaving { heir: None } => {
                f.write_str("leaving, and no peer is known to give the space to")
            }
        }
    }
}
