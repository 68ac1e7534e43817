//! Telling the sender of a packet that it was too big (RFC 1191, section 4; RFC 4443, section
//! 3.2; spec sleeve.md, section 8.1).
//!
//! ```text
//!  0    1    2       4       6      8
//! +----+----+-------+-------+------+-------------------------------
//! | 03 | 04 | check | 0     | MTU  | IPv4 header and 8 bytes more
//! +----+----+-------+-------+------+-------------------------------
//! | 02 | 00 | check | MTU          | IPv6 packet up to 1280 in all
//! +----+----+-------+-------+------+-------------------------------
//! ```
//!
//! The answer comes from the address that the packet was sent to, as the switch has none.

use std::net::Ipv4Addr;

use super::ipv4::{self, PROTOCOL_ICMP};
use super::ipv6::{self, MIN_MTU, PROTOCOL_ICMPV6};
use super::{Checksum, Classified, Ethernet, Ipv4, Ipv6, ethernet};

const ICMP_HEADER_LEN: usize = 8;
/// Bytes of the payload of an IPv4 packet that let its sender find the connection.
const QUOTED: usize = 8;

const DESTINATION_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// ICMPv6 types below are errors (RFC 4443, section 2.1).
const FIRST_INFORMATIONAL: u8 = 128;
/// Not to be answered with an error either (RFC 4443, section 2.4 (e.2)).
const REDIRECT: u8 = 137;

/// Why the sender of a frame that is too big is not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// It is no IP packet, or one that cannot be read far enough.
    #[error("not a readable IP packet")]
    NotIp,
    /// It went to a group, or its sender has no address of its own (RFC 1122, section 3.2.2).
    #[error("not from one host to another")]
    NotUnicast,
    /// The first one has been answered, being as large.
    #[error("not the first fragment of a packet")]
    LaterFragment,
    /// An error must not cause another.
    #[error("an ICMP error message itself")]
    IcmpError,
}

/// Makes the frame that answers an IP packet larger than `mtu`. It replaces what is in `out`.
///
/// Tags are copied. As a link that carries packets of `mtu` bytes has no room for them, the MTU
/// in the answer is smaller by their length.
///
/// # Errors
/// When there must be no answer; `out` is then empty.
pub fn too_big(frame: &[u8], mtu: usize, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
    out.clear();
    match Classified::of(frame) {
        Classified::Ipv4 { offset, packet } => {
            check_ipv4(frame, &packet)?;
            put_link_header(frame, offset, out);
            put_fragmentation_needed(&packet, mtu_below_tags(mtu, offset), out);
        }
        Classified::Ipv6 { offset, packet } => {
            check_ipv6(frame, &packet)?;
            put_link_header(frame, offset, out);
            put_packet_too_big(&packet, mtu_below_tags(mtu, offset), out);
        }
        Classified::Short | Classified::Special | Classified::Other => return Err(NoAnswer::NotIp),
    }
    Ok(())
}

fn check_ipv4(frame: &[u8], packet: &Ipv4<'_>) -> Result<(), NoAnswer> {
    if !between_stations(frame) || !is_host(packet.source()) || !is_host(packet.destination()) {
        return Err(NoAnswer::NotUnicast);
    }
    if packet.fragment_offset() != 0 {
        return Err(NoAnswer::LaterFragment);
    }
    if packet.protocol() == PROTOCOL_ICMP {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        match packet.payload().first().copied() {
            Some(3..=5 | 11 | 12) => return Err(NoAnswer::IcmpError),
            Some(_) => {}
            None => return Err(NoAnswer::NotIp),
        }
    }
    Ok(())
}

fn check_ipv6(frame: &[u8], packet: &Ipv6<'_>) -> Result<(), NoAnswer> {
    let (source, destination) = (packet.source(), packet.destination());
    let is_host = !source.is_unspecified() && !source.is_multicast() && !source.is_loopback();
    // RFC 4443 would answer to groups, but not from a group.
    if !between_stations(frame) || !is_host || destination.is_multicast() {
        return Err(NoAnswer::NotUnicast);
    }
    let upper = packet.upper_layer().ok_or(NoAnswer::NotIp)?;
    if upper.fragment_offset != 0 {
        return Err(NoAnswer::LaterFragment);
    }
    if upper.protocol == PROTOCOL_ICMPV6 {
        match upper.bytes.first().copied() {
            Some(0..FIRST_INFORMATIONAL | REDIRECT) => return Err(NoAnswer::IcmpError),
            Some(_) => {}
            None => return Err(NoAnswer::NotIp),
        }
    }
    Ok(())
}

fn between_stations(frame: &[u8]) -> bool {
    Ethernet::new(frame).is_ok_and(|ethernet| {
        !ethernet.destination().is_multicast() && !ethernet.source().is_multicast()
    })
}

