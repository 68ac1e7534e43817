//! Special frames, by which neighbours find out what gets through (spec fastdp.md, section 7).
//!
//! ```text
//! 0                14           22        24
//! ┌────────────────┬────────────┬─────────┬──────────────┐
//! │ Ethernet: zero │ connection │ length  │ zeros ...    │     big-endian
//! └────────────────┴────────────┴─────────┴──────────────┘
//! ```
//!
//! A *heartbeat* is as long as the longest frame, and says so: what cannot carry it carries no
//! heartbeat. A *probe* ends after the length, which is zero: Weave Net takes a short frame for a
//! heartbeat if its length is true, so this one is not, and it is sent to routers like this one
//! alone.

use weave_core::mesh::ConnectionUid;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Length of a probe, and of what a heartbeat says.
pub const HEADER_LEN: usize = 24;

/// What arrived in place of an Ethernet frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// A frame of full size.
    Heartbeat,
    /// One of the smallest size.
    Probe,
}

/// Not a special frame of this connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// It ends within the header.
    #[error("{length} bytes are too short for a heartbeat")]
    TooShort {
        /// What there is.
        length: usize,
    },
    /// The first fourteen bytes are not all zero.
    #[error("an Ethernet header in place of zeros")]
    Header,
    /// It is of another connection, often the one before.
    #[error("connection {found:016x} in place of {expected:016x}")]
    Connection {
        /// That of this link.
        expected: u64,
        /// As the frame says.
        found: u64,
    },
    /// It has lost its end on the way, or its sender is mistaken.
    #[error("{actual} bytes that say they are {told}")]
    Length {
        /// As the frame says.
        told: u16,
        /// What there is.
        actual: usize,
    },
}

/// Whether this is a special frame rather than one of a station: both addresses are zero.
pub fn is_special(frame: &[u8]) -> bool {
    frame.get(..12).is_some_and(|addresses| addresses.iter().all(|byte| *byte == 0))
}

/// The length of a heartbeat for frames with IP packets of `mtu` bytes.
pub fn length(mtu: usize) -> u16 {
    u16::try_from(ETHERNET + mtu).unwrap_or(u16::MAX)
}

/// Writes a heartbeat of that length, or of the header if that is longer, in place of what is in
/// `frame`.
pub fn heartbeat(connection: ConnectionUid, length: u16, frame: &mut Vec<u8>) {
    header(connection, length, frame);
    frame.resize(usize::from(length).max(HEADER_LEN), 0);
}

/// Writes a probe in place of what is in `frame`.
pub fn probe(connection: ConnectionUid, frame: &mut Vec<u8>) {
    header(connection, 0, frame);
}

fn header(connection: ConnectionUid, length: u16, frame: &mut Vec<u8>) {
    frame.clear();
    frame.extend([0; ETHERNET]);
    frame.extend(connection.0.to_be_bytes());
    frame.extend(length.to_be_bytes());
}

/// What a received special frame is.
///
/// # Errors
/// It is none, or not for this connection.
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
        (told, actual) if usize::from(told) == actual => Ok(Special::Heartbeat),
        (told, actual) => Err(HeartbeatError::Length { told, actual }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONNECTION: ConnectionUid = ConnectionUid(0x0102_0304_0506_0708);

    #[test]
    fn the_bytes_of_the_specification() {
        let mut frame = vec![9; 3];
        heartbeat(CONNECTION, length(1376), &mut frame);
        assert_eq!(frame.len(), 1390);
        assert_eq!(frame[..26], [&[0; 14][..], &[1, 2, 3, 4, 5, 6, 7, 8, 5, 0x6e, 0, 0]].concat());
        assert!(is_special(&frame) && !is_special(&[0; 11]));
        assert_eq!(decode(&frame, CONNECTION), Ok(Special::Heartbeat));
        probe(CONNECTION, &mut frame);
        assert_eq!(frame.len(), HEADER_LEN);
        assert_eq!(decode(&frame, CONNECTION), Ok(Special::Probe));
    }

    #[test]
    fn what_is_damaged_or_foreign_is_refused() {
        let mut frame = Vec::new();
        heartbeat(CONNECTION, 100, &mut frame);
        let error = |frame: &[u8]| decode(frame, CONNECTION).unwrap_err();
        assert_eq!(error(&frame[..23]), HeartbeatError::TooShort { length: 23 });
        assert_eq!(error(&frame[..99]), HeartbeatError::Length { told: 100, actual: 99 });
        frame[12] = 8;
        assert_eq!(error(&frame), HeartbeatError::Header);
        heartbeat(ConnectionUid(7), 100, &mut frame);
        let expected = CONNECTION.0;
        assert_eq!(error(&frame), HeartbeatError::Connection { expected, found: 7 });
        frame.resize(30, 0);
        probe(CONNECTION, &mut frame);
        frame.push(0);
        assert_eq!(error(&frame), HeartbeatError::Length { told: 0, actual: 25 });
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(frame in proptest::collection::vec(any::<u8>(), 0..64), uid: u64) {
            let decoded = decode(&frame, ConnectionUid(uid));
            prop_assert!(decoded.is_err() || is_special(&frame));
        }
    }
}
