//! Telling the neighbours who has an address: the ARP announcement (RFC 5227, section 3), an
//! ARP request (RFC 826) whose sender and target address are equal.
//!
//! ```text
//!  0     6     12   14   16   18  19  20   22     28      32     38      42
//! ┌─────┬─────┬────┬────┬────┬───┬───┬────┬──────┬───────┬──────┬───────┐
//! │ff×6 │ own │0806│0001│0800│ 6 │ 4 │0001│ own  │ own IP│ 0×6  │ own IP│
//! └─────┴─────┴────┴────┴────┴───┴───┴────┴──────┴───────┴──────┴───────┘
//! ```

use std::net::Ipv4Addr;

use weave_core::wire::MacAddress;

/// The announcement that `mac` has `address`.
pub(crate) fn arp_announcement(mac: MacAddress, address: Ipv4Addr) -> Vec<u8> {
    [
        &MacAddress::BROADCAST.0[..],
        &mac.0,
        &[0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x01],
        &mac.0,
        &address.octets(),
        &MacAddress::ZERO.0,
        &address.octets(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_announcement() {
        let mac = MacAddress([2, 0, 10, 32, 0, 1]);
        let frame = arp_announcement(mac, Ipv4Addr::new(10, 32, 0, 1));
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 10, 32, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
            2, 0, 10, 32, 0, 1, 10, 32, 0, 1, 0, 0, 0, 0, 0, 0, 10, 32, 0, 1,
        ];
        assert_eq!(frame, expected);
    }
}
