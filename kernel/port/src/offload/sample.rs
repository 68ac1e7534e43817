//! Super-frames for tests, and a slow parser that shares nothing with the fast one.

use proptest::prelude::*;
use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};

use super::Segments;

/// A super-frame with its requests.
#[derive(Clone, Debug)]
pub(crate) struct SuperFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: ChecksumRequest,
    pub(crate) segmentation: Segmentation,
}

impl SuperFrame {
    pub(crate) fn frame(&self) -> Frame<'_> {
        let Self { bytes, checksum, segmentation } = self;
        Frame { bytes, checksum: Some(*checksum), segmentation: Some(*segmentation) }
    }
}

/// The properties of a super-frame.
#[derive(Clone, Debug)]
pub(crate) struct SuperFrameSpec {
    pub(crate) v6: bool,
    pub(crate) udp: bool,
    pub(crate) tags: usize,
    pub(crate) dont_fragment: bool,
    pub(crate) id: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    /// Length in words of four bytes.
    pub(crate) options: usize,
    pub(crate) port: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) size: u16,
}

/// Generates super-frames as kernels do, with flags that allow coalescing.
pub(crate) fn spec() -> impl Strategy<Value = SuperFrameSpec> {
    let payload = prop_oneof![
        8 => 0_usize..6000,
        1 => 60_000_usize..65_400,
    ];
    let kinds = (any::<bool>(), any::<bool>(), 0_usize..3, any::<bool>());
    let headers = (any::<u16>(), any::<u32>(), 0_u8..4, 0_usize..=10, any::<u16>());
    (kinds, headers, payload, 64_u16..3000, any::<u64>()).prop_map(
        |((v6, udp, tags, dont_fragment), header, length, size, seed)| {
            let (id, sequence, last, options, port) = header;
            let flags = 0x10 | [0, 0x08, 0x01, 0x09][usize::from(last)];
            let longest = 65_535 - if udp { 8 } else { 20 + 4 * options } - 40;
            let length = if udp { length.min(64 * usize::from(size)) } else { length };
            let payload = bytes(seed, length.min(longest));
            let sequence = if udp { 0 } else { sequence };
            SuperFrameSpec {
                v6,
                udp,
                tags,
                dont_fragment,
                id,
                sequence,
                flags,
                options,
                port,
                payload,
                size,
            }
        },
    )
}

/// Builds a TCP super-frame.
pub(crate) fn super_frame(payload: usize, size: u16) -> SuperFrame {
    SuperFrameSpec::tcp(bytes(1, payload), size).build()
}

/// Returns bytes that look random, or zeros for seed 0, so that checksums of zero occur.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(length).collect()
}

impl SuperFrameSpec {
    /// A TCP super-frame over IPv4, as of a stream in full flow.
    pub(crate) const fn tcp(payload: Vec<u8>, size: u16) -> Self {
        Self {
            v6: false,
            udp: false,
            tags: 0,
            dont_fragment: true,
            id: 7,
            sequence: 1000,
            flags: 0x10,
            options: 3,
            port: 80,
            payload,
            size,
        }
    }

    pub(crate) fn build(&self) -> SuperFrame {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in 0..self.tags {
            frame.extend([if tag == 0 && self.tags == 2 { 0x88 } else { 0x81 }]);
            frame.extend([if tag == 0 && self.tags == 2 { 0xa8 } else { 0 }, 0x20, 5]);
        }
        let mut transport = Vec::new();
        transport.extend(self.port.to_be_bytes());
        transport.extend([0x14, 0x51]);
        let header = if self.udp { 8 } else { 20 + 4 * self.options };
        let length = u16::try_from(header + self.payload.len()).unwrap();
        if self.udp {
            transport.extend(length.to_be_bytes());
            transport.extend([0, 0]);
        } else {
            transport.extend(self.sequence.to_be_bytes());
            transport.extend([1, 2, 3, 4]);
            transport.extend([u8::try_from(header / 4).unwrap() << 4, self.flags, 0x20, 0]);
            transport.extend([0, 0, 0, 0]);
            transport.extend((0..4 * self.options).map(|i| u8::try_from(i).unwrap()));
        }
        let protocol = if self.udp { 17 } else { 6 };
        let pseudo_header = if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0x12, 0x34, 0x56]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            let addresses: Vec<u8> = (0..32).collect();
            frame.extend(&addresses);
            [&addresses[..], &[0, protocol], &length.to_be_bytes()].concat()
        } else {
            let mut ip = vec![0x45, 3];
            ip.extend((20 + length).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, 64, protocol, 0, 0]);
            let addresses = [10, 32, 0, 1, 10, 44, 0, 9];
            ip.extend(addresses);
            let checksum = !slow_sum(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip);
            [&addresses[..], &[0, protocol], &length.to_be_bytes()].concat()
        };
        let offset = if self.udp { 6 } else { 16 };
        transport[offset..offset + 2].copy_from_slice(&slow_sum(&pseudo_header).to_be_bytes());
        let start = u16::try_from(frame.len()).unwrap();
        frame.extend(transport);
        frame.extend(&self.payload);
        let kind = match (self.udp, self.v6) {
            (true, _) => SegmentationKind::Udp,
            (false, true) => SegmentationKind::Tcp6,
            (false, false) => SegmentationKind::Tcp4,
        };
        SuperFrame {
            bytes: frame,
            checksum: ChecksumRequest { start, offset: u16::try_from(offset).unwrap() },
            segmentation: Segmentation { kind, size: self.size },
        }
    }
}

