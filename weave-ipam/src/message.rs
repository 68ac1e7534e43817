//! The messages of the channel `IPallocation` (spec ipam.md, section 3), and what is stored.
//!
//! ```text
//!   broadcast, gossip:  gossipState (gob)
//!   unicast:            | 0 | Range (gob) |          give me something in this range
//!                       | 1 | gossipState (gob) |    this is what I know
//!                       | 2 | Range (gob) |          I have nothing in this range
//! ```
//!
//! In a state, `Paxos` that is absent means something else than `Paxos` without entries: who sends
//! neither claims nor a ring takes no part in the vote and would like to have a ring.

use std::collections::BTreeMap;

use weave_core::gob_struct;
use weave_core::mesh::PeerName;
use weave_core::wire::gob::{self, AtMost, Decoder, Encode, Encoder};

use crate::consensus::{Claims, MAX_NODES};
use crate::ring::RawRing;
use crate::{Cidr, Label, Range};

/// The name of the channel.
pub const CHANNEL: &str = "IPallocation";

/// Nicknames that are remembered: of 4096 peers, some of them gone.
const MAX_NICKNAMES: usize = 1 << 14;
/// Addresses of one holder that are read from a file.
const MAX_HELD: usize = 1 << 16;

gob_struct! {
    /// What a peer knows.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    pub struct State as "gossipState" {
        /// Seconds since 1970 at the sender. Nobody uses it.
        pub now: i64 = "Now",
        /// How peers are called.
        pub nicknames: Option<AtMost<MAX_NICKNAMES, BTreeMap<PeerName, String>>> = "Nicknames",
        /// The vote, while there is no ring; absent if the sender does not take part.
        pub claims: Option<AtMost<MAX_NODES, Claims>> = "Paxos",
        /// The ring, once there is one.
        pub ring: Option<RawRing> = "Ring",
    }
}

/// A message to one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unicast {
    /// The sender would like to own something in this range.
    SpaceRequest(Range),
    /// What the sender knows.
    RingUpdate(State),
    /// The sender has nothing free in the range.
    Denied(Range),
}

/// Why a message is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// It is empty.
    #[error("address allocation: a message without a kind")]
    Empty,
    /// Its kind is none that there is.
    #[error("address allocation: a message of the unknown kind {0}")]
    Kind(u8),
    /// The rest is not what belongs there.
    #[error("address allocation: {what}: {error}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        error: gob::Error,
    },
}

const SPACE_REQUEST: u8 = 0;
const RING_UPDATE: u8 = 1;
const DENIED: u8 = 2;

impl Unicast {
    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::SpaceRequest(range) => encode_behind(vec![SPACE_REQUEST], range),
            Self::RingUpdate(state) => encode_behind(vec![RING_UPDATE], state),
            Self::Denied(range) => encode_behind(vec![DENIED], range),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let (kind, body) = payload.split_first().ok_or(MessageError::Empty)?;
        let range = |what| {
            let range = Decoder::new(body).value::<Range>();
            range.map_err(|error| MessageError::Malformed { what, error })
        };
        match *kind {
            SPACE_REQUEST => range("space request").map(Self::SpaceRequest),
            RING_UPDATE => State::decode(body).map(Self::RingUpdate),
            DENIED => range("denied space request").map(Self::Denied),
            other => Err(MessageError::Kind(other)),
        }
    }
}

impl State {
    /// The bytes of the state.
    pub fn encode(&self) -> Vec<u8> {
        encode_behind(Vec::new(), self)
    }

    /// Reads a state.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let state = Decoder::new(payload).value();
        state.map_err(|error| MessageError::Malformed { what: "state", error })
    }
}

pub(crate) fn encode_behind(start: Vec<u8>, value: &impl Encode) -> Vec<u8> {
    let mut encoder = Encoder::appending_to(start);
    encoder.value(value);
    encoder.finish()
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    pub(crate) struct RawHolding as "ownedData" {
        pub(crate) is_container: bool = "IsContainer",
        pub(crate) cidrs: AtMost<MAX_HELD, Vec<RawCidr>> = "Cidrs",
        pub(crate) label: String = "Label",
    }
}

gob_struct! {
    #[derive(Clone, PartialEq, Debug, Default)]
    pub(crate) struct RawCidr as "CIDR" {
        pub(crate) address: u32 = "Addr",
        pub(crate) prefix: i64 = "PrefixLen",
    }
}

impl From<&Holding> for RawHolding {
    fn from(holding: &Holding) -> Self {
        let raw = |cidr: &Cidr| RawCidr {
            address: cidr.address().to_bits(),
            prefix: cidr.prefix().into(),
        };
        let cidrs = AtMost(holding.cidrs.iter().map(raw).collect());
        let label = holding.label.as_ref().map(Label::to_string).unwrap_or_default();
        Self { is_container: holding.is_container, cidrs, label }
    }
}

/// The addresses that one holder, mostly a container, has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holding {
    /// It is a container whose end is told.
    pub is_container: bool,
    /// In the order in which it got them.
    pub cidrs: Vec<Cidr>,
    /// What it is to those who run it, if they said so.
    pub label: Option<Label>,
}

impl Holding {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        encode_behind(Vec::new(), &RawHolding::from(self))
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// If it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let malformed = |error| MessageError::Malformed { what: "stored addresses", error };
        let raw: RawHolding = Decoder::new(bytes).value().map_err(malformed)?;
        let cidr = |raw: &RawCidr| Cidr::new(raw.address.into(), u8::try_from(raw.prefix).ok()?);
        Ok(Self {
            is_container: raw.is_container,
            cidrs: raw.cidrs.0.iter().filter_map(cidr).collect(),
            label: Label::new(&raw.label),
        })
    }
}

/// The bytes of a ring to store.
pub fn encode_ring(ring: &crate::Ring) -> Vec<u8> {
    encode_raw_ring(&RawRing::from(ring))
}

/// The same of a ring as a file had it.
pub fn encode_raw_ring(ring: &RawRing) -> Vec<u8> {
    encode_behind(Vec::new(), ring)
}

/// Reads a ring that was stored, without a look at whether it makes sense.
///
/// # Errors
/// If it is something else.
pub fn decode_ring(bytes: &[u8]) -> Result<RawRing, MessageError> {
    let ring = Decoder::new(bytes).value();
    ring.map_err(|error| MessageError::Malformed { what: "stored ring", error })
}
