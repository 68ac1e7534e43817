//! Cutting an IPv4 packet that is larger than the overlay carries (RFC 791, section 2.3;
//! spec sleeve.md, section 8.2).
//!
//! ```text
//! frame:  Ethernet | IP header            | payload                        | padding
//! pieces: Ethernet | its header, MF, off. | n * 8 bytes |
//!         Ethernet | its header, MF, off. | n * 8 bytes |
//!         Ethernet | its header,     off. | the rest    | zeros up to 60 bytes
//! ```

use super::ethernet::{self, MIN_LEN};
use super::ipv4::{self, MAX_HEADER_LEN};
use super::vlan::{MAX_TAGS, TAG_LEN};
use super::{Classified, Ipv4};

const MAX_LINK_LEN: usize = ethernet::HEADER_LEN + MAX_TAGS * TAG_LEN;
const MAX_PIECE_HEADER: usize = MAX_LINK_LEN + MAX_HEADER_LEN;

/// Fragment offsets count units of this many bytes.
const UNIT: usize = 8;
const MAX_OFFSET: usize = 0x1fff;

/// Why a frame is not cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FragmentError {
    /// It is no IPv4 packet.
    #[error("only IPv4 packets can be fragmented")]
    NotIpv4,
    /// Its sender forbids it.
    #[error("the packet has the DF flag")]
    DontFragment,
    /// The payload is not all there.
    #[error("the packet is cut off")]
    CutOff,
    /// The header does not fit, or not even 8 bytes of payload.
    #[error("an MTU of {0} bytes leaves no room for a payload")]
    MtuTooSmall(usize),
    /// The last piece would be too far from the first for the offset field.
    #[error("the packet is longer than fragments can be")]
    TooLong,
}

/// The pieces of a frame, in order.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    /// Ethernet header and IP header of every piece, but for lengths, flags and checksum.
    header: [u8; MAX_PIECE_HEADER],
    link_len: usize,
    header_len: usize,
    payload: &'a [u8],
    segment: usize,
    /// Of the next piece, in units of 8 bytes.
    offset: usize,
    /// Reserved flag of the original, for all pieces.
    flags: u16,
    /// The original is a fragment that others follow.
    more_follow: bool,
    done: bool,
}

/// One piece: a frame in three parts.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    header: [u8; MAX_PIECE_HEADER],
    header_len: usize,
    payload: &'a [u8],
}

/// Cuts the IPv4 packet in `frame` into pieces of at most `mtu` bytes. Tags make the pieces
/// smaller, as a link that carries packets of `mtu` bytes has no room for them.
///
/// # Errors
/// When the frame cannot or must not be cut.
pub fn fragment(frame: &[u8], mtu: usize) -> Result<Fragments<'_>, FragmentError> {
    let Classified::Ipv4 { offset: link_len, packet } = Classified::of(frame) else {
        return Err(FragmentError::NotIpv4);
    };
    Fragments::new(frame, link_len, &packet, mtu)
}