/// Neither of 0/8, loopback, multicast, reserved, broadcast.
const fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

const fn mtu_below_tags(mtu: usize, packet_offset: usize) -> usize {
    mtu.saturating_add(ethernet::HEADER_LEN).saturating_sub(packet_offset)
}

/// The header of the frame, tags included, in the other direction.
fn put_link_header(frame: &[u8], packet_offset: usize, out: &mut Vec<u8>) {
    if let Ok(ethernet) = Ethernet::new(frame) {
        out.extend_from_slice(&ethernet.source().0);
        out.extend_from_slice(&ethernet.destination().0);
        out.extend(frame.iter().take(packet_offset).skip(12));
    }
}

fn put_fragmentation_needed(packet: &Ipv4<'_>, mtu: usize, out: &mut Vec<u8>) {
    let quoted = packet.payload().get(..QUOTED).unwrap_or(packet.payload());
    let length = ICMP_HEADER_LEN + packet.header().len() + quoted.len();
    ipv4::Header {
        tos: packet.tos(),
        protocol: PROTOCOL_ICMP,
        source: packet.destination(),
        destination: packet.source(),
        payload_length: u16::try_from(length).expect("at most 8 + 60 + 8 bytes"),
    }
    .put(out);
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
    let types = [DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED];
    let mut checksum = Checksum::new();
    for part in [&types[..], &mtu, packet.header(), quoted] {
        checksum.add(part);
    }
    out.extend_from_slice(&types);
    out.extend_from_slice(&checksum.finish().to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&mtu);
    out.extend_from_slice(packet.header());
    out.extend_from_slice(quoted);
}

