//! Addresses of interfaces.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use weave_netlink::{Errno, Transport};

use crate::client::{Client, unless};
use crate::error::Error;
use crate::operation::Operation;

/// An address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many leading bits name its network.
    pub prefix: u8,
}

impl<T: Transport> Client<T> {
    /// Lists the addresses of an interface.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn addresses(&mut self, link: u32) -> Result<Vec<Address>, Error> {
        Ok(self.address_messages(link)?.iter().filter_map(Address::of).collect())
    }

    fn address_messages(&mut self, link: u32) -> Result<Vec<AddressMessage>, Error> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.list(Operation::ListAddresses, &question, |answer| match answer {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == link => {
                Some(message)
            }
            _ => None,
        })
    }

    /// Adds an address, and returns whether it was missing.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn add_address(&mut self, address: &Address) -> Result<bool, Error> {
        let Address { link, ip, prefix } = *address;
        let mut message = AddressMessage::default();
        message.header.index = link;
        message.header.prefix_len = prefix;
        message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Local(ip)];
        match ip {
            IpAddr::V4(ip) => {
                message.header.family = AddressFamily::Inet;
                // A network of two addresses has no broadcast address (RFC 3021).
                if let Some(host @ 0b11..) = u32::MAX.checked_shr(prefix.into()) {
                    let broadcast = Ipv4Addr::from(u32::from(ip) | host);
                    message.attributes.push(AddressAttribute::Broadcast(broadcast));
                }
            }
            IpAddr::V6(_) => message.header.family = AddressFamily::Inet6,
        }
        let message = RouteNetlinkMessage::NewAddress(message);
        let operation = || Operation::AddAddress(ip, prefix);
        unless(Errno::EEXIST, self.execute(operation, &message, NLM_F_CREATE | NLM_F_EXCL))
    }

    /// Removes an address, and returns whether it was there.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn remove_address(&mut self, address: &Address) -> Result<bool, Error> {
        let found = self.address_messages(address.link)?;
        let Some(found) = found.into_iter().find(|found| Address::of(found) == Some(*address))
        else {
            return Ok(false);
        };
        let message = RouteNetlinkMessage::DelAddress(found);
        let operation = || Operation::RemoveAddress(address.ip, address.prefix);
        unless(Errno::EADDRNOTAVAIL, self.execute(operation, &message, 0))
    }
}

impl Address {
    /// `Local` is the own address where the other end of a point-to-point link is in `Address`.
    pub(crate) fn of(message: &AddressMessage) -> Option<Self> {
        let mut ip = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(local) => ip = Some(*local),
                AddressAttribute::Address(other) => ip = ip.or(Some(*other)),
                _ => {}
            }
        }
        Some(Self { link: message.header.index, ip: ip?, prefix: message.header.prefix_len })
    }
}
