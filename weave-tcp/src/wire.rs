//! What travels on the stream: a greeting each way, then records.
//!
//! ```text
//! greeting of the dialler    | 8 "weavetcp" | 1 version | 16 token | 16 salt |
//! greeting of the acceptor   | 8 "weavetcp" | 1 version | 16 salt |
//!
//! record                     | 4 length of the body | body |
//! body, sealed               | content | 16 tag |
//! content: keepalive         | 1 kind = 0 |
//! content: frame             | 1 kind = 1 | 6 source | 6 destination | 1 relays |
//!                            | 1 segmentation | 2 segment size | 2 checksum start | 2 offset | frame |
//! ```
//!
//! Integers are big-endian. The segmentation is that of virtio-net (virtio 1.2, section 5.1.6),
//! with 0xff in its place if the frame has no checksum to be computed either.

use weave_core::mesh::PeerName;
use weave_core::switch::{
    Arrival, ChecksumRequest, Envelope, Frame, Segmentation, SegmentationKind, virtio,
};

/// The first bytes on the stream.
const MAGIC: [u8; 8] = *b"weavetcp";
/// The version of all that follows.
const VERSION: u8 = 1;

/// Length of the token that a dialler shows.
pub const TOKEN_LEN: usize = 16;
/// Length of the random bytes that make the keys of a connection its own.
pub const SALT_LEN: usize = 16;
/// Length of the greeting of the dialler.
pub const DIALLER_GREETING_LEN: usize = MAGIC.len() + 1 + TOKEN_LEN + SALT_LEN;
/// Length of the greeting of the acceptor.
pub const ACCEPTOR_GREETING_LEN: usize = MAGIC.len() + 1 + SALT_LEN;
/// Length of the number that precedes a body.
pub const LENGTH_LEN: usize = 4;

const KIND_KEEPALIVE: u8 = 0;
const KIND_FRAME: u8 = 1;
/// Kind, source, destination, relays, offload.
const FRAME_HEADER_LEN: usize = 1 + 6 + 6 + 1 + 7;
/// An IP packet of 64 KiB with its Ethernet header and two VLAN tags.
const MAX_FRAME: usize = 65_535 + 14 + 8;
/// Room for the tag of a sealed body.
pub(crate) const TAG_LEN: usize = 16;
/// The longest body.
pub const MAX_BODY: usize = FRAME_HEADER_LEN + MAX_FRAME + TAG_LEN;

/// In place of the segmentation: the frame is complete as it is.
const COMPLETE: u8 = 0xff;
const NOT_SEGMENTED: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;

/// Proves that the neighbour told it over the mesh.
pub type Token = [u8; TOKEN_LEN];
/// Random bytes of one side for one TCP connection.
pub type Salt = [u8; SALT_LEN];

/// Bytes that no router of this kind sends. The connection ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The greeting begins with something else.
    #[error("the greeting is of another protocol")]
    Magic,
    /// The other side speaks another version.
    #[error("the greeting is of version {0}, not 1")]
    Version(u8),
    /// No body is that long, or that short.
    #[error("a record of {length} bytes: it has 1 to {MAX_BODY}")]
    Length {
        /// As the record says.
        length: usize,
    },
    /// The body was not sealed with the key, or not as the next one.
    #[error("a record does not open")]
    Sealed,
    /// There is no such kind of record.
    #[error("a record of unknown kind {0}")]
    Kind(u8),
    /// The header of a frame is cut off.
    #[error("a frame record of {length} bytes: its header has {FRAME_HEADER_LEN}")]
    FrameHeader {
        /// Length of the content.
        length: usize,
    },
    /// The offload does not fit the frame.
    #[error("offload of a frame: {0}")]
    Offload(#[from] virtio::HeaderError),
}

/// The greeting of the side that dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiallerGreeting {
    /// As the neighbour told it.
    pub token: Token,
    /// For the keys.
    pub salt: Salt,
}

impl DiallerGreeting {
    /// Returns the bytes on the wire.
    pub fn encode(&self) -> [u8; DIALLER_GREETING_LEN] {
        let mut bytes = [0; DIALLER_GREETING_LEN];
        let parts = MAGIC.into_iter().chain([VERSION]).chain(self.token).chain(self.salt);
        bytes.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Reads the bytes on the wire.
    ///
    /// # Errors
    /// Magic or version are wrong.
    pub fn decode(bytes: &[u8; DIALLER_GREETING_LEN]) -> Result<Self, StreamError> {
        let (token, salt) = check_preamble(bytes)?.split_at(TOKEN_LEN);
        Ok(Self { token: array(token), salt: array(salt) })
    }
}

/// The greeting of the side that was dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcceptorGreeting {
    /// For the keys.
    pub salt: Salt,
}

