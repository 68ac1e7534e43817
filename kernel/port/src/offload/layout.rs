//! Where the headers of a TCP or UDP frame are.
//!
//! ```text
//!   0            14 (18, 22)  34 (54, ...)   54, 42, ...
//!   +------------+------------+--------------+-------------
//!   | Ethernet   | IPv4, IPv6 | TCP, UDP     | payload
//!   | and tags   | , options  | , options    |
//!   +------------+------------+--------------+-------------
//!                ^ network    ^ transport    ^ payload
//! ```

use weave_core::switch::SegmentationKind;
use weave_core::wire::ipv6::HEADER_LEN as IPV6_HEADER_LEN;
use weave_core::wire::{self, Checksum, EtherType, Ethernet, Ipv4, Ipv6, ipv4};

/// The network header. Both kinds have a length field and only one has a checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Network {
    V4,
    V6,
}

/// The transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// The layout of a frame that is exactly an unfragmented TCP or UDP packet: all length fields agree
/// with its length, so that nothing follows the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) network_kind: Network,
    pub(super) transport_kind: Transport,
    /// Where the headers and the payload start.
    pub(super) network: usize,
    pub(super) transport: usize,
    pub(super) payload: usize,
}

/// Offsets of fields from the start of their header.
pub(super) mod field {
    pub(crate) const IPV4_LENGTH: usize = 2;
    pub(crate) const IPV4_ID: usize = 4;
    pub(crate) const IPV4_CHECKSUM: usize = 10;
    pub(crate) const IPV6_LENGTH: usize = 4;
    pub(crate) const TCP_SEQUENCE: usize = 4;
    pub(crate) const TCP_FLAGS: usize = 13;
    pub(crate) const TCP_CHECKSUM: usize = 16;
    pub(crate) const UDP_LENGTH: usize = 4;
    pub(crate) const UDP_CHECKSUM: usize = 6;
}

/// TCP flags (RFC 9293, section 3.1; RFC 3168, section 6.1).
pub(super) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const CWR: u8 = 0x80;
}

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

