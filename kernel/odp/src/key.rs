//! The keys of packets, and the matches of flows.

use std::fmt;

use weave_netlink::{Attributes, DecodeError, Field};

use crate::attribute::{Attribute, Value};
use crate::tunnel::Tunnel;
use crate::vport::PortNumber;

const ENCAPSULATED: u16 = 1;
const IN_PORT: u16 = 3;
const ETHERNET: u16 = 4;
const VLAN: u16 = 5;
const ETHERTYPE: u16 = 6;
const TUNNEL: u16 = 16;

/// `VLAN_CFI_MASK`, the bit by which the kernel marks that there is a tag.
const TAG_PRESENT: u16 = 0x1000;

/// The addresses of an Ethernet header, or a mask of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ethernet {
    /// Source address.
    pub source: [u8; 6],
    /// Destination address.
    pub destination: [u8; 6],
}

impl Ethernet {
    /// Mask that matches any addresses.
    pub const ANY: Self = Self { source: [0; 6], destination: [0; 6] };
    /// Mask that matches both addresses exactly.
    pub const EXACT: Self = Self { source: [0xff; 6], destination: [0xff; 6] };

    fn bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&self.source);
        bytes[6..].copy_from_slice(&self.destination);
        bytes
    }

    fn decode(field: Field<'_>) -> Result<Self, DecodeError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = field.array("Ethernet addresses")?;
        Ok(Self { source: [a, b, c, d, e, f], destination: [g, h, i, j, k, l] })
    }

    fn masked(self, mask: Self) -> Self {
        let and = |a: [u8; 6], b: [u8; 6]| std::array::from_fn(|i| a[i] & b[i]);
        Self {
            source: and(self.source, mask.source),
            destination: and(self.destination, mask.destination),
        }
    }
}

/// A key and a mask of the bits that are compared. The other bits of the key are zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Masked<T> {
    key: T,
    mask: T,
}

impl<T: Copy> Masked<T> {
    /// Returns the key, in which bits outside the mask are zero.
    pub const fn key(&self) -> T {
        self.key
    }

    /// Returns the mask of the bits that are compared.
    pub const fn mask(&self) -> T {
        self.mask
    }
}

impl Masked<Ethernet> {
    /// Match of any addresses.
    pub const ANY: Self = Self { key: Ethernet::ANY, mask: Ethernet::ANY };

    /// Creates a match of the bits under `mask`.
    pub fn new(key: Ethernet, mask: Ethernet) -> Self {
        Self { key: key.masked(mask), mask }
    }

    /// Creates an exact match of these addresses.
    pub const fn exact(key: Ethernet) -> Self {
        Self { key, mask: Ethernet::EXACT }
    }
}

impl Masked<Tunnel> {
    /// Creates a match of the bits under `mask`.
    pub fn new(key: Tunnel, mask: Tunnel) -> Self {
        Self { key: key.masked(mask), mask }
    }

    /// Creates a match of the identifier and the ends of this tunnel.
    pub fn ends(key: Tunnel) -> Self {
        Self::new(key, Tunnel::ENDS)
    }
}

/// The key of a packet, as far as this crate supports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowKey {
    /// Port through which the packet came in.
    pub in_port: PortNumber,
    /// Addresses of the packet.
    pub ethernet: Ethernet,
    /// Tunnel through which the packet came in.
    pub tunnel: Option<Tunnel>,
    /// Type of the outer VLAN tag; `None` if the packet is untagged.
    pub tag: Option<u16>,
}

