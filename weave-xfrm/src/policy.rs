//! Policies: which packets are sealed, and how.
//!
//! ```text
//!   xfrm_selector      | 16: destination | 16: source | be16 port, be16 mask | the same |
//!                      | u16 family | u8 bits of destination | u8 bits of source |
//!                      | u8 protocol | 3: 0 | i32 interface | u32 user |
//!   userpolicy_info    | 56: selector | 64: limits | 32: use so far | u32 priority | u32 index |
//!                      | u8 direction | u8 action | u8 flags | u8 share | 4: 0 |
//!   xfrm_user_tmpl     | 24: id | u16 family | 2: 0 | 16: source | u32 reqid | u8 mode |
//!                      | u8 share | u8 optional | 1: 0 | u32, u32, u32: algorithms |
//!   xfrm_mark          | u32 value | u32 mask |
//! ```

use weave_netlink::{Attributes, DecodeError};

use crate::fields::Fields;
use crate::names::{Mark, Path, Reqid, Spi};
use crate::state::{ESP, INET, LIMITS_LEN, SELECTOR_LEN, USE_LEN};

/// Length of an `xfrm_userpolicy_info`.
pub(crate) const INFO_LEN: usize = 168;
/// Length of an `xfrm_user_tmpl`.
pub(crate) const TEMPLATE_LEN: usize = 64;

/// `IPPROTO_UDP`
pub(crate) const UDP: u8 = 17;
/// A mask of a whole IPv4 address.
pub(crate) const HOST: u8 = 32;
/// `XFRM_POLICY_OUT`
pub(crate) const OUT: u8 = 1;
/// `XFRMA_TMPL`
pub(crate) const ATTRIBUTE_TEMPLATES: u16 = 5;
/// `XFRMA_MARK`
pub(crate) const ATTRIBUTE_MARK: u16 = 21;

/// A policy to be made, for what leaves this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Between whom. The two addresses and the mark are the name of the policy.
    pub path: Path,
    /// Of the UDP packets between them those with this mark.
    pub mark: Mark,
    /// The state that seals them.
    pub spi: Spi,
    /// Whose that state is.
    pub reqid: Reqid,
}

/// A policy in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyEntry {
    /// Between whom, if between two hosts.
    pub path: Option<Path>,
    /// Which packets.
    pub direction: PolicyDirection,
    /// Whether those of UDP alone.
    pub udp: bool,
    /// Which of them; none is all.
    pub mark: Option<Mark>,
    /// How they are sealed; none if they are let through, dropped, or sealed by other than ESP.
    pub template: Option<Template>,
}

/// What a policy is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PolicyDirection {
    /// What is for this host.
    In,
    /// What leaves it.
    Out,
    /// What it forwards.
    Forward,
    /// Another, of this number.
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

/// What state a policy looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    /// Its number; none is any.
    pub spi: Option<Spi>,
    /// Whose it is.
    pub reqid: Reqid,
}

impl PolicyEntry {
    /// Reads what follows the netlink header. `None`: not IPv4.
    ///
    /// # Errors
    /// It is cut off, or an attribute is longer than what is left.
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
                // More than one would be for what is wrapped more than once.
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
