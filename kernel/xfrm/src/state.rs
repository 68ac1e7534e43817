//! States, each of which has the key for one direction between two hosts.
//!
//! ```text
//!   xfrm_usersa_info   | 56: selector | 24: id | 16: source address |
//!                      | 64: limits | 32: usage | 12: statistics | u32 sequence |
//!                      | u32 reqid | u16 family | u8 mode | u8 window | u8 flags | 7: 0 |
//!   xfrm_lifetime_cur  | u64 bytes | u64 packets | 16: times |
//!   xfrm_stats         | u32 outside the window | u32 replayed | u32 forged |
//!   xfrm_id            | 16: destination address | be32 spi | u8 protocol | 3: 0 |
//!   xfrm_algo_aead     | 64: name, NUL-terminated | u32 bits of key | u32 bits of tag | key |
//! ```

use weave_netlink::{Attributes, DecodeError};

use crate::fields::Fields;
use crate::identifiers::{Path, Reqid, Spi};
use crate::key::AeadKey;

/// Length of an `xfrm_usersa_info`.
pub(crate) const INFO_LEN: usize = 224;
/// Length of an `xfrm_selector`.
pub(crate) const SELECTOR_LEN: usize = 56;
/// Length of an `xfrm_lifetime_cfg`, the limits of a state or a policy.
pub(crate) const LIMITS_LEN: usize = 64;
/// Length of an `xfrm_lifetime_cur`, the usage of a state or a policy.
pub(crate) const USE_LEN: usize = 32;
/// Length of an `xfrm_stats`.
pub(crate) const STATISTICS_LEN: usize = 12;
/// Length of the name in an `xfrm_algo_aead`.
pub(crate) const NAME_LEN: usize = 64;

/// `IPPROTO_ESP`
pub(crate) const ESP: u8 = 50;
/// `AF_INET`
pub(crate) const INET: u16 = 2;
/// `XFRM_STATE_ESN`: sequence numbers have 64 bits.
pub(crate) const FLAG_ESN: u8 = 0x80;
/// `XFRMA_ALG_AEAD`
pub(crate) const ATTRIBUTE_AEAD: u16 = 18;
/// Name of AES-GCM in ESP (RFC 4106) in the kernel.
pub(crate) const AES_GCM: &str = "rfc4106(gcm(aes))";

/// A state to be added.
#[derive(Clone, Debug)]
pub struct State {
    /// Hosts of the packets.
    pub path: Path,
    /// SPI, chosen by the receiver.
    pub spi: Spi,
    /// Request id of the state.
    pub reqid: Reqid,
    /// Key, which encrypts at one end and decrypts at the other; it must not be used for a second
    /// state.
    pub key: AeadKey,
}

/// The mode in which ESP wraps packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The payload of an IP packet is encrypted.
    Transport,
    /// Whole IP packets are encrypted.
    Tunnel,
    /// Another mode, by its number.
    Other(u8),
}

impl Mode {
    const fn new(number: u8) -> Self {
        match number {
            0 => Self::Transport,
            1 => Self::Tunnel,
            other => Self::Other(other),
        }
    }
}

/// A state as the kernel lists it, without its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateEntry {
    /// Hosts of the packets.
    pub path: Path,
    /// SPI; `None` if it is yet to be agreed on.
    pub spi: Option<Spi>,
    /// Request id of the state.
    pub reqid: Reqid,
    /// Mode of the state.
    pub mode: Mode,
    /// Whether the state uses AES-GCM, as those added by this crate do.
    pub aes_gcm: bool,
    /// Whether sequence numbers have 64 bits.
    pub extended_sequence: bool,
    /// Packets that the state was used for.
    pub usage: Usage,
}

/// The packets that a state accepted and refused. In the kernel the last two wrap at 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Number of bytes encrypted or decrypted.
    pub bytes: u64,
    /// Number of packets encrypted or decrypted.
    pub packets: u64,
    /// Number of packets dropped as replays, or because they were older than the window.
    pub replayed: u32,
    /// Number of packets dropped because they failed authentication.
    pub forged: u32,
}

impl StateEntry {
    /// Decodes the bytes behind the netlink header; `None` if the state is not of ESP over IPv4.
    ///
    /// # Errors
    /// Fails if the message is truncated, or if an attribute is longer than the rest of it.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let (mut fields, rest) = Fields::split("a state", payload, 0, INFO_LEN)?;
        fields.skip(SELECTOR_LEN);
        let destination = fields.address();
        let spi = Spi::new(fields.u32_be());
        let protocol = fields.u8();
        fields.skip(3);
        let source = fields.address();
        fields.skip(LIMITS_LEN);
        let (bytes, packets) = (fields.u64(), fields.u64());
        fields.skip(USE_LEN - 16);
        let (late, again, forged) = (fields.u32(), fields.u32(), fields.u32());
        let usage = Usage { bytes, packets, replayed: late.saturating_add(again), forged };
        fields.skip(4);
        let reqid = Reqid(fields.u32());
        let family = fields.u16();
        let mode = Mode::new(fields.u8());
        fields.skip(1);
        let extended_sequence = fields.u8() & FLAG_ESN != 0;
        let mut aes_gcm = false;
        for attribute in Attributes::new(rest, INFO_LEN) {
            let attribute = attribute?;
            if attribute.kind == ATTRIBUTE_AEAD {
                aes_gcm = attribute
                    .value
                    .strip_prefix(AES_GCM.as_bytes())
                    .is_some_and(|rest| rest.first() == Some(&0));
            }
        }
        let path = Path { source, destination };
        let entry = Self { path, spi, reqid, mode, aes_gcm, extended_sequence, usage };
        Ok((protocol == ESP && family == INET).then_some(entry))
    }
}