impl FlowKey {
    pub(crate) fn decode(fields: Attributes<'_>) -> Result<Self, DecodeError> {
        let (mut in_port, mut ethernet, mut tunnel) = (None, None, None);
        let (mut tagged, mut outer_type) = (false, None);
        for field in fields {
            let field = field?;
            match field.kind {
                IN_PORT => in_port = Some(PortNumber(field.u32("input port")?)),
                ETHERNET => ethernet = Some(Ethernet::decode(field)?),
                TUNNEL => tunnel = Some(Tunnel::decode(field.nested())?),
                VLAN => tagged = true,
                ETHERTYPE => outer_type = Some(u16::from_be_bytes(field.array("EtherType")?)),
                _ => {}
            }
        }
        let missing = |what| DecodeError::Missing { what };
        Ok(Self {
            in_port: in_port.ok_or(missing("input port"))?,
            ethernet: ethernet.ok_or(missing("Ethernet addresses"))?,
            tunnel,
            tag: outer_type.filter(|_| tagged),
        })
    }
}

/// The match of a flow, which also identifies the flow in its datapath.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowMatch {
    /// Port through which packets come in; `None` is any.
    pub in_port: Option<PortNumber>,
    /// Addresses of the packets.
    pub ethernet: Masked<Ethernet>,
    /// Type of the outer VLAN tag, with any other contents; `None` matches untagged packets.
    pub tag: Option<u16>,
    /// Tunnel through which packets come in; `None` is any.
    pub tunnel: Option<Masked<Tunnel>>,
    /// Keys of listed flows that this crate does not support, by type.
    pub other: Vec<OtherKey>,
}

/// A key that this crate does not support.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OtherKey {
    kind: u16,
    key: Vec<u8>,
    mask: Vec<u8>,
}

impl OtherKey {
    /// Returns whether the match compares bits below a VLAN tag.
    fn compares_below_tag(&self) -> bool {
        let is_zero = |field: Field<'_>| field.value.iter().all(|&byte| byte == 0);
        let counts = |field: Result<_, DecodeError>| !field.is_ok_and(is_zero);
        self.kind == ENCAPSULATED && Attributes::new(&self.mask, 0).any(counts)
    }
}

impl FlowMatch {
    /// Creates a match of untagged packets with these addresses from this port.
    pub const fn new(in_port: PortNumber, ethernet: Masked<Ethernet>) -> Self {
        Self { in_port: Some(in_port), ethernet, tag: None, tunnel: None, other: Vec::new() }
    }

