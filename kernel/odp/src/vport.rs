//! Ports of a datapath.

use std::fmt;

use weave_netlink::{Attributes, DecodeError};

use crate::attribute::Attribute;
use crate::datapath::{DatapathId, split};

/// The number of a port in its datapath.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortNumber(pub u32);

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A port of a datapath.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vport {
    /// Datapath of the port.
    pub datapath: DatapathId,
    /// Number of the port in the datapath.
    pub number: PortNumber,
    /// Name of the port; for network devices and internal ports that of the interface.
    pub name: String,
    /// Kind of the port.
    pub kind: VportKind,
    /// Counters; `None` if the kernel does not report them.
    pub stats: Option<VportStats>,
}

/// The kind of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VportKind {
    /// A network device of the host.
    Netdev,
    /// A network device that the datapath provides to the host.
    Internal,
    /// VXLAN tunnels.
    Vxlan {
        /// UDP port to which packets are sent and on which they are received; `None` if the
        /// kernel does not report it.
        udp_port: Option<u16>,
    },
    /// Another kind, by its number.
    Other(u32),
}

/// The counters of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VportStats {
    /// Number of received packets.
    pub rx_packets: u64,
    /// Number of sent packets.
    pub tx_packets: u64,
    /// Number of received bytes.
    pub rx_bytes: u64,
    /// Number of sent bytes.
    pub tx_bytes: u64,
    /// Number of packets that were received with errors.
    pub rx_errors: u64,
    /// Number of packets that could not be sent.
    pub tx_errors: u64,
    /// Number of packets dropped after reception.
    pub rx_dropped: u64,
    /// Number of packets dropped instead of being sent.
    pub tx_dropped: u64,
}

impl VportKind {
    /// Returns the name of the kind in reports, as Open vSwitch names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::Internal => "internal",
            Self::Vxlan { .. } => "vxlan",
            Self::Other(_) => "other",
        }
    }

    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Netdev => 1,
            Self::Internal => 2,
            Self::Vxlan { .. } => 4,
            Self::Other(number) => number,
        }
    }

    /// Returns the attributes of `OVS_VPORT_ATTR_OPTIONS`: for VXLAN `OVS_TUNNEL_ATTR_DST_PORT`, in
    /// the byte order of the host.
    pub(crate) fn options(self) -> Vec<Attribute<'static>> {
        match self {
            Self::Vxlan { udp_port: Some(port) } => vec![Attribute::u16(1, port)],
            _ => Vec::new(),
        }
    }
}

impl Vport {
    /// Decodes the payload of a message of the family [`Vport`](crate::Family::Vport).
    ///
    /// # Errors
    /// Fails if the payload is malformed or lacks a mandatory attribute.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let (datapath, fields) = split(payload)?;
        let (mut number, mut name, mut kind, mut udp_port, mut stats) =
            (None, None, None, None, None);
        for field in fields {
            let field = field?;
            match field.kind {
                // OVS_VPORT_ATTR_PORT_NO, _TYPE, _NAME, _OPTIONS, _STATS
                1 => number = Some(PortNumber(field.u32("port number")?)),
                2 => kind = Some(field.u32("port type")?),
                3 => name = Some(field.text("port name")?.to_owned()),
                4 => udp_port = decode_udp_port(field.nested())?,
                6 => {
                    let [
                        rx_packets,
                        tx_packets,
                        rx_bytes,
                        tx_bytes,
                        rx_errors,
                        tx_errors,
                        rx_dropped,
                        tx_dropped,
                    ] = field.counters("port counters")?;
                    stats = Some(VportStats {
                        rx_packets,
                        tx_packets,
                        rx_bytes,
                        tx_bytes,
                        rx_errors,
                        tx_errors,
                        rx_dropped,
                        tx_dropped,
                    });
                }
                _ => {}
            }
        }
        let missing = |what| DecodeError::Missing { what };
        let kind = match kind.ok_or(missing("port type"))? {
            1 => VportKind::Netdev,
            2 => VportKind::Internal,
            4 => VportKind::Vxlan { udp_port },
            other => VportKind::Other(other),
        };
        Ok(Self {
            datapath,
            number: number.ok_or(missing("port number"))?,
            name: name.ok_or(missing("port name"))?,
            kind,
            stats,
        })
    }
}

fn decode_udp_port(options: Attributes<'_>) -> Result<Option<u16>, DecodeError> {
    for option in options {
        let option = option?;
        if option.kind == 1 && option.value.len() == 2 {
            return option.u16("UDP port").map(Some);
        }
    }
    Ok(None)
}