impl<'a> Fragments<'a> {
    fn new(
        frame: &'a [u8],
        link_len: usize,
        packet: &Ipv4<'a>,
        mtu: usize,
    ) -> Result<Self, FragmentError> {
        if packet.dont_fragment() {
            return Err(FragmentError::DontFragment);
        }
        if packet.is_cut_off() {
            return Err(FragmentError::CutOff);
        }
        let ip_header_len = packet.header().len();
        let header_len = link_len + ip_header_len;
        let room = mtu
            .saturating_add(ethernet::HEADER_LEN)
            .checked_sub(header_len)
            .ok_or(FragmentError::MtuTooSmall(mtu))?;
        let payload = packet.payload();
        let segment = if payload.len() <= room { payload.len() } else { room / UNIT * UNIT };
        if segment == 0 && !payload.is_empty() {
            return Err(FragmentError::MtuTooSmall(mtu));
        }
        let offset = usize::from(packet.fragment_offset());
        let last = payload.len().saturating_sub(1).checked_div(segment).unwrap_or(0);
        // A packet of 65535 bytes can always be cut; one whose length was left to the device
        // may be longer, and a fragment may be far from its start.
        let fits = offset + last * segment / UNIT <= MAX_OFFSET
            && ip_header_len + segment <= usize::from(u16::MAX);
        if !fits {
            return Err(FragmentError::TooLong);
        }
        let mut header = [0; MAX_PIECE_HEADER];
        for (to, from) in header.iter_mut().zip(frame.iter().take(header_len)) {
            *to = *from;
        }
        Ok(Self {
            header,
            link_len,
            header_len,
            payload,
            segment,
            offset,
            flags: if packet.reserved_flag() { ipv4::RESERVED } else { 0 },
            more_follow: packet.more_fragments(),
            done: false,
        })
    }
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.done {
            return None;
        }
        let (payload, rest) =
            self.payload.split_at_checked(self.segment).unwrap_or((self.payload, &[]));
        self.payload = rest;
        self.done = rest.is_empty();
        let mut piece = Piece { header: self.header, header_len: self.header_len, payload };
        if let Some(header) = piece.header.get_mut(self.link_len..self.header_len) {
            let total = u16::try_from(header.len() + payload.len()).expect("checked by new");
            let offset = u16::try_from(self.offset).expect("checked by new");
            let more = !self.done || self.more_follow;
            let flags = self.flags | if more { ipv4::MORE_FRAGMENTS } else { 0 };
            ipv4::rewrite(header, total, flags | offset);
        }
        self.offset += payload.len() / UNIT;
        Some(piece)
    }
}

impl<'a> Piece<'a> {
    /// Ethernet and IP header.
    pub fn header(&self) -> &[u8] {
        self.header.get(..self.header_len).unwrap_or(&self.header)
    }

    /// The payload, part of the original frame.
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Length of the frame with its padding.
    pub fn frame_len(&self) -> usize {
        (self.header_len + self.payload.len()).max(MIN_LEN)
    }

    /// Writes the frame to the start of `out`: its length, or none if it does not fit.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.frame_len())?;
        let (header, rest) = out.split_at_mut_checked(self.header_len)?;
        let (payload, padding) = rest.split_at_mut_checked(self.payload.len())?;
        header.copy_from_slice(self.header());
        payload.copy_from_slice(self.payload);
        padding.fill(0);
        Some(self.frame_len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Checksum;

    /// Ethernet header, tags, IP header with options that do nothing, payload.
    fn frame(tags: usize, options: usize, flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for id in 0..u8::try_from(tags).unwrap() {
            frame.extend_from_slice(&[0x81, 0, 0, id]);
        }
        frame.extend_from_slice(&[8, 0]);
        let header_len = 20 + 4 * options;
        let mut header = vec![1; header_len];
        header[..20].fill(9);
        header[0] = u8::try_from(0x40 + header_len / 4).unwrap();
        let total = u16::try_from(header_len + payload.len()).unwrap();
        ipv4::rewrite(&mut header, total, flags_and_offset);
        frame.extend_from_slice(&header);
        frame.extend_from_slice(payload);
        frame
    }

    fn counting(length: usize) -> Vec<u8> {
        (0..=255).cycle().take(length).collect()
    }

    #[test]
    fn refused() {
        let error = |frame: &[u8], mtu| fragment(frame, mtu).unwrap_err();
        let whole = frame(0, 0, 0, &counting(100));
        assert_eq!(error(&whole[..13], 60), FragmentError::NotIpv4);
        assert_eq!(error(&[0; 60], 60), FragmentError::NotIpv4);
        assert_eq!(error(&frame(0, 0, 0x4000, &counting(100)), 60), FragmentError::DontFragment);
        // The original crashes here.
        assert_eq!(error(&whole[..133], 60), FragmentError::CutOff);
        assert_eq!(error(&whole, 27), FragmentError::MtuTooSmall(27));
        assert_eq!(error(&whole, 0), FragmentError::MtuTooSmall(0));
        assert_eq!(fragment(&whole, 28).unwrap().count(), 13);
        // The last piece would start at 65536.
        assert_eq!(error(&frame(0, 0, 0x1fff, &counting(9)), 28), FragmentError::TooLong);
        assert_eq!(fragment(&frame(0, 0, 0x1ffe, &counting(9)), 28).unwrap().count(), 2);
    }

    #[test]
    fn a_length_left_to_the_device() {
        let mut super_frame = frame(0, 0, 0, &counting(3000));
        super_frame[16..18].fill(0);
        let pieces: Vec<Piece> = fragment(&super_frame, 1500).unwrap().collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0].header()[16..18], 1500_u16.to_be_bytes());