impl AcceptorGreeting {
    /// Returns the bytes on the wire.
    pub fn encode(&self) -> [u8; ACCEPTOR_GREETING_LEN] {
        let mut bytes = [0; ACCEPTOR_GREETING_LEN];
        let parts = MAGIC.into_iter().chain([VERSION]).chain(self.salt);
        bytes.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Reads the bytes on the wire.
    ///
    /// # Errors
    /// Magic or version are wrong.
    pub fn decode(bytes: &[u8; ACCEPTOR_GREETING_LEN]) -> Result<Self, StreamError> {
        Ok(Self { salt: array(check_preamble(bytes)?) })
    }
}

/// Returns what follows magic and version.
fn check_preamble(bytes: &[u8]) -> Result<&[u8], StreamError> {
    match bytes.strip_prefix(&MAGIC) {
        Some([VERSION, rest @ ..]) => Ok(rest),
        Some([version, ..]) => Err(StreamError::Version(*version)),
        _ => Err(StreamError::Magic),
    }
}

/// The first bytes of a slice; zeros for those it has not.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    array
}

/// Content of a record.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Says that the sender is there.
    Keepalive,
    /// A frame, and the peers it travels between.
    Frame {
        /// The peer that captured it.
        source: PeerName,
        /// The peer that is to inject it.
        destination: PeerName,
        /// How often it was relayed.
        relays: u8,
        /// The frame.
        frame: Frame<'a>,
    },
}

impl<'a> Content<'a> {
    /// The content for a frame that leaves.
    pub const fn of(envelope: &Envelope<'a>) -> Self {
        let Envelope { source, destination, relays, frame, .. } = *envelope;
        Self::Frame { source, destination, relays, frame }
    }

    /// Whether a record can hold it.
    pub const fn fits(&self) -> bool {
        match self {
            Self::Keepalive => true,
            Self::Frame { frame, .. } => frame.bytes.len() <= MAX_FRAME,
        }
    }

    /// Appends the content to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        let Self::Frame { source, destination, relays, frame } = self else {
            return buffer.push(KIND_KEEPALIVE);
        };
        buffer.push(KIND_FRAME);
        buffer.extend_from_slice(&source.to_bytes());
        buffer.extend_from_slice(&destination.to_bytes());
        buffer.push(*relays);
        buffer.extend_from_slice(&encode_offload(frame));
        buffer.extend_from_slice(frame.bytes);
    }

    /// Reads a content.
    ///
    /// # Errors
    /// No router sends it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, StreamError> {
        match bytes {
            [KIND_KEEPALIVE] => Ok(Self::Keepalive),
            [KIND_FRAME, ..] => Self::decode_frame(bytes),
            [KIND_KEEPALIVE, ..] | [] => Err(StreamError::Length { length: bytes.len() }),
            [kind, ..] => Err(StreamError::Kind(*kind)),
        }
    }

    fn decode_frame(bytes: &'a [u8]) -> Result<Self, StreamError> {
        let length = bytes.len();
        let (header, frame) =
            bytes.split_at_checked(FRAME_HEADER_LEN).ok_or(StreamError::FrameHeader { length })?;
        let (names, rest) = header[1..].split_at(12);
        let (source, destination) = names.split_at(6);
        let frame = decode_offload(&array(&rest[1..]), frame)?;
        Ok(Self::Frame {
            source: PeerName::from_bytes(array(source)),
            destination: PeerName::from_bytes(array(destination)),
            relays: rest[0],
            frame,
        })
    }

    /// The frame and its arrival from this neighbour.
    pub const fn arrival(&self, neighbour: PeerName) -> Option<(Arrival, Frame<'a>)> {
        match *self {
            Self::Keepalive => None,
            Self::Frame { source, destination, relays, frame } => {
                Some((Arrival { neighbour, source, destination, relays }, frame))
            }
        }
    }
}

fn encode_offload(frame: &Frame<'_>) -> [u8; 7] {
    let Some(ChecksumRequest { start, offset }) = frame.checksum else {
        return [COMPLETE, 0, 0, 0, 0, 0, 0];
    };
    let (kind, size) = match frame.segmentation {
        None => (NOT_SEGMENTED, 0),
        Some(Segmentation { kind, size }) => {
            let kind = match kind {
                SegmentationKind::Tcp4 => TCP4,
                SegmentationKind::Tcp6 => TCP6,
                SegmentationKind::Udp => UDP,
            };
            (kind, size)
        }
    };
    let [size, start, offset] = [size, start, offset].map(u16::to_be_bytes);
    [kind, size[0], size[1], start[0], start[1], offset[0], offset[1]]
}

