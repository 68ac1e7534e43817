//! Neighbour tables, and the forwarding tables of bridges and VXLAN devices.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weave_netlink::{Errno, Transport};

use crate::client::{Client, unless};
use crate::error::Error;
use crate::message::mac;
use crate::operation::Operation;

/// `NUD_NOARP | NUD_PERMANENT`, the state of an entry that never ages.
const PERMANENT: u16 = 0x40 | 0x80;

/// A table of neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// Ethernet addresses of IPv4 addresses (ARP).
    Ipv4,
    /// Ethernet addresses of IPv6 addresses (NDP).
    Ipv6,
    /// Stations of bridges and VXLAN devices (FDB).
    Forwarding,
}

impl Table {
    const fn family(self) -> AddressFamily {
        match self {
            Self::Ipv4 => AddressFamily::Inet,
            Self::Ipv6 => AddressFamily::Inet6,
            Self::Forwarding => AddressFamily::Bridge,
        }
    }

    const fn of(family: AddressFamily) -> Option<Self> {
        match family {
            AddressFamily::Inet => Some(Self::Ipv4),
            AddressFamily::Inet6 => Some(Self::Ipv6),
            AddressFamily::Bridge => Some(Self::Forwarding),
            _ => None,
        }
    }
}

/// An entry of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The table.
    pub table: Table,
    /// Index of the interface that it is behind.
    pub link: u32,
    /// Its Ethernet address, if it is known.
    pub mac: Option<[u8; 6]>,
    /// Its address; in a forwarding table the host that frames for it are sent to.
    pub destination: Option<IpAddr>,
    /// Network identifier of the packets that are sent there, if it is not that of the device.
    pub vni: Option<u32>,
    /// In the forwarding table of a bridge, its index.
    pub controller: Option<u32>,
    /// It never ages.
    pub permanent: bool,
    /// Time since it was last confirmed, in hundredths of a second (`USER_HZ`).
    pub age: u32,
}

/// An entry to be added to a forwarding table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FdbEntry {
    /// Index of the port of a bridge, or of a VXLAN device.
    pub link: u32,
    /// The station; zero for all that are not in the table.
    pub mac: [u8; 6],
    /// Where frames for it go.
    pub target: FdbTarget,
}

/// Where frames for a station go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbTarget {
    /// Out of this port of a bridge, until the bridge learns otherwise or the entry ages.
    Port,
    /// To this host, from a VXLAN device, for good; one station may have several hosts.
    Host {
        /// Address of the host.
        address: Ipv4Addr,
        /// Network identifier of the packets.
        vni: u32,
    },
}

impl<T: Transport> Client<T> {
    /// Lists a table of all interfaces.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn neighbours(&mut self, table: Table) -> Result<Vec<Neighbour>, Error> {
        let mut question = NeighbourMessage::default();
        question.header.family = table.family();
        let question = RouteNetlinkMessage::GetNeighbour(question);
        self.list(Operation::ListNeighbours, &question, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) => Neighbour::of(&entry),
            _ => None,
        })
    }

    /// Looks for the entry of a station in the own forwarding table of a device (Linux 5.0).
    /// Asking for one is much cheaper than listing the stations of its bridge.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn fdb_entry(&mut self, link: u32, mac: [u8; 6]) -> Result<Option<Neighbour>, Error> {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Bridge;
        question.header.ifindex = link;
        question.header.flags = NeighbourFlags::Own;
        question.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let question = RouteNetlinkMessage::GetNeighbour(question);
        match self.query(|| Operation::FindFdbEntry(link), &question, 0) {
            Ok(Some(RouteNetlinkMessage::NewNeighbour(entry))) => Ok(Neighbour::of(&entry)),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds an entry to a forwarding table.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn add_fdb_entry(&mut self, entry: &FdbEntry) -> Result<(), Error> {
        let FdbEntry { link, mac, target } = *entry;
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = link;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let flags = match target {
            FdbTarget::Port => {
                message.header.state = NeighbourState::Reachable;
                message.header.flags = NeighbourFlags::Controller;
                NLM_F_CREATE
            }
            FdbTarget::Host { address, vni } => {
                message.header.state = NeighbourState::Other(PERMANENT);
                message.header.flags = NeighbourFlags::Own;
                message.attributes.extend([
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
                    NeighbourAttribute::Vni(vni),
                ]);
                NLM_F_CREATE | NLM_F_APPEND
            }
        };
        let message = RouteNetlinkMessage::NewNeighbour(message);
        self.execute(|| Operation::AddFdbEntry(link), &message, flags)
    }

    /// Has a bridge forget that a station is behind a port, and returns whether it was.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn remove_fdb_entry(&mut self, port: u32, mac: [u8; 6]) -> Result<bool, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        message.header.flags = NeighbourFlags::Controller;
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        let message = RouteNetlinkMessage::DelNeighbour(message);
        unless(Errno::ENOENT, self.execute(|| Operation::RemoveFdbEntry(port), &message, 0))
    }
}

impl Neighbour {
    /// Decodes an entry; `None` if it is of a table of another kind.
    pub(crate) fn of(message: &NeighbourMessage) -> Option<Self> {
        let permanent = match message.header.state {
            NeighbourState::Permanent => true,
            NeighbourState::Other(state) => state & u16::from(NeighbourState::Permanent) != 0,
            _ => false,
        };
        let mut neighbour = Self {
            table: Table::of(message.header.family)?,
            link: message.header.ifindex,
            mac: None,
            destination: None,
            vni: None,
            controller: None,
            permanent,
            age: 0,
        };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => neighbour.mac = mac(bytes),
                NeighbourAttribute::Destination(address) => neighbour.destination = ip(address),
                NeighbourAttribute::Vni(vni) => neighbour.vni = Some(*vni),
                NeighbourAttribute::Controller(index) => neighbour.controller = Some(*index),
                NeighbourAttribute::CacheInfo(info) => neighbour.age = info.updated,
                _ => {}
            }
        }
        Some(neighbour)
    }
}

/// In a forwarding table the family of the message is that of bridges, so that the length of the
/// address decides.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some(IpAddr::V4(*address)),
        NeighbourAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
