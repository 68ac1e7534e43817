//! A frame on its way through the switch.

/// An Ethernet frame without FCS, with what the device that captured it left undone.
///
/// Without offload marks it is an ordinary frame. With them it is a super-frame: one header
/// and the payload of many segments, or a frame whose checksum is still to be filled in.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Destination address, source address, type, payload.
    pub bytes: &'a [u8],
    /// A transport checksum that still has to be computed.
    pub checksum: Option<ChecksumRequest>,
    /// How to cut the payload; only together with `checksum`.
    pub segmentation: Option<Segmentation>,
}

impl<'a> Frame<'a> {
    /// A frame that is complete as it is.
    pub const fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, checksum: None, segmentation: None }
    }
}

/// Sum the bytes from `start` to the end of the frame and store the complement at
/// `start + offset`, which holds the pseudo-header sum (virtio 1.2, section 5.1.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChecksumRequest {
    /// First byte that is summed, counted from the start of the frame.
    pub start: u16,
    /// Place of the 16-bit checksum, counted from `start`.
    pub offset: u16,
}

/// How a super-frame is to be cut (virtio 1.2, section 5.1.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segmentation {
    /// What the payload is.
    pub kind: SegmentationKind,
    /// Payload bytes per segment; the last may be shorter.
    pub size: u16,
}

/// The protocols whose segmentation a device can leave to the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentationKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams of equal size, over IPv4 or IPv6.
    Udp,
}
