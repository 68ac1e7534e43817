//! Local addresses that go away.
//!
//! TCP says nothing when the address of a connection is taken from the host: it sends on, into the
//! void, and the connection ends by its timeout, a minute later. So the addresses of connections
//! are tried from time to time: a socket can be bound to those that exist.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crate::time::Instant;

/// One system call for each address that is in use, mostly one.
const INTERVAL: Duration = Duration::from_secs(1);

/// The addresses that were missing the last time. One that comes back at once, as when a lease is
/// renewed, has kept its connections.
#[derive(Debug)]
pub(super) struct LocalAddrWatch {
    missing: BTreeSet<IpAddr>,
    next: Instant,
}

impl LocalAddrWatch {
    pub(super) const fn new(now: Instant) -> Self {
        Self { missing: BTreeSet::new(), next: now }
    }

    /// When [`Self::check`] is wanted next.
    pub(super) const fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// Those of these addresses that are gone for good.
    pub(super) fn check(&mut self, now: Instant, in_use: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        self.check_with(now, in_use, exists)
    }

    fn check_with(
        &mut self,
        now: Instant,
        in_use: BTreeSet<IpAddr>,
        exists: impl Fn(IpAddr) -> bool,
    ) -> Vec<IpAddr> {
        self.next = now + INTERVAL;
        let missing: BTreeSet<IpAddr> =
            in_use.into_iter().filter(|address| !exists(*address)).collect();
        let gone = missing.intersection(&self.missing).copied().collect();
        self.missing = missing;
        gone
    }
}

/// Any other error says nothing about the address.
fn exists(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
        Ok(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_gone_when_it_is_missing_twice() {
        let [here, there] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let in_use = || BTreeSet::from([here, there]);
        let at = |seconds| Instant::since_origin(Duration::from_secs(seconds));
        let mut locals = LocalAddrWatch::new(at(0));
        let none: [IpAddr; 0] = [];
        assert_eq!(locals.check_with(at(1), in_use(), |address| address == here), none);
        assert_eq!(locals.poll_timeout(), at(2));
        assert_eq!(locals.check_with(at(2), in_use(), |address| address == here), [there]);
        assert_eq!(locals.check_with(at(3), in_use(), |_| true), none);
        assert_eq!(locals.check_with(at(4), in_use(), |address| address == there), none);
        assert_eq!(locals.check_with(at(5), in_use(), |_| true), none);
    }

    #[test]
    fn the_kernel_tells_which_addresses_exist() {
        assert!(exists([127, 0, 0, 1].into()));
        // For documentation (RFC 5737): no host has it.
        assert!(!exists([192, 0, 2, 1].into()));
    }
}
