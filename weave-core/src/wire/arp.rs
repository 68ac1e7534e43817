//! Address resolution for IPv4 on Ethernet (RFC 826).
//!
//! ```text
//!  0      2      4    5    6      8          14       18         24       28
//! +------+------+----+----+------+----------+--------+----------+--------+
//! | 0001 | 0800 | 06 | 04 | oper | sender   | sender | target   | target |
//! |      |      |    |    |      | MAC      | IP     | MAC      | IP     |
//! +------+------+----+----+------+----------+--------+----------+--------+
//! ```

use std::net::Ipv4Addr;

use super::ethernet::{HEADER_LEN, put_header};
use super::{EtherType, MacAddress, Reader, UnexpectedEnd};

/// Hardware type, protocol type and lengths for IPv4 on Ethernet.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// A request or reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// What it is.
    pub operation: Operation,
    /// Who sent it.
    pub sender_mac: MacAddress,
    /// The address of the sender.
    pub sender_ip: Ipv4Addr,
    /// Who is meant; zero in a request.
    pub target_mac: MacAddress,
    /// The address that is looked for, or was.
    pub target_ip: Ipv4Addr,
}

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
    /// A number that only other protocols of the family use.
    Unknown(u16),
}

/// Why a payload is not address resolution for IPv4 on Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArpError {
    /// It is too short.
    #[error(transparent)]
    Truncated(#[from] UnexpectedEnd),
    /// It resolves other addresses than IPv4 on Ethernet.
    #[error("addresses other than IPv4 on Ethernet: {0:02x?}")]
    OtherAddresses([u8; 6]),
}

impl Operation {
    const fn to_u16(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Unknown(number) => number,
        }
    }
}

impl From<u16> for Operation {
    fn from(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Reply,
            _ => Self::Unknown(number),
        }
    }
}

impl Arp {
    /// Length without the Ethernet header.
    pub const LEN: usize = 28;

    /// Reads the payload of a frame of type [`EtherType::ARP`].
    ///
    /// # Errors
    /// When it is too short or about other addresses.
    pub fn parse(payload: &[u8]) -> Result<Self, ArpError> {
        let mut reader = Reader::new(payload);
        let addresses = reader.array("the address types")?;
        if addresses != ETHERNET_IPV4 {
            return Err(ArpError::OtherAddresses(addresses));
        }
        Ok(Self {
            operation: reader.u16("the operation")?.into(),
            sender_mac: MacAddress(reader.array("the sender's MAC address")?),
            sender_ip: Ipv4Addr::from(reader.array::<4>("the sender's IP address")?),
            target_mac: MacAddress(reader.array("the target's MAC address")?),
            target_ip: Ipv4Addr::from(reader.array::<4>("the target's IP address")?),
        })
    }

    /// Tells everyone that `mac` now has `ip` (RFC 5227, section 3).
    pub const fn announcement(mac: MacAddress, ip: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddress::ZERO,
            target_ip: ip,
        }
    }

    /// Asks who has `ip`, without saying that `mac` wants it (RFC 5227, section 2.1.1).
    pub const fn probe(mac: MacAddress, ip: Ipv4Addr) -> Self {
        Self { sender_ip: Ipv4Addr::UNSPECIFIED, ..Self::announcement(mac, ip) }
    }

    /// The whole frame: to everyone if it is a request, else to the target.
    pub fn to_frame(&self) -> Vec<u8> {
        let destination = match self.operation {
            Operation::Request => MacAddress::BROADCAST,
            Operation::Reply | Operation::Unknown(_) => self.target_mac,
        };
        let mut out = Vec::with_capacity(HEADER_LEN + Self::LEN);
        put_header(destination, self.sender_mac, EtherType::ARP, &mut out);
        out.extend_from_slice(&ETHERNET_IPV4);
        out.extend_from_slice(&self.operation.to_u16().to_be_bytes());
        out.extend_from_slice(&self.sender_mac.0);
        out.extend_from_slice(&self.sender_ip.octets());
        out.extend_from_slice(&self.target_mac.0);
        out.extend_from_slice(&self.target_ip.octets());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ethernet;

    #[test]
    fn frame_round_trip() {
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let other = MacAddress([2, 0, 0, 0, 0, 2]);
        let announcement = Arp::announcement(mac, Ipv4Addr::new(10, 32, 0, 1));
        let reply = Arp { operation: Operation::Reply, target_mac: other, ..announcement };
        let unknown = Arp { operation: Operation::Unknown(8), ..reply };
        let probe = Arp::probe(mac, Ipv4Addr::new(10, 32, 0, 1));
        for (arp, to) in [
            (announcement, MacAddress::BROADCAST),
            (probe, MacAddress::BROADCAST),
            (reply, other),
            (unknown, other),
        ] {
            let bytes = arp.to_frame();
            let frame = Ethernet::new(&bytes).unwrap();
            assert_eq!((frame.destination(), frame.source()), (to, mac));
            assert_eq!(frame.outer_type(), EtherType::ARP);
            assert_eq!(frame.payload().len(), Arp::LEN);
            assert_eq!(Arp::parse(frame.payload()), Ok(arp));
        }
    }

    #[test]
    fn what_it_looks_like() {
        let arp = Arp::announcement(MacAddress([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 32, 0, 1));
        let bytes = arp.to_frame();
        let expected = "ffffffffffff020000000001080600010800060400010200000000010a200001\
                        0000000000000a200001";
        assert_eq!(hex::encode(bytes), expected);
    }

    #[test]
    fn refused() {
        let mut payload = [0; Arp::LEN];
        payload[..6].copy_from_slice(&ETHERNET_IPV4);
        assert!(Arp::parse(&payload).is_ok());
        assert!(matches!(Arp::parse(&payload[..27]), Err(ArpError::Truncated(_))));
        payload[4] = 8;
        assert!(matches!(Arp::parse(&payload), Err(ArpError::OtherAddresses(_))));
    }
}
