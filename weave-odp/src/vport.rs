//! Ports of a datapath.

use std::fmt;

use crate::attribute::Attribute;
use crate::datapath::{DatapathId, split};
use weave_netlink::Attributes;
use weave_netlink::DecodeError;

/// The number of a port in its datapath.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortNumber(pub u32);

impl fmt::Display for PortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vport {
    /// The datapath it belongs to.
    pub datapath: DatapathId,
    /// Its number there.
    pub number: PortNumber,
    /// Its name; for a netdev and an internal port that of the interface.
    pub name: String,
    /// What is behind it.
    pub kind: VportKind,
    /// What it counts, if it says.
    pub stats: Option<VportStats>,
}

/// What is behind a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VportKind {
    /// An interface of the host.
    Netdev,
    /// An interface that the datapath made for the host.
    Internal,
    /// VXLAN tunnels.
    Vxlan {
        /// The UDP port it receives on and sends to; none if the kernel does not say.
        udp_port: Option<u16>,
    },
    /// Something else; its number.
    Other(u32),
}

/// What a port counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VportStats {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that came in damaged.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped after they came in.
    pub rx_dropped: u64,
    /// Packets that were dropped instead of being sent.
    pub tx_dropped: u64,
}

impl VportKind {
    /// Its name in reports, as Open vSwitch has it.
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

    /// `OVS_VPORT_ATTR_OPTIONS`; for VXLAN `OVS_TUNNEL_ATTR_DST_PORT`, in the host's byte order.
    pub(crate) fn options(self) -> Vec<Attribute<'static>> {
        match self {
            Self::Vxlan { udp_port: Some(port) } => vec![Attribute::u16(1, port)],
            _ => Vec::new(),
        }
    }
}

impl Vport {
    /// Of a message of the family [`Vport`](crate::Family::Vport).
    ///
    /// # Errors
    /// It is none.
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
