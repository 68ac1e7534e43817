//! Frames and links for tests, including unit tests.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weave_core::mesh::{ConnectionId, ConnectionUid, LinkRequest, PeerName};
use weave_core::switch::{ChecksumRequest, Frame, Segmentation, SegmentationKind};
use weave_core::wire::Checksum;

/// Builds an Ethernet frame of a type that no part of the router parses.
pub fn frame(source: u8, destination: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, destination, 2, 0, 0, 0, 0, source, 0x88, 0xb5];
    frame.extend(payload);
    frame
}

/// Builds an IPv4 packet in an Ethernet frame.
pub fn ipv4(source: u8, destination: u8, dont_fragment: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(source, destination, &[]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let flags = if dont_fragment { 0x40 } else { 0 };
    frame.extend([0x45, 0, length[0], length[1], 0, 7, flags, 0, 64, 253, 0, 0]);
    frame.extend([10, 32, 0, source, 10, 32, 0, destination]);
    frame.extend(payload);
    frame
}

/// A TCP super-frame.
pub struct SuperFrame {
    pub bytes: Vec<u8>,
    pub checksum: ChecksumRequest,
    pub segmentation: Segmentation,
}

impl SuperFrame {
    pub fn frame(&self) -> Frame<'_> {
        let Self { bytes, checksum, segmentation } = self;
        Frame { bytes, checksum: Some(*checksum), segmentation: Some(*segmentation) }
    }
}

/// Builds a TCP super-frame from one station to another, with segments of 1324 bytes.
pub fn super_frame(source: u8, destination: u8, payload: &[u8]) -> SuperFrame {
    super_frame_of(source, destination, payload, 1324)
}

/// Builds a TCP super-frame with segments of `size` bytes of payload.
pub fn super_frame_of(source: u8, destination: u8, payload: &[u8], size: u16) -> SuperFrame {
    let length = u16::try_from(20 + payload.len()).unwrap();
    let mut tcp = vec![0, 80, 0x14, 0x51, 0, 0, 3, 232, 1, 2, 3, 4, 0x50, 0x10, 0x20, 0];
    // The sum of the pseudo-header, with the addresses of `ipv4`.
    let addresses = [10, 32, 0, source, 10, 32, 0, destination];
    let pseudo_header = [&addresses[..], &[0, 6], &length.to_be_bytes()].concat();
    tcp.extend((!Checksum::of(&pseudo_header)).to_be_bytes());
    tcp.extend([0, 0]);
    tcp.extend(payload);
    let mut bytes = ipv4(source, destination, true, &tcp);
    bytes[23] = 6;
    bytes[24..26].fill(0);
    let checksum = Checksum::of(&bytes[14..34]).to_be_bytes();
    bytes[24..26].copy_from_slice(&checksum);
    let segmentation = Segmentation { kind: SegmentationKind::Tcp4, size };
    SuperFrame { bytes, checksum: ChecksumRequest { start: 34, offset: 16 }, segmentation }
}

/// Returns the request for a plain link in the legacy format between peer 0xa1, which dialled, and
/// peer 0xa2, as seen by one of them.
pub fn link_request(outbound: bool, local: SocketAddr, remote: SocketAddr) -> LinkRequest {
    let [dialler, acceptor] = [0xa1, 0xa2].map(|number| PeerName::from_u64(number).unwrap());
    let (own, other) = if outbound { (dialler, acceptor) } else { (acceptor, dialler) };
    LinkRequest {
        id: ConnectionId(1),
        own,
        remote: other,
        connection_uid: ConnectionUid(7),
        outbound,
        local_address: local,
        remote_address: remote,
        session_key: None,
        overlays: None,
        remote_features: BTreeMap::new(),
    }
}
