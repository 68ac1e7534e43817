//! Telling the neighbours of an interface in this thread's namespace whose an address is now
//! (RFC 5227, section 3).

use std::net::IpAddr;

use weave_core::wire::Arp;
use weave_rtnl::{Client, Link, LinkChange};

use crate::links::mac;
use crate::sys::packet::ArpSocket;
use crate::sysctl;
use weave_core::Cidr;

/// Has the kernel tell them, of these and of all others the interface has.
///
/// It does when the Ethernet address is set, be it to what it is. By hand it takes longer: when a
/// packet socket is closed, the kernel waits until no processor looks at it, some 14 ms.
pub(crate) fn by_kernel(netlink: &mut Client, interface: &Link, addresses: &[Cidr]) {
    if !addresses.iter().any(|cidr| cidr.address().is_ipv4()) {
        return;
    }
    let told = match sysctl::announce_ipv4(&interface.name) {
        Ok(()) => netlink.change(interface, LinkChange::Mac(mac(interface).0)).is_ok(),
        Err(_) => false,
    };
    if !told {
        addresses.iter().for_each(|cidr| by_hand(interface, *cidr));
    }
}

/// Tells them of one address.
pub(crate) fn by_hand(interface: &Link, cidr: Cidr) {
    if let IpAddr::V4(address) = cidr.address() {
        let frame = Arp::announcement(mac(interface), address).to_frame();
        let socket = ArpSocket::open(interface.index);
        if let Err(error) = socket.and_then(|socket| socket.send(&frame)) {
            tracing::warn!(%address, %error, "address not announced");
        }
    }
}
