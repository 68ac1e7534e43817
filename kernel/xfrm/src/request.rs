//! Requests and their encoding, which is that of Weave Net 2.x but for the reqid: Weave Net sets
//! none.

use std::ops::RangeInclusive;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use weave_netlink::{HEADER_LEN, write_header};

use crate::fields::Put;
use crate::identifiers::{Mark, Path, Reqid, Spi};
use crate::key::KEY_LEN;
use crate::policy::{ATTRIBUTE_MARK, ATTRIBUTE_TEMPLATES, HOST, OUT, Policy, TEMPLATE_LEN, UDP};
use crate::state::{
    AES_GCM, ATTRIBUTE_AEAD, ESP, FLAG_ESN, INET, LIMITS_LEN, NAME_LEN, SELECTOR_LEN,
    STATISTICS_LEN, State, USE_LEN,
};

/// `XFRM_MSG_NEWSA`, the type of messages with a [`StateEntry`](crate::StateEntry).
pub const NEW_STATE: u16 = 0x10;
/// `XFRM_MSG_NEWPOLICY`, the type of messages with a [`PolicyEntry`](crate::PolicyEntry).
pub const NEW_POLICY: u16 = 0x13;

const DELETE_STATE: u16 = 0x11;
const GET_STATE: u16 = 0x12;
const DELETE_POLICY: u16 = 0x14;
const GET_POLICY: u16 = 0x15;
const ALLOCATE_SPI: u16 = 0x16;
const UPDATE_POLICY: u16 = 0x19;
const UPDATE_STATE: u16 = 0x1a;

/// `XFRMA_SRCADDR`
const ATTRIBUTE_SOURCE: u16 = 13;
/// `XFRMA_REPLAY_ESN_VAL`
const ATTRIBUTE_REPLAY: u16 = 23;

/// SPIs for use; smaller ones are reserved (RFC 4303, section 2.1).
const SPIS: RangeInclusive<u32> = 0x100..=u32::MAX;

const KEY_BITS: u32 = 8 * 36;
const TAG_BITS: u32 = 128;
/// Size of the replay window in packets, as in Weave Net 2.x.
const REPLAY_WINDOW: u32 = 256;
/// Length of a value of `ATTRIBUTE_AEAD`.
const AEAD_LEN: u16 = 64 + 8 + 36;
const _: () = assert!(NAME_LEN + 8 + KEY_LEN == AEAD_LEN as usize);

/// Upper bound of the length of a request.
const MAX_LEN: usize = 512;

/// A request to the kernel's IPsec.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Adds a state with a new SPI, which is in the answer, and without a key, so that it receives
    /// nothing. The state expires after `net.core.xfrm_acq_expires`, 30 s.
    AllocateSpi {
        /// Hosts of the packets.
        path: Path,
        /// Request id of the state.
        reqid: Reqid,
    },
    /// Gives a key to a state. Refused with `ESRCH` if there is none.
    UpdateState(&'a State),
    /// Adds a state. Refused with `EEXIST` if there is one with this SPI, with `ENOENT` if the
    /// kernel has no AES-GCM, and with `EPROTONOSUPPORT` if it has no ESP.
    AddState(&'a State),
    /// Deletes a state. Refused with `ESRCH` if there is none.
    DeleteState {
        /// Hosts of the packets.
        path: Path,
        /// SPI of the state.
        spi: Spi,
    },
    /// Lists the states.
    States,
    /// Adds a policy, or replaces the one with the same path and mark.
    PutPolicy(&'a Policy),
    /// Looks up a policy. Refused with `ENOENT` if there is none.
    Policy {
        /// Hosts of the packets.
        path: Path,
        /// Mark of the packets.
        mark: Mark,
    },
    /// Deletes a policy. Refused with `ENOENT` if there is none.
    DeletePolicy {
        /// Hosts of the packets.
        path: Path,
        /// Mark of the packets.
        mark: Mark,
    },
    /// Lists the policies.
    Policies,
}

impl Request<'_> {
    /// Returns the name of the request for error messages: `cannot {name}`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AllocateSpi { .. } => "allocate an SPI for an IPsec state",
            Self::UpdateState(_) => "set the key of an IPsec state",
            Self::AddState(_) => "add an IPsec state",
            Self::DeleteState { .. } => "delete an IPsec state",
            Self::States => "list the IPsec states",
            Self::PutPolicy(_) => "put an IPsec policy in place",
            Self::Policy { .. } => "look up an IPsec policy",
            Self::DeletePolicy { .. } => "delete an IPsec policy",
            Self::Policies => "list the IPsec policies",
        }
    }

    const fn kind(&self) -> u16 {
        match self {
            Self::AllocateSpi { .. } => ALLOCATE_SPI,
            Self::UpdateState(_) => UPDATE_STATE,
            Self::AddState(_) => NEW_STATE,
            Self::DeleteState { .. } => DELETE_STATE,
            Self::States => GET_STATE,
            Self::PutPolicy(_) => UPDATE_POLICY,
            Self::Policy { .. } | Self::Policies => GET_POLICY,
            Self::DeletePolicy { .. } => DELETE_POLICY,
        }
    }

    const fn flags(&self) -> u16 {
        match self {
            Self::States | Self::Policies => NLM_F_DUMP,
            Self::Policy { .. } | Self::DeletePolicy { .. } | Self::DeleteState { .. } => NLM_F_ACK,
            Self::AllocateSpi { .. }
            | Self::UpdateState(_)
            | Self::AddState(_)
            | Self::PutPolicy(_) => NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
        }
    }

    /// Returns the type of the messages that answer the request.
    pub(crate) const fn answer(&self) -> u16 {
        match self {
            Self::Policy { .. } | Self::Policies => NEW_POLICY,
            _ => NEW_STATE,
        }
    }

    /// Appends the bytes of the request to `to`. Capacity is reserved first, so that no copy of a
    /// key is left behind by a reallocation.
    pub fn encode(&self, sequence: u32, to: &mut Vec<u8>) {
        to.reserve(MAX_LEN);
        let start = to.len();
        to.zeros(HEADER_LEN);
        match *self {
            Self::AllocateSpi { path, reqid } => {
                state_info(to, path, None, reqid);
                to.u32(*SPIS.start());
                to.u32(*SPIS.end());
            }
            Self::UpdateState(state) | Self::AddState(state) => {
                state_info(to, state.path, Some(state.spi), state.reqid);
                aead(to, state);
                replay(to);
            }
            Self::DeleteState { path, spi } => state_id(to, path, spi),
            Self::States => {}
            Self::PutPolicy(policy) => {
                policy_info(to, policy);
                template(to, policy);
                mark(to, policy.mark);
            }
            Self::Policy { path, mark } | Self::DeletePolicy { path, mark } => {
                selector(to, path);
                to.u32(0);
                to.put(&[OUT, 0, 0, 0]);
                self::mark(to, mark);
            }
            // An `ifinfomsg`, of which the kernel reads at most the family.
            Self::Policies => {
                to.u16(INET);
                to.zeros(14);
            }
        }
        debug_assert!(to.len() - start <= MAX_LEN);
        let message = to.get_mut(start..).unwrap_or_default();
        let finished = write_header(message, self.kind(), self.flags(), sequence);
        debug_assert!(finished.is_ok(), "no request exceeds the length of a message");
    }
}

