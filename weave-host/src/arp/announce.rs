//! Telling the neighbours of an interface in this thread's namespace whose an address is now
//! (RFC 5227, section 3).

use std::net::IpAddr;

use weave_core::wire::Arp;

use crate::address::Cidr;
use crate::netlink::{Change, Interface, Netlink};
use crate::sys::packet::ArpSocket;
use crate::sysctl;

/// Has the kernel tell them, of these and of all others the interface has.
///
/// It does when the Ethernet address is set, be it to what it is. By hand it takes longer: when a
/// packet socket is closed, the kernel waits until no processor looks at it, some 14 ms.
pub(crate) async fn by_kernel(netlink: &Netlink, interface: &Interface, addresses: &[Cidr]) {
    if !addresses.iter().any(|cidr| cidr.address().is_ipv4()) {
        return;
    }
    let Interface { index, name, mac, .. } = interface;
    let told = match sysctl::announce_ipv4(name) {
        Ok(()) => netlink.change(*index, name, Change::Mac(*mac)).await.is_ok(),
        Err(_) => false,
    };
    if !told {
        addresses.iter().for_each(|cidr| by_hand(interface, *cidr));
    }
}

/// Tells them of one address.
pub(crate) fn by_hand(interface: &Interface, cidr: Cidr) {
    if let IpAddr::V4(address) = cidr.address() {
        let frame = Arp::announcement(interface.mac, address).to_frame();
        let socket = ArpSocket::open(interface.index);
        if let Err(error) = socket.and_then(|socket| socket.send(&frame)) {
            tracing::warn!(%address, %error, "address not announced");
        }
    }
}