        super_frame.extend_from_slice(&counting(70_000));
        assert!(fragment(&super_frame, 100_000).is_err_and(|e| e == FragmentError::TooLong));
        assert!(fragment(&super_frame, 1500).is_err_and(|e| e == FragmentError::TooLong));
    }

    #[test]
    fn what_fits_stays_whole() {
        let whole = frame(0, 0, 0, &counting(101));
        let pieces: Vec<Piece> = fragment(&whole, 121).unwrap().collect();
        assert_eq!(pieces.len(), 1);
        let mut out = vec![0; 200];
        assert_eq!(pieces[0].write(&mut out), Some(whole.len()));
        assert_eq!(out[..whole.len()], whole);
        let empty = frame(0, 0, 0, &[]);
        let pieces: Vec<Piece> = fragment(&empty, 20).unwrap().collect();
        assert_eq!((pieces.len(), pieces[0].frame_len()), (1, 60));
        assert_eq!(fragment(&empty, 19).unwrap_err(), FragmentError::MtuTooSmall(19));
    }

    #[test]
    fn a_short_buffer_is_refused_and_padding_is_zero() {
        let whole = frame(0, 0, 0, &counting(9));
        let piece = fragment(&whole, 500).unwrap().next().unwrap();
        assert_eq!(piece.write(&mut [0; 59]), None);
        let mut out = [0xee; 61];
        assert_eq!(piece.write(&mut out), Some(60));
        assert_eq!(out[43..60], [0; 17]);
        assert_eq!(out[60], 0xee);
    }

    proptest! {
        #[test]
        fn pieces_make_the_packet(
            tags in 0_usize..=2,
            options in 0_usize..=10,
            reserved: bool,
            more_follow: bool,
            first_offset in 0_u16..2000,
            length in 0_usize..4000,
            trailer in 0_usize..20,
            mtu in 80_usize..2000,
        ) {
            let flags = u16::from(reserved) << 15 | u16::from(more_follow) << 13;
            let payload = counting(length);
            let mut whole = frame(tags, options, flags | first_offset, &payload);
            whole.extend(vec![0xee; trailer]);
            let link_len = 14 + 4 * tags;
            let mut reassembled = vec![None; length];
            let mut last_seen = false;
            for piece in fragment(&whole, mtu).unwrap() {
                prop_assert!(!last_seen);
                let mut out = vec![0xee; 2100];
                let written = piece.write(&mut out).unwrap();
                prop_assert!(written <= (mtu + 14).max(60));
                let Classified::Ipv4 { offset, packet } = Classified::of(&out[..written]) else {
                    return Err(TestCaseError::fail("not IPv4"));
                };
                prop_assert_eq!(offset, link_len);
                prop_assert_eq!(&out[..link_len], &whole[..link_len]);
                prop_assert_eq!(Checksum::of(packet.header()), 0);
                prop_assert_eq!(&packet.header()[20..], &whole[link_len + 20..][..4 * options]);
                prop_assert_eq!(packet.reserved_flag(), reserved);
                let start = usize::from(packet.fragment_offset() - first_offset) * 8;
                let end = start + packet.payload().len();
                last_seen = end == length;
                prop_assert_eq!(packet.more_fragments(), !last_seen || more_follow);
                for (place, byte) in reassembled[start..end].iter_mut().zip(packet.payload()) {
                    prop_assert!(place.replace(*byte).is_none(), "twice the same place");
                }
            }
            prop_assert_eq!(reassembled.into_iter().flatten().collect::<Vec<u8>>(), payload);
        }

        #[test]
        fn nothing_panics(mut bytes: Vec<u8>, ip: bool, mtu: usize) {
            if let Some(ethertype) = bytes.get_mut(12..14).filter(|_| ip) {
                ethertype.copy_from_slice(&[8, 0]);
            }
            if let Ok(pieces) = fragment(&bytes, mtu) {
                prop_assert!(pieces.count() >= 1);
            }
        }
    }
}
