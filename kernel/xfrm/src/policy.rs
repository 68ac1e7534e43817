//! Policies, which say which packets are encrypted, and how.
//!
//! ```text
//!   xfrm_selector      | 16: destination | 16: source | be16 port, be16 mask | the same |
//!                      | u16 family | u8 bits of destination | u8 bits of source |
//!                      | u8 protocol | 3: 0 | i32 interface | u32 user |
//!   userpolicy_info    | 56: selector | 64: limits | 32: usage | u32 priority | u32 index |
//!                      | u8 direction | u8 action | u8 flags | u8 share | 4: 0 |
//!   xfrm_user_tmpl     | 24: id | u16 family | 2: 0 | 16: source | u32 reqid | u8 mode |
//!                      | u8 share | u8 optional | 1: 0 | u32, u32, u32: algorithms |
//!   xfrm_mark          | u32 value | u32 mask |
//! ```

use weave_netlink::{Attributes, DecodeError};

use crate::fields::Fields;
use crate::identifiers::{Mark, Path, Reqid, Spi};
use crate::state::{ESP, INET, LIMITS_LEN, SELECTOR_LEN, USE_LEN};

/// Length of an `xfrm_userpolicy_info`.
pub(crate) const INFO_LEN: usize = 168;
/// Length of an `xfrm_user_tmpl`.
pub(crate) const TEMPLATE_LEN: usize = 64;

/// `IPPROTO_UDP`
pub(crate) const UDP: u8 = 17;
/// Prefix length of a single IPv4 address.
pub(crate) const HOST: u8 = 32;
/// `XFRM_POLICY_OUT`
pub(crate) const OUT: u8 = 1;
/// `XFRMA_TMPL`
pub(crate) const ATTRIBUTE_TEMPLATES: u16 = 5;
/// `XFRMA_MARK`
pub(crate) const ATTRIBUTE_MARK: u16 = 21;

/// A policy to be added, for packets that leave this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Hosts of the packets. The two addresses and the mark identify the policy.
    pub path: Path,
    /// Mark of the UDP packets between these hosts that are encrypted.
    pub mark: Mark,
    /// State that encrypts them.
    pub spi: Spi,
    /// Request id of that state.
    pub reqid: Reqid,
}

/// A policy as the kernel lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyEntry {
    /// Hosts of the packets; `None` if the policy is about networks.
    pub path: Option<Path>,
    /// Direction of the packets.
    pub direction: PolicyDirection,
    /// Whether the policy is about UDP alone.
    pub udp: bool,
    /// Mark of the packets; `None` is any.
    pub mark: Option<Mark>,
    /// How packets are encrypted; `None` if they are passed, dropped, or protected by other than
    /// ESP.
    pub template: Option<Template>,
}

/// The direction of the packets that a policy is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyDirection {
    /// Packets for this host.
    In,
    /// Packets that leave this host.
    Out,
    /// Packets that this host forwards.
    Forward,
    /// Another direction, by its number.
    Other(u8),
}

impl PolicyDirection {
    const fn new(number: u8) -> Self {
        match number {
            0 => Self::In,
            OUT => Self::Out,
            2 => Self::Forward,
            other => Self::Other(other),
        }
    }
}

/// The state that a policy looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    /// SPI of the state; `None` is any.
    pub spi: Option<Spi>,
    /// Request id of the state.
    pub reqid: Reqid,
}

impl PolicyEntry {
    /// Decodes the bytes behind the netlink header; `None` if the policy is not about IPv4.
    ///
    /// # Errors
    /// Fails if the message is truncated, or if an attribute is longer than the rest of it.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        let (mut fields, rest) = Fields::split("a policy", payload, 0, INFO_LEN)?;
        let (destination, source) = (fields.address(), fields.address());
        fields.skip(8);
        let family = fields.u16();
        let (destination_bits, source_bits) = (fields.u8(), fields.u8());
        let udp = fields.u8() == UDP;
        fields.skip(SELECTOR_LEN - 45 + LIMITS_LEN + USE_LEN + 8);
        let direction = PolicyDirection::new(fields.u8());
        let hosts = destination_bits == HOST && source_bits == HOST;
        let mut entry = Self {
            path: hosts.then_some(Path { source, destination }),
            direction,
            udp,
            mark: None,
            template: None,
        };
        for attribute in Attributes::new(rest, INFO_LEN) {
            let attribute = attribute?;
            match attribute.kind {
                // More than one template would wrap a packet more than once.
                ATTRIBUTE_TEMPLATES => {
                    entry.template = Template::decode(attribute.value, attribute.offset)?;
                }
                ATTRIBUTE_MARK => {
                    let (mut fields, _) =
                        Fields::split("a mark", attribute.value, attribute.offset, 8)?;
                    entry.mark = Some(Mark { value: fields.u32(), mask: fields.u32() });
                }
                _ => {}
            }
        }
        Ok((family == INET).then_some(entry))
    }
}

impl Template {
    fn decode(value: &[u8], offset: usize) -> Result<Option<Self>, DecodeError> {
        if value.is_empty() {
            return Ok(None);
        }
        let (mut fields, _) = Fields::split("a template", value, offset, TEMPLATE_LEN)?;
        fields.skip(16);
        let spi = Spi::new(fields.u32_be());
        let protocol = fields.u8();
        fields.skip(3 + 4 + 16);
        let reqid = Reqid(fields.u32());
        Ok((protocol == ESP).then_some(Self { spi, reqid }))
    }
}
