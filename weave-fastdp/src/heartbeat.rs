//! Special frames, by which neighbours find out which frames get through (spec fastdp.md,
//! section 7).
//!
//! ```text
//! 0                14           22        24
//! ┌────────────────┬────────────┬─────────┬──────────────┐
//! │ Ethernet: zero │ connection │ length  │ zeros ...    │     big-endian
//! └────────────────┴────────────┴─────────┴──────────────┘
//! ```
//!
//! A *heartbeat* is as long as the longest frame and states its length, so that it arrives only
//! over a path that carries such frames. A *probe* ends after the length, which is zero. Weave Net
//! takes a short frame for a heartbeat if its stated length is right; that of a probe is wrong, and
//! probes are only sent to routers of this kind.

use weave_core::mesh::ConnectionUid;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Length of a probe, and of the header of a heartbeat.
pub const HEADER_LEN: usize = 24;

/// The kind of a special frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// A frame of full size.
    Heartbeat,
    /// A frame of the smallest size.
    Probe,
}

/// Reasons why a frame is not a special frame of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// The frame ends within the header.
    #[error("{length} bytes are too short for a heartbeat")]
    TooShort {
        /// Length of the frame.
        length: usize,
    },
    /// The first fourteen bytes are not all zero.
    #[error("an Ethernet header instead of zeros")]
    Header,
    /// The frame is of another connection, often of the one before.
    #[error("connection {found:016x} instead of {expected:016x}")]
    Connection {
        /// Number of this connection.
        expected: u64,
        /// Number in the frame.
        found: u64,
    },
    /// The frame was truncated on its way, or its sender is wrong.
    #[error("{actual} bytes with a stated length of {stated}")]
    Length {
        /// Length stated in the frame.
        stated: u16,
        /// Length of the frame.
        actual: usize,
    },
}

/// Returns the length of a heartbeat for frames with IP packets of `mtu` bytes.
pub fn length(mtu: usize) -> u16 {
    u16::try_from(ETHERNET + mtu).unwrap_or(u16::MAX)
}

/// Replaces the contents of `frame` with a heartbeat of this length, which is at least that of the
/// header.
pub fn heartbeat(connection: ConnectionUid, length: u16, frame: &mut Vec<u8>) {
    header(connection, length, frame);
    frame.resize(usize::from(length).max(HEADER_LEN), 0);
}

/// Replaces the contents of `frame` with a probe.
pub fn probe(connection: ConnectionUid, frame: &mut Vec<u8>) {
    header(connection, 0, frame);
}

fn header(connection: ConnectionUid, length: u16, frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend([0; ETHERNET]);
    frame.extend(connection.0.to_be_bytes());
    frame.extend(length.to_be_bytes());
}

/// Decodes a special frame of this connection.
///
/// # Errors
/// Fails if the frame is not a special frame, or if it is of another connection.
pub fn decode(frame: &[u8], connection: ConnectionUid) -> Result<Special, HeartbeatError> {
    let Some((header, _)) = frame.split_first_chunk::<HEADER_LEN>() else {
        return Err(HeartbeatError::TooShort { length: frame.len() });
    };
    let [ethernet @ .., u0, u1, u2, u3, u4, u5, u6, u7, l0, l1] = *header;
    if ethernet != [0; ETHERNET] {
        return Err(HeartbeatError::Header);
    }
    let found = u64::from_be_bytes([u0, u1, u2, u3, u4, u5, u6, u7]);
    if found != connection.0 {
        return Err(HeartbeatError::Connection { expected: connection.0, found });
    }
    match (u16::from_be_bytes([l0, l1]), frame.len()) {
        (0, HEADER_LEN) => Ok(Special::Probe),
        (stated, actual) if usize::from(stated) == actual => Ok(Special::Heartbeat),
        (stated, actual) => Err(HeartbeatError::Length { stated, actual }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use weave_core::switch::Addresses;

    use super::*;

    const CONNECTION: ConnectionUid = ConnectionUid(0x0102_0304_0506_0708);

    #[test]
    fn the_bytes_of_the_specification() {
        let mut frame = vec![9; 3];
        heartbeat(CONNECTION, length(1376), &mut frame);
        assert_eq!(frame.len(), 1390);
        assert_eq!(frame[..26], [&[0; 14][..], &[1, 2, 3, 4, 5, 6, 7, 8, 5, 0x6e, 0, 0]].concat());
        assert!(Addresses::of(&frame).is_some_and(Addresses::is_special));
        assert_eq!(decode(&frame, CONNECTION), Ok(Special::Heartbeat));
        probe(CONNECTION, &mut frame);
        assert_eq!(frame.len(), HEADER_LEN);
        assert_eq!(decode(&frame, CONNECTION), Ok(Special::Probe));
    }

    #[test]
    fn damaged_and_foreign_frames_are_refused() {
        let mut frame = Vec::new();
        heartbeat(CONNECTION, 100, &mut frame);
        let error = |frame: &[u8]| decode(frame, CONNECTION).unwrap_err();
        assert_eq!(error(&frame[..23]), HeartbeatError::TooShort { length: 23 });
        assert_eq!(error(&frame[..99]), HeartbeatError::Length { stated: 100, actual: 99 });
        frame[12] = 8;
        assert_eq!(error(&frame), HeartbeatError::Header);
        heartbeat(ConnectionUid(7), 100, &mut frame);
        let expected = CONNECTION.0;
        assert_eq!(error(&frame), HeartbeatError::Connection { expected, found: 7 });
        frame.resize(30, 0);
        probe(CONNECTION, &mut frame);
        frame.push(0);
        assert_eq!(error(&frame), HeartbeatError::Length { stated: 0, actual: 25 });
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(frame in proptest::collection::vec(any::<u8>(), 0..64), uid: u64) {
            let decoded = decode(&frame, ConnectionUid(uid));
            let special = Addresses::of(&frame).is_some_and(Addresses::is_special);
            prop_assert!(decoded.is_err() || special);
        }
    }
}
