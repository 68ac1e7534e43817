//! What a frame is to the forwarding decision (spec sleeve.md, section 9).

use super::{EtherType, Ethernet, Ipv4, Ipv6, MacAddress};

/// A frame, looked at once.
///
/// Unlike the original, which stops at a tag, this sees the IP packet in a tagged frame: its DF
/// flag counts. And unlike the original, which goes on to the innermost header, this never looks
/// into a tunnel: only the outer packet is routed.
#[derive(Clone, Copy, Debug)]
pub enum Classified<'a> {
    /// Shorter than an Ethernet header: to be dropped.
    Short,
    /// A message from router to router that goes by way of the overlay: both addresses and the
    /// type are zero.
    Special,
    /// An IPv4 packet with a valid header.
    Ipv4 {
        /// Where the packet starts in the frame.
        offset: usize,
        /// The packet.
        packet: Ipv4<'a>,
    },
    /// An IPv6 packet.
    Ipv6 {
        /// Where the packet starts in the frame.
        offset: usize,
        /// The packet.
        packet: Ipv6<'a>,
    },
    /// Anything else.
    Other,
}

impl<'a> Classified<'a> {
    /// Looks at a frame.
    pub fn of(frame: &'a [u8]) -> Self {
        let Ok(ethernet) = Ethernet::new(frame) else { return Self::Short };
        let network = ethernet.network();
        match network.ethertype {
            EtherType::IPV4 => match Ipv4::new(network.payload) {
                Ok(packet) => Self::Ipv4 { offset: network.offset, packet },
                Err(_) => Self::Other,
            },
            EtherType::IPV6 => match Ipv6::new(network.payload) {
                Ok(packet) => Self::Ipv6 { offset: network.offset, packet },
                Err(_) => Self::Other,
            },
            EtherType(0)
                if ethernet.destination() == MacAddress::ZERO
                    && ethernet.source() == MacAddress::ZERO
                    && ethernet.outer_type() == EtherType(0) =>
            {
                Self::Special
            }
            _ => Self::Other,
        }
    }

    /// Whether a router must not cut the packet but tell its sender of the MTU: IPv4 with the
    /// DF flag, and all of IPv6 (RFC 8200, section 5).
    pub const fn dont_fragment(&self) -> bool {
        match self {
            Self::Ipv4 { packet, .. } => packet.dont_fragment(),
            Self::Ipv6 { .. } => true,
            Self::Short | Self::Special | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_is_all_zero_and_untagged() {
        let zeros = [0; 60];
        assert!(matches!(Classified::of(&zeros), Classified::Special));
        for place in 0..14 {
            let mut frame = zeros;
            frame[place] = 1;
            assert!(matches!(Classified::of(&frame), Classified::Other), "{place}");
        }
        let mut tagged = zeros;
        tagged[12..14].copy_from_slice(&[0x81, 0]);
        assert!(matches!(Classified::of(&tagged), Classified::Other));
    }

    #[test]
    fn routers_must_not_cut_ipv6() {
        let mut frame = [0; 14 + 40];
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        let classified = Classified::of(&frame);
        assert!(matches!(classified, Classified::Ipv6 { offset: 14, .. }));
        assert!(classified.dont_fragment());
        frame[14] = 0x50;
        assert!(!Classified::of(&frame).dont_fragment());
    }
}