/// Writes all frames that segments stand for.
pub(crate) fn write_all(segments: &Segments<'_>) -> Vec<Vec<u8>> {
    (0..segments.count())
        .map(|index| {
            let mut slot = vec![0xee; segments.frame_len(index)];
            segments.write(index, &mut slot);
            slot
        })
        .collect()
}

/// Returns the internet checksum as RFC 1071 defines it, without the complement.
pub(crate) fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// The parts of a frame, found by the slow parser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dissected {
    /// Everything before the IP header.
    pub(crate) link: Vec<u8>,
    pub(crate) id: Option<u16>,
    pub(crate) sequence: Option<u32>,
    pub(crate) flags: Option<u8>,
    /// The remaining headers without lengths and checksums.
    pub(crate) rest: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// Parses a frame that has to be valid: lengths that agree and right checksums.
pub(crate) fn dissect(frame: &[u8]) -> Dissected {
    let mut network = 14;
    while matches!(frame[network - 2..network], [0x81, 0] | [0x88, 0xa8]) {
        network += 4;
    }
    let (link, ip) = frame.split_at(network);
    let (transport, protocol, addresses, id, mut rest);
    if link.ends_with(&[8, 0]) {
        let header = usize::from(ip[0] & 15) * 4;
        assert_eq!(usize::from(ip[2]) << 8 | usize::from(ip[3]), ip.len(), "total length");
        assert_eq!(slow_sum(&ip[..header]), 0xffff, "header checksum");
        (transport, protocol, addresses) = (&ip[header..], ip[9], &ip[12..20]);
        id = Some(u16::from_be_bytes([ip[4], ip[5]]));
        rest = [&ip[..2], &ip[6..10], &ip[12..header]].concat();
    } else {
        assert!(link.ends_with(&[0x86, 0xdd]));
        assert_eq!(usize::from(ip[4]) << 8 | usize::from(ip[5]), ip.len() - 40, "payload length");
        (transport, protocol, addresses) = (&ip[40..], ip[6], &ip[8..40]);
        id = None;
        rest = [&ip[..4], &ip[6..40]].concat();
    }
    let length = u16::try_from(transport.len()).unwrap().to_be_bytes();
    let summed = [addresses, &[0, protocol], &length, transport].concat();
    assert_eq!(slow_sum(&summed), 0xffff, "transport checksum");
    rest.extend(&transport[..4]);
    if protocol == 17 {
        assert_eq!(transport[4..6], length, "UDP length");
        assert_ne!(transport[6..8], [0, 0], "a checksum of zero means none");
        let (link, payload) = (link.to_vec(), transport[8..].to_vec());
        return Dissected { link, id, sequence: None, flags: None, rest, payload };
    }
    let header = usize::from(transport[12] >> 4) * 4;
    rest.extend([&transport[8..13], &transport[14..16], &transport[18..header]].concat());
    Dissected {
        link: link.to_vec(),
        id,
        sequence: Some(u32::from_be_bytes(*transport[4..].first_chunk().unwrap())),
        flags: Some(transport[13]),
        rest,
        payload: transport[header..].to_vec(),
    }
}