/// Adds to a frame what is left to do with it. The checks are those for frames of devices.
fn decode_offload<'a>(offload: &[u8; 7], bytes: &'a [u8]) -> Result<Frame<'a>, StreamError> {
    let [kind, numbers @ ..] = *offload;
    let [a, b, c, d, e, f] = numbers;
    let [size, start, offset] = [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
    if kind == COMPLETE {
        return Ok(Frame::plain(bytes));
    }
    let segmentation = match kind {
        NOT_SEGMENTED => None,
        TCP4 => Some(SegmentationKind::Tcp4),
        TCP6 => Some(SegmentationKind::Tcp6),
        UDP => Some(SegmentationKind::Udp),
        kind => return Err(virtio::HeaderError::Segmentation { kind, size }.into()),
    };
    let frame = Frame {
        bytes,
        checksum: Some(ChecksumRequest { start, offset }),
        segmentation: segmentation.map(|kind| Segmentation { kind, size }),
    };
    virtio::decode(&virtio::encode(&frame), bytes.len())?;
    Ok(frame)
}

/// Reads the length of a body.
///
/// # Errors
/// No body has that length.
pub fn decode_length(bytes: [u8; LENGTH_LEN]) -> Result<usize, StreamError> {
    let length = usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX);
    if (1..=MAX_BODY).contains(&length) { Ok(length) } else { Err(StreamError::Length { length }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn greetings_come_back() {
        let greeting = DiallerGreeting { token: [3; 16], salt: [4; 16] };
        assert_eq!(DiallerGreeting::decode(&greeting.encode()), Ok(greeting));
        let greeting = AcceptorGreeting { salt: [5; 16] };
        assert_eq!(AcceptorGreeting::decode(&greeting.encode()), Ok(greeting));
    }

    #[test]
    fn other_greetings_are_refused() {
        let mut bytes = AcceptorGreeting { salt: [5; 16] }.encode();
        bytes[8] = 2;
        assert_eq!(AcceptorGreeting::decode(&bytes), Err(StreamError::Version(2)));
        bytes[0] = b'W';
        assert_eq!(AcceptorGreeting::decode(&bytes), Err(StreamError::Magic));
        let http = *b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n....";
        assert_eq!(DiallerGreeting::decode(&http), Err(StreamError::Magic));
    }

    #[test]
    fn bodies_have_bounds() {
        assert_eq!(decode_length([0, 0, 0, 0]), Err(StreamError::Length { length: 0 }));
        assert_eq!(decode_length([0, 0, 0, 1]), Ok(1));
        let most = u32::try_from(MAX_BODY).unwrap();
        assert_eq!(decode_length(most.to_be_bytes()), Ok(MAX_BODY));
        let error = StreamError::Length { length: MAX_BODY + 1 };
        assert_eq!(decode_length((most + 1).to_be_bytes()), Err(error));
    }

    #[test]
    fn damaged_contents_say_what_is_wrong() {
        let decode = |bytes: &[u8]| Content::decode(bytes).map(|_| ()).unwrap_err();
        assert_eq!(decode(&[]), StreamError::Length { length: 0 });
        assert_eq!(decode(&[0, 0]), StreamError::Length { length: 2 });
        assert_eq!(decode(&[2]), StreamError::Kind(2));
        assert_eq!(decode(&[1; 20]), StreamError::FrameHeader { length: 20 });
        // Segmentation 2 is unknown; a checksum lies outside of the frame.
        let mut frame = [0; FRAME_HEADER_LEN + 60];
        frame[0] = 1;
        frame[14] = 2;
        assert!(matches!(decode(&frame), StreamError::Offload(_)));
        frame[14] = 0;
        frame[18] = 59;
        assert!(matches!(decode(&frame), StreamError::Offload(_)));
    }

    proptest! {
        #[test]
        fn frames_come_back(
            bytes in proptest::collection::vec(any::<u8>(), 60..2000),
            names in any::<[[u8; 6]; 2]>(),
            relays: u8,
            marked: bool,
            kind in 0..4,
            size in 1_u16..,
        ) {
            let kind = match kind {
                0 => None,
                1 => Some(SegmentationKind::Tcp4),
                2 => Some(SegmentationKind::Tcp6),
                _ => Some(SegmentationKind::Udp),
            };
            let checksum = marked.then_some(ChecksumRequest { start: 34, offset: 16 });
            let segmentation =
                kind.filter(|_| marked).map(|kind| Segmentation { kind, size });
            let [source, destination] = names.map(PeerName::from_bytes);
            let frame = Frame { bytes: &bytes, checksum, segmentation };
            let mut encoded = Vec::new();
            Content::Frame { source, destination, relays, frame }.encode(&mut encoded);
            let neighbour = PeerName::from_bytes([2; 6]);
            let (arrival, read) = Content::decode(&encoded).unwrap().arrival(neighbour).unwrap();
            prop_assert_eq!(arrival, Arrival { neighbour, source, destination, relays });
            prop_assert_eq!(read.bytes, &bytes[..]);
            prop_assert_eq!((read.checksum, read.segmentation), (checksum, segmentation));
        }
    }
}