impl Layout {
    /// Locates the headers. Returns `None` for any other frame, and for one with padding.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        Self::announced(frame)
            .filter(|(_, length)| *length == frame.len())
            .map(|(layout, _)| layout)
    }

    /// Locates the headers of a frame that may be truncated behind them, and returns the length of
    /// the frame that they announce as well.
    pub(super) fn announced(frame: &[u8]) -> Option<(Self, usize)> {
        let wire::Network { ethertype, offset: network, payload: packet } =
            Ethernet::new(frame).ok()?.network();
        let (network_kind, protocol, transport, length) = match ethertype {
            EtherType::IPV4 => ipv4_header(packet)?,
            EtherType::IPV6 => ipv6_header(packet)?,
            _ => return None,
        };
        let (transport, length) = (network + transport, network + length);
        let segment = frame.get(transport..)?;
        let (transport_kind, header_len) = match protocol {
            PROTOCOL_TCP => {
                let header_len = usize::from(segment.get(12)? >> 4) * 4;
                (Transport::Tcp, (header_len >= TCP_HEADER_LEN).then_some(header_len)?)
            }
            PROTOCOL_UDP => {
                let datagram = usize::from(u16_at(segment, field::UDP_LENGTH)?);
                (Transport::Udp, (transport + datagram == length).then_some(UDP_HEADER_LEN)?)
            }
            _ => return None,
        };
        let payload = transport + header_len;
        let layout = Self { network_kind, transport_kind, network, transport, payload };
        (payload <= frame.len() && payload <= length).then_some((layout, length))
    }

    /// Returns whether the fixed network header is directly followed by the transport header, which
    /// is not so in IPv6 fragments and routed packets.
    pub(super) const fn is_bare(&self) -> bool {
        let header = match self.network_kind {
            Network::V4 => ipv4::MIN_HEADER_LEN,
            Network::V6 => IPV6_HEADER_LEN,
        };
        self.transport - self.network == header
    }

    /// Returns the segmentation that a device would announce for such a packet.
    pub(super) const fn segmentation_kind(&self) -> SegmentationKind {
        match (self.transport_kind, self.network_kind) {
            (Transport::Tcp, Network::V4) => SegmentationKind::Tcp4,
            (Transport::Tcp, Network::V6) => SegmentationKind::Tcp6,
            (Transport::Udp, _) => SegmentationKind::Udp,
        }
    }

    /// Returns the offset of the transport checksum from the start of the transport header.
    pub(super) const fn checksum_offset(&self) -> usize {
        match self.transport_kind {
            Transport::Tcp => field::TCP_CHECKSUM,
            Transport::Udp => field::UDP_CHECKSUM,
        }
    }

    /// Returns the sum of the pseudo-header of a frame with this layout, which is bare.
    pub(super) fn pseudo_header(&self, frame: &[u8]) -> Checksum {
        let packet = &frame[self.network..];
        let protocol = match self.transport_kind {
            Transport::Tcp => PROTOCOL_TCP,
            Transport::Udp => PROTOCOL_UDP,
        };
        let length = u16::try_from(frame.len() - self.transport).expect("within an IP packet");
        let mut checksum = Checksum::new();
        checksum.add(match self.network_kind {
            Network::V4 => &packet[12..20],
            Network::V6 => &packet[8..40],
        });
        checksum.add(&[0, protocol]);
        checksum.add(&length.to_be_bytes());
        checksum
    }

    /// Changes the headers of a super-frame to those of a part of it: the segments from `index` on,
    /// whose payload begins `start` bytes into that of the whole. Lengths and checksums are left
    /// unchanged.
    ///
    /// # Panics
    /// If these are not the headers that were located.
    pub(super) fn narrow(&self, headers: &mut [u8], index: usize, start: usize, last: bool) {
        let Self { network, transport, .. } = *self;
        if self.network_kind == Network::V4 {
            let id = u16_at(headers, network + field::IPV4_ID).expect("found before");
            let passed = u16::try_from(index).expect("segments have a byte or more");
            put_u16(headers, network + field::IPV4_ID, id.wrapping_add(passed));
        }
        if self.transport_kind == Transport::Tcp {
            let at = transport + field::TCP_SEQUENCE;
            let sequence = u32_at(headers, at).expect("found before");
            let passed = u32::try_from(start).expect("within a frame");
            put_u32(headers, at, sequence.wrapping_add(passed));
            let flags = &mut headers[transport + field::TCP_FLAGS];
            if !last {
                *flags &= !(flag::FIN | flag::PSH);
            }
            if index > 0 {
                *flags &= !flag::CWR;
            }
        }
    }

    /// Writes the length fields for the length of the frame, and the checksum of the network
    /// header.
    pub(super) fn put_lengths(&self, frame: &mut [u8]) {
        let header = self.transport - self.network;
        let length = |bytes: usize| u16::try_from(bytes).expect("no longer than it was");
        let end = frame.len();
        let packet = &mut frame[self.network..];
        match self.network_kind {
            Network::V4 => {
                put_u16(packet, field::IPV4_LENGTH, length(end - self.network));
                put_u16(packet, field::IPV4_CHECKSUM, 0);
                let checksum = Checksum::of(&packet[..header]);
                put_u16(packet, field::IPV4_CHECKSUM, checksum);
            }
            Network::V6 => {
                put_u16(packet, field::IPV6_LENGTH, length(packet.len() - IPV6_HEADER_LEN));
            }
        }
        if self.transport_kind == Transport::Udp {
            let transport = self.transport;
            put_u16(frame, transport + field::UDP_LENGTH, length(end - transport));
        }
    }
}

/// Returns the kind, the upper protocol and its offset, and the announced length of the packet.
fn ipv4_header(packet: &[u8]) -> Option<(Network, u8, usize, usize)> {
    let view = Ipv4::new(packet).ok()?;
    let length = usize::from(u16_at(packet, field::IPV4_LENGTH)?);
    let whole = packet.first()? >> 4 == 4 && view.fragment_offset() == 0 && !view.more_fragments();
    whole.then_some((Network::V4, view.protocol(), view.header().len(), length))
}

/// Returns the same as [`ipv4_header`].
fn ipv6_header(packet: &[u8]) -> Option<(Network, u8, usize, usize)> {
    let upper = Ipv6::new(packet).ok()?.upper_layer()?;
    let length = IPV6_HEADER_LEN + usize::from(u16_at(packet, field::IPV6_LENGTH)?);
    (upper.fragment_offset == 0).then_some((Network::V6, upper.protocol, upper.offset, length))
}

/// Returns the big-endian number at this offset.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Returns the big-endian number at this offset.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Writes a number into a header that was located before.
pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a number into a header that was located before.
pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