    /// Returns the attributes of `OVS_FLOW_ATTR_KEY`.
    pub(crate) fn key_attributes(&self) -> Vec<Attribute<'_>> {
        let tag = |kind| kind;
        self.attributes(PortNumber, Masked::key, Masked::key, tag, Vec::new, |other| &other.key)
    }

    /// Returns the attributes of `OVS_FLOW_ATTR_MASK`.
    pub(crate) fn mask_attributes(&self) -> Vec<Attribute<'_>> {
        let port = |_| PortNumber(u32::MAX);
        // Nothing below the tag is compared. The kernel skips an attribute of a mask that is all
        // zero or empty and would then refuse the tag, so the mask has a type that is all zero.
        let below = || vec![Attribute::small(ETHERTYPE, [0; 2])];
        self.attributes(port, Masked::mask, Masked::mask, |_| u16::MAX, below, |other| &other.mask)
    }

    fn attributes<'a>(
        &'a self,
        in_port: impl Fn(u32) -> PortNumber,
        ethernet: impl Fn(&Masked<Ethernet>) -> Ethernet,
        tunnel: impl Fn(&Masked<Tunnel>) -> Tunnel,
        tag: impl Fn(u16) -> u16,
        below: impl Fn() -> Vec<Attribute<'a>>,
        other: impl Fn(&'a OtherKey) -> &'a Vec<u8>,
    ) -> Vec<Attribute<'a>> {
        let mut list = Vec::with_capacity(6 + self.other.len());
        list.extend(self.in_port.map(|port| Attribute::u32(IN_PORT, in_port(port.0).0)));
        list.push(Attribute::small(ETHERNET, ethernet(&self.ethernet).bytes()));
        if let Some(kind) = self.tag {
            list.push(Attribute::small(ETHERTYPE, tag(kind).to_be_bytes()));
            list.push(Attribute::small(VLAN, TAG_PRESENT.to_be_bytes()));
            list.push(Attribute::nest(ENCAPSULATED, below()));
        }
        list.extend(
            self.tunnel
                .as_ref()
                .map(|masked| Attribute::nest(TUNNEL, tunnel(masked).attributes(masked.mask()))),
        );
        list.extend(
            self.other.iter().map(|key| Attribute::new(key.kind, Value::Bytes(other(key)))),
        );
        list
    }

    /// Decodes the keys and masks of a listed flow. Keys without a mask or with a mask of zero are
    /// ignored, and so is a port without a full mask.
    pub(crate) fn decode(keys: Attributes<'_>, masks: Attributes<'_>) -> Result<Self, DecodeError> {
        let masks: Vec<_> = masks.collect::<Result<_, _>>()?;
        let mut flow = Self {
            in_port: None,
            ethernet: Masked::ANY,
            tag: None,
            tunnel: None,
            other: Vec::new(),
        };
        for key in keys {
            let key = key?;
            let Some(mask) = masks.iter().find(|mask| mask.kind == key.kind) else { continue };
            match key.kind {
                IN_PORT => {
                    let number = PortNumber(key.u32("input port")?);
                    let full = mask.u32("mask of the input port")? == u32::MAX;
                    flow.in_port = full.then_some(number);
                }
                ETHERNET => {
                    let mask = Ethernet::decode(*mask)?;
                    flow.ethernet = Masked::<Ethernet>::new(Ethernet::decode(key)?, mask);
                }
                TUNNEL => {
                    let mask = Tunnel::decode(mask.nested())?;
                    let tunnel = Tunnel::decode(key.nested())?;
                    flow.tunnel =
                        (mask != Tunnel::ZERO).then(|| Masked::<Tunnel>::new(tunnel, mask));
                }
                kind if mask.value.iter().any(|&byte| byte != 0) => {
                    let (key, mask) = (key.value.to_vec(), mask.value.to_vec());
                    flow.other.push(OtherKey { kind, key, mask });
                }
                _ => {}
            }
        }
        flow.other.sort();
        flow.take_tag();
        Ok(flow)
    }
}

impl FlowMatch {
    /// Replaces the keys of a tag of which only the type is compared by [`Self::tag`].
    fn take_tag(&mut self) {
        let present = TAG_PRESENT.to_be_bytes();
        let is_tag =
            |other: &OtherKey| other.kind == VLAN && other.key == present && other.mask == present;
        let outer_type = |other: &OtherKey| {
            let kind: [u8; 2] = other.key.as_slice().try_into().ok()?;
            let is_type = other.kind == ETHERTYPE && other.mask == [0xff; 2];
            is_type.then_some(u16::from_be_bytes(kind))
        };
        if let Some(kind) = self.other.iter().find_map(outer_type)
            && self.other.iter().any(is_tag)
            && !self.other.iter().any(OtherKey::compares_below_tag)
        {
            self.tag = Some(kind);
            self.other.retain(|other| ![VLAN, ETHERTYPE, ENCAPSULATED].contains(&other.kind));
        }
    }
}

/// Writes the match like `in_port=1 eth=02:00:00:00:00:0b->02:00:00:00:00:0a`, with `*` for any.
impl fmt::Display for FlowMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_port {
            Some(port) => write!(f, "in_port={port}")?,
            None => write!(f, "in_port=*")?,
        }
        if let Some(tunnel) = &self.tunnel {
            write!(f, " tunnel={{{}}}", tunnel.key())?;
        }
        if let Some(kind) = self.tag {
            write!(f, " tag={kind:#06x}")?;
        }
        let Masked { key, mask } = self.ethernet;
        f.write_str(" eth=")?;
        address(f, key.source, mask.source)?;
        f.write_str("->")?;
        address(f, key.destination, mask.destination)
    }
}

fn address(f: &mut fmt::Formatter<'_>, key: [u8; 6], mask: [u8; 6]) -> fmt::Result {
    if mask == [0; 6] {
        return f.write_str("*");
    }
    let [a, b, c, d, e, g] = key;
    write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
}