fn put_packet_too_big(packet: &Ipv6<'_>, mtu: usize, out: &mut Vec<u8>) {
    // "As much of invoking packet as possible without the ICMPv6 packet exceeding the minimum
    // IPv6 MTU" (RFC 4443, section 3.2).
    const MAX_QUOTED: usize = MIN_MTU - ipv6::HEADER_LEN - ICMP_HEADER_LEN;
    let quoted = packet.packet().get(..MAX_QUOTED).unwrap_or(packet.packet());
    let length = u16::try_from(ICMP_HEADER_LEN + quoted.len()).expect("at most 1240 bytes");
    let (source, destination) = (packet.destination(), packet.source());
    ipv6::Header { next_header: PROTOCOL_ICMPV6, source, destination, payload_length: length }
        .put(out);
    // A smaller one would be discarded (RFC 8201, section 4).
    let mtu = u32::try_from(mtu.max(MIN_MTU)).unwrap_or(u32::MAX).to_be_bytes();
    let types = [PACKET_TOO_BIG, 0];
    let mut checksum =
        Checksum::pseudo_ipv6(source, destination, PROTOCOL_ICMPV6, u32::from(length));
    for part in [&types[..], &mtu, quoted] {
        checksum.add(part);
    }
    out.extend_from_slice(&types);
    out.extend_from_slice(&checksum.finish().to_be_bytes());
    out.extend_from_slice(&mtu);
    out.extend_from_slice(quoted);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::ethernet::put_header;
    use crate::wire::{EtherType, MacAddress};

    const STATION_A: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xa]);
    const STATION_B: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xb]);
    const HOST_A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xa);
    const HOST_B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xb);

    fn ipv4_frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_header(STATION_B, STATION_A, EtherType::IPV4, &mut frame);
        ipv4::Header {
            tos: 0,
            protocol,
            source: Ipv4Addr::new(10, 32, 0, 0xa),
            destination: Ipv4Addr::new(10, 32, 0, 0xb),
            payload_length: u16::try_from(payload.len()).unwrap(),
        }
        .put(&mut frame);
        frame.extend_from_slice(payload);
        frame
    }

    fn ipv6_frame(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_header(STATION_B, STATION_A, EtherType::IPV6, &mut frame);
        ipv6::Header {
            next_header,
            source: HOST_A,
            destination: HOST_B,
            payload_length: u16::try_from(payload.len()).unwrap(),
        }
        .put(&mut frame);
        frame.extend_from_slice(payload);
        frame
    }

    fn answer(frame: &[u8], mtu: usize) -> Result<Vec<u8>, NoAnswer> {
        let mut out = vec![0xee; 3];
        let result = too_big(frame, mtu, &mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|()| out)
    }

    /// What an IPv6 host reads from an answer: the MTU and the quoted packet.
    fn read_packet_too_big(answer: &[u8]) -> (u32, Vec<u8>) {
        let Classified::Ipv6 { packet, .. } = Classified::of(answer) else { panic!("no IPv6") };
        assert_eq!((packet.source(), packet.destination()), (HOST_B, HOST_A));
        assert!(packet.packet().len() <= MIN_MTU);
        let upper = packet.upper_layer().unwrap();
        assert_eq!(upper.protocol, PROTOCOL_ICMPV6);
        let length = u32::try_from(upper.bytes.len()).unwrap();
        let mut checksum = Checksum::pseudo_ipv6(HOST_B, HOST_A, PROTOCOL_ICMPV6, length);
        checksum.add(upper.bytes);
        assert_eq!(checksum.finish(), 0);
        assert_eq!(upper.bytes[..2], [2, 0]);
        let mtu = u32::from_be_bytes(upper.bytes[4..8].try_into().unwrap());
        (mtu, upper.bytes[8..].to_vec())
    }

    #[test]
    fn packet_too_big() {
        let frame = ipv6_frame(17, &[0x5a; 1960]);
        let reply = answer(&frame, 1414).unwrap();
        assert_eq!(reply.len(), 14 + MIN_MTU, "as much as fits into 1280 bytes");
        let ethernet = Ethernet::new(&reply).unwrap();
        assert_eq!((ethernet.destination(), ethernet.source()), (STATION_A, STATION_B));
        assert_eq!(read_packet_too_big(&reply), (1414, frame[14..][..1232].to_vec()));

        let small = ipv6_frame(17, &[0x5a; 60]);
        let reply = answer(&small, 80).unwrap();
        assert_eq!(read_packet_too_big(&reply), (1280, small[14..].to_vec()), "never below");
    }

    #[test]
    fn padding_is_not_quoted() {
        let mut frame = ipv6_frame(17, &[1]);
        frame.extend_from_slice(&[0xee; 9]);
        assert_eq!(read_packet_too_big(&answer(&frame, 10).unwrap()).1, frame[14..55]);
        let mut frame = ipv4_frame(17, &[1, 2, 3, 4]);
        frame.extend_from_slice(&[0xee; 9]);
        let reply = answer(&frame, 10).unwrap();
        let Classified::Ipv4 { packet, .. } = Classified::of(&reply) else { panic!("no IPv4") };
        assert_eq!(packet.payload()[8..], frame[14..38]);
    }

    #[test]
    fn tags_are_copied_and_paid_for() {
        for (frame, checksum_of_payload) in
            [(ipv4_frame(17, &[1; 1480]), true), (ipv6_frame(17, &[1; 1460]), false)]
        {
            let plain = answer(&frame, 1406).unwrap();
            let mut tagged = frame.clone();
            let tags = [0x88, 0xa8, 0x20, 7, 0x81, 0, 0, 8];
            tagged.splice(12..12, tags);
            let reply = answer(&tagged, 1414).unwrap();
            assert_eq!(reply[..12], plain[..12]);
            assert_eq!(reply[12..20], tags);
            assert_eq!(reply[20..], plain[12..], "1414 with two tags is 1406 without");
            if checksum_of_payload {
                assert_eq!(Checksum::of(&reply[42..]), 0);
            }
        }
    }

    #[test]
    fn mtus_beyond_the_field() {
        let reply = answer(&ipv4_frame(17, &[0; 100]), 70_000).unwrap();
        assert_eq!(reply[40..42], [0xff, 0xff]);
        let reply = answer(&ipv6_frame(17, &[0; 100]), 70_000).unwrap();
        assert_eq!(read_packet_too_big(&reply).0, 70_000);
    }

    #[test]
    fn errors_are_not_answered() {
        for kind in [3, 4, 5, 11, 12] {
            assert_eq!(answer(&ipv4_frame(1, &[kind; 100]), 50), Err(NoAnswer::IcmpError));
        }
        for kind in [0, 8, 13] {
            assert!(answer(&ipv4_frame(1, &[kind; 100]), 50).is_ok());
        }
        for kind in [1, 2, 3, 4, 100, 127, 137] {
            assert_eq!(answer(&ipv6_frame(58, &[kind; 100]), 50), Err(NoAnswer::IcmpError));
            // Behind an extension header too.
            let mut payload = [kind; 100];
            payload[..8].copy_from_slice(&[58, 0, 1, 4, 0, 0, 0, 0]);
            assert_eq!(answer(&ipv6_frame(60, &payload), 50), Err(NoAnswer::IcmpError));
        }
        for kind in [128, 129, 135] {
            assert!(answer(&ipv6_frame(58, &[kind; 100]), 50).is_ok());
        }
        assert_eq!(answer(&ipv4_frame(1, &[]), 10), Err(NoAnswer::NotIp));
        assert_eq!(answer(&ipv6_frame(58, &[]), 10), Err(NoAnswer::NotIp));
        assert_eq!(answer(&ipv6_frame(60, &[58, 9]), 10), Err(NoAnswer::NotIp));
    }

    #[test]
    fn only_hosts_are_answered() {
        for frame in [ipv4_frame(17, &[0; 100]), ipv6_frame(17, &[0; 100])] {
            assert!(answer(&frame, 50).is_ok());
            for group_bit in [0, 6] {
                let mut group = frame.clone();
                group[group_bit] |= 1;
                assert_eq!(answer(&group, 50), Err(NoAnswer::NotUnicast));
            }
        }
        for address in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
            for place in [26, 30] {
                let mut frame = ipv4_frame(17, &[0; 100]);
                frame[place..place + 4].copy_from_slice(&address);
                assert_eq!(answer(&frame, 50), Err(NoAnswer::NotUnicast), "{address:?}");
            }
        }
        for (address, place) in [("::", 22), ("::1", 22), ("ff02::1", 22), ("ff02::1", 38)] {
            let mut frame = ipv6_frame(17, &[0; 100]);
            let address: Ipv6Addr = address.parse().unwrap();
            frame[place..place + 16].copy_from_slice(&address.octets());
            assert_eq!(answer(&frame, 50), Err(NoAnswer::NotUnicast), "{address}");
        }
    }

    #[test]
    fn only_first_fragments_are_answered() {
        let mut frame = ipv4_frame(17, &[0; 100]);
        frame[20] = 0x60;
        assert!(answer(&frame, 50).is_ok(), "the first");
        frame[21] = 1;
        assert_eq!(answer(&frame, 50), Err(NoAnswer::LaterFragment));
        let mut payload = [0; 100];
        payload[..4].copy_from_slice(&[17, 0, 0, 1]);
        assert!(answer(&ipv6_frame(44, &payload), 50).is_ok(), "the first");
        payload[3] = 9;
        assert_eq!(answer(&ipv6_frame(44, &payload), 50), Err(NoAnswer::LaterFragment));
    }

    #[test]
    fn other_frames_are_not_answered() {
        let mut arp = Vec::new();
        put_header(STATION_B, STATION_A, EtherType::ARP, &mut arp);
        for frame in [&[][..], &[0; 13], &[0; 60], &arp] {
            assert_eq!(answer(frame, 50), Err(NoAnswer::NotIp));
        }
    }

    proptest! {
        #[test]
        fn answers_are_valid_and_not_answered(
            is_ipv6: bool,
            protocol: u8,
            payload in prop::collection::vec(any::<u8>(), 0..1500),
            trailer in 0_usize..30,
            tags in 0_usize..=2,
            mtu in 68_usize..3000,
        ) {
            let mut frame = if is_ipv6 {
                ipv6_frame(protocol, &payload)
            } else {
                ipv4_frame(protocol, &payload)
            };
            frame.extend(vec![0xee; trailer]);
            for _ in 0..tags {
                frame.splice(12..12, [0x81, 0, 0, 9]);
            }
            let Ok(reply) = answer(&frame, mtu) else { return Ok(()) };
            prop_assert!(reply.len() >= ethernet::MIN_LEN);
            let link_len = 14 + 4 * tags;
            prop_assert_eq!(&reply[12..link_len], &frame[12..link_len]);
            let told = match Classified::of(&reply) {
                Classified::Ipv4 { packet, .. } => {
                    prop_assert_eq!(packet.total_length(), reply.len() - link_len);
                    prop_assert_eq!(Checksum::of(packet.header()), 0);
                    prop_assert_eq!(Checksum::of(packet.payload()), 0);
                    usize::from(u16::from_be_bytes(packet.payload()[6..8].try_into().unwrap()))
                }
                Classified::Ipv6 { packet, .. } => {
                    prop_assert_eq!(packet.packet().len(), reply.len() - link_len);
                    let (told, quoted) = read_packet_too_big(&reply);
                    prop_assert!(frame[link_len..].starts_with(&quoted));
                    usize::try_from(told).unwrap()
                }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            let expected = mtu - 4 * tags;
            prop_assert_eq!(told, if is_ipv6 { expected.max(MIN_MTU) } else { expected });
            prop_assert_eq!(answer(&reply, mtu), Err(NoAnswer::IcmpError));
        }

        #[test]
        fn any_bytes_do_no_harm(mut frame: Vec<u8>, ethertype in 0_usize..3, mtu: usize) {
            let types = [[8, 0], [0x86, 0xdd], [0x81, 0]];
            if let Some(place) = frame.get_mut(12..14) {
                place.copy_from_slice(&types[ethertype]);
            }
            let _ = answer(&frame, mtu);
        }
    }
}
