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

    /// Lists the IPv4 addresses of an interface in another namespace, whose number is
    /// [`Link::peer_namespace`](crate::Link::peer_namespace) of one that leads there. It takes
    /// neither a process in that namespace nor a name of it, but the capability `CAP_NET_ADMIN`
    /// there, and a client that was [opened for it](Client::open_strict). An interface that is not
    /// there has none.
    ///
    /// # Errors
    /// Fails if there is no such namespace any more, or if the kernel refuses.
    pub fn addresses_in(&mut self, namespace: i32, link: u32) -> Result<Vec<Address>, Error> {
        let mut question = AddressMessage::default();
        question.header.family = AddressFamily::Inet;
        question.header.index = link;
        question.attributes.push(AddressAttribute::TargetNetNsId(namespace));
        let there = AddressAttribute::TargetNetNsId(namespace);
        let question = RouteNetlinkMessage::GetAddress(question);
        let found = self.list(Operation::ListAddresses, &question, |answer| match answer {
            // A kernel that did not read where to look has looked here.
            RouteNetlinkMessage::NewAddress(message)
                if message.header.index == link && message.attributes.contains(&there) =>
            {
                Address::of(&message)
            }
            _ => None,
        });
        match found {
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(Vec::new()),
            result => result,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use weave_netlink::script::{Reply, Script};

    const RTM_NEWADDR: u16 = 20;

    /// `struct ifaddrmsg`, then attributes.
    fn message(index: u8, attributes: &[(u16, [u8; 4])]) -> Reply {
        let mut payload = vec![2, 12, 0, 0, index, 0, 0, 0];
        for (kind, value) in attributes {
            payload.extend(8u16.to_ne_bytes());
            payload.extend(kind.to_ne_bytes());
            payload.extend(value);
        }
        Reply::message(RTM_NEWADDR, &payload)
    }

    #[test]
    fn an_answer_from_another_namespace_than_was_asked_for_is_left_out() {
        let (address, target) = (1, 10);
        let ip = |host| (address, [10, 32, 0, host]);
        let from = |namespace: i32| (target, namespace.to_ne_bytes());
        let answers = vec![
            message(2, &[ip(1), from(7)]),
            message(2, &[ip(2), from(8)]),
            message(2, &[ip(3)]),
            message(3, &[ip(4), from(7)]),
            message(2, &[from(7)]),
            Reply::message(RTM_NEWADDR, &[2, 12, 0]),
            Reply::done(),
        ];
        let refused = |errno| vec![Reply::refused(errno)];
        let script = [answers, refused(Errno::ENODEV), refused(Errno::EPERM)];
        let mut client = Client::new(Script::new(script));
        let found = client.addresses_in(7, 2).unwrap();
        assert_eq!(found, [Address { link: 2, ip: [10, 32, 0, 1].into(), prefix: 12 }]);
        assert_eq!(client.addresses_in(7, 2).unwrap(), [], "the interface is gone");
        let error = client.addresses_in(7, 2).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EPERM));
    }
}
