//! Whether somebody has an address already (RFC 5227, section 2.1.1).
//!
//! The allocator gives no address out twice; what it cannot know is who took one by hand. One probe
//! instead of the three of the RFC, and for a fraction of its time: it is for mistakes, and
//! attaching should not take seconds.

use std::net::Ipv4Addr;

use std::time::{Duration, Instant};

use weave_core::wire::{Arp, EtherType, Ethernet, MacAddress};
use weave_rtnl::Link;

use crate::error::HostError;
use crate::links::{mac, required};
use crate::namespace::run_here;
use crate::sys::packet::{ArpSocket, MAX_ARP_FRAME};

/// How long an answer may take: across an ocean and back.
pub const PROBE_TIME: Duration = Duration::from_millis(200);

/// Returns who else on a bridge has an address, as far as it answers within [`PROBE_TIME`] and
/// `believes` says that its answer counts.
///
/// # Errors
/// If the bridge is not there, or the kernel refuses.
pub fn holder_of(
    bridge: &str,
    address: Ipv4Addr,
    believes: impl FnMut(MacAddress) -> bool,
) -> Result<Option<MacAddress>, HostError> {
    run_here(|netlink| {
        let found = required(netlink, bridge)?;
        ask(&found, address, PROBE_TIME, believes)
    })
}

/// Returns who else has an address, seen from an interface in this thread's namespace.
pub(crate) fn ask(
    interface: &Link,
    address: Ipv4Addr,
    patience: Duration,
    mut believes: impl FnMut(MacAddress) -> bool,
) -> Result<Option<MacAddress>, HostError> {
    let failed =
        |error| HostError::kernel(format!("ask who has {address}"), "packet sockets", error);
    let own = mac(interface);
    let socket = ArpSocket::open(interface.index).map_err(failed)?;
    socket.send(&Arp::probe(own, address).to_frame()).map_err(failed)?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut frame = [0; MAX_ARP_FRAME];
        let Some(length) = socket.receive(&mut frame, left).map_err(failed)? else {
            return Ok(None);
        };
        if let Some(holder) = answer(&frame[..length.min(MAX_ARP_FRAME)], address, own)
            && believes(holder)
        {
            return Ok(Some(holder));
        }
    }
}

/// Returns the sender, if it says that the address is its own.
fn answer(frame: &[u8], address: Ipv4Addr, own: MacAddress) -> Option<MacAddress> {
    let frame = Ethernet::new(frame).ok()?;
    if frame.outer_type() != EtherType::ARP {
        return None;
    }
    let arp = Arp::parse(frame.payload()).ok()?;
    (arp.sender_ip == address && arp.sender_mac != own).then_some(arp.sender_mac)
}