fn state_info(to: &mut Vec<u8>, path: Path, spi: Option<Spi>, reqid: Reqid) {
    to.zeros(SELECTOR_LEN);
    to.address(path.destination);
    to.put(&spi.map_or(0, Spi::get).to_be_bytes());
    to.put(&[ESP, 0, 0, 0]);
    to.address(path.source);
    match spi {
        Some(_) => unlimited(to),
        None => to.zeros(LIMITS_LEN),
    }
    to.zeros(USE_LEN + STATISTICS_LEN + 4);
    to.u32(reqid.0);
    to.u16(INET);
    // Transport mode; the window is in an attribute.
    let flags = if spi.is_some() { FLAG_ESN } else { 0 };
    to.put(&[0, 0, flags]);
    to.zeros(7);
}

/// Writes limits that never apply: the largest number of bytes and packets, soft and hard, and no
/// time.
fn unlimited(to: &mut Vec<u8>) {
    for _ in 0..4 {
        to.u64(u64::MAX);
    }
    to.zeros(LIMITS_LEN - 32);
}

fn aead(to: &mut Vec<u8>, state: &State) {
    to.attribute(ATTRIBUTE_AEAD, AEAD_LEN);
    to.put(AES_GCM.as_bytes());
    to.zeros(NAME_LEN - AES_GCM.len());
    to.u32(KEY_BITS);
    to.u32(TAG_BITS);
    to.put(state.key.bytes());
}

/// Writes an `xfrm_replay_state_esn` with the size of its bitmap, but without the bitmap, which is
/// all zero.
fn replay(to: &mut Vec<u8>) {
    to.attribute(ATTRIBUTE_REPLAY, 24);
    to.u32(REPLAY_WINDOW / u32::BITS);
    to.zeros(16);
    to.u32(REPLAY_WINDOW);
}

fn state_id(to: &mut Vec<u8>, path: Path, spi: Spi) {
    to.address(path.destination);
    to.put(&spi.get().to_be_bytes());
    to.u16(INET);
    to.put(&[ESP, 0]);
    // The kernel ignores it for ESP; Weave Net writes it like this.
    to.attribute(ATTRIBUTE_SOURCE, 16);
    to.put(&path.source.to_ipv6_mapped().octets());
}

fn selector(to: &mut Vec<u8>, path: Path) {
    to.address(path.destination);
    to.address(path.source);
    to.zeros(8);
    to.u16(INET);
    to.put(&[HOST, HOST, UDP]);
    to.zeros(11);
}

fn policy_info(to: &mut Vec<u8>, policy: &Policy) {
    selector(to, policy.path);
    unlimited(to);
    to.zeros(USE_LEN + 8);
    to.put(&[OUT, 0, 0, 0]);
    to.zeros(4);
}

fn template(to: &mut Vec<u8>, policy: &Policy) {
    const LENGTH: u16 = 64;
    const _: () = assert!(TEMPLATE_LEN == LENGTH as usize);
    to.attribute(ATTRIBUTE_TEMPLATES, LENGTH);
    to.address(policy.path.destination);
    to.put(&policy.spi.get().to_be_bytes());
    to.put(&[ESP, 0, 0, 0]);
    // The family: zero means that of the policy.
    to.zeros(4);
    to.address(policy.path.source);
    to.u32(policy.reqid.0);
    // Transport mode, not optional, with any algorithm.
    to.zeros(4);
    for _ in 0..3 {
        to.u32(u32::MAX);
    }
}

fn mark(to: &mut Vec<u8>, mark: Mark) {
    to.attribute(ATTRIBUTE_MARK, 8);
    to.u32(mark.value);
    to.u32(mark.mask);
}
