//! The messages in datagrams from the kernel.

use netlink_packet_core::{
    NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer,
};
use nix::errno::Errno;

use crate::error::{DecodeError, TooLong};

/// Length of a netlink header, `nlmsghdr`.
pub const HEADER_LEN: usize = 16;

/// One message of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Sequence number of the request that the message answers; 0 in notifications.
    pub sequence: u32,
    /// Whether the message is part of a list that changed while it was read and may have gaps.
    pub interrupted: bool,
    /// Contents of the message.
    pub body: Body<'a>,
}

/// The contents of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body<'a> {
    /// The request was carried out.
    Acknowledged,
    /// The request was refused, or a list was cut short.
    Failed(Errno),
    /// The list is complete.
    Done,
    /// Messages were lost.
    Overrun,
    /// A message of the protocol.
    Entry {
        /// Type of the message, as numbered by the protocol; at least 16.
        kind: u16,
        /// Bytes behind the netlink header.
        payload: &'a [u8],
    },
    /// A message to be ignored.
    Noop,
}

/// An iterator over the messages of a datagram, in order. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Messages<'a> {
    /// Iterates over the messages of this datagram.
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram, offset: 0 }
    }

    fn decode(&mut self) -> Result<Message<'a>, DecodeError> {
        let Self { rest, offset } = std::mem::replace(self, Self::new(&[]));
        let short = |what, needed| DecodeError::Short { what, offset, needed, left: rest.len() };
        if rest.len() < HEADER_LEN {
            return Err(short("a netlink header", HEADER_LEN));
        }
        let buffer = NetlinkBuffer::new(rest);
        let length = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        let Some(payload) = rest.get(HEADER_LEN..length) else {
            return Err(short("a netlink message", length));
        };
        let next = length.next_multiple_of(NLMSG_ALIGNTO.into()).min(rest.len());
        let after = Self { rest: rest.get(next..).unwrap_or_default(), offset: offset + next };
        let code = |what| {
            let (offset, left) = (offset + HEADER_LEN, payload.len());
            let short = DecodeError::Short { what, offset, needed: 4, left };
            payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(short)
        };
        let body = match buffer.message_type() {
            NLMSG_NOOP => Body::Noop,
            NLMSG_OVERRUN => Body::Overrun,
            NLMSG_ERROR => match code("an error code")? {
                0 => Body::Acknowledged,
                code => Body::Failed(errno(code)),
            },
            // Old kernels end a list with an empty message; a positive number is a length.
            NLMSG_DONE => match code("the end of a list").unwrap_or(0) {
                0.. => Body::Done,
                code => Body::Failed(errno(code)),
            },
            kind => Body::Entry { kind, payload },
        };
        *self = after;
        Ok(Message {
            sequence: buffer.sequence_number(),
            interrupted: buffer.flags() & NLM_F_DUMP_INTR != 0,
            body,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.rest.is_empty()).then(|| self.decode())
    }
}

/// Writes the netlink header of a request into the first [`HEADER_LEN`] bytes of `message`, which
/// the caller has reserved for it.
///
/// # Errors
/// Fails if the request is longer than a message can be.
pub fn write_header(
    message: &mut [u8],
    kind: u16,
    flags: u16,
    sequence: u32,
) -> Result<(), TooLong> {
    debug_assert!(message.len() >= HEADER_LEN, "room for the header");
    let length = message.len();
    let mut header = NetlinkBuffer::new(message);
    header.set_length(u32::try_from(length).map_err(|_| TooLong { length })?);
    header.set_message_type(kind);
    header.set_flags(NLM_F_REQUEST | flags);
    header.set_sequence_number(sequence);
    Ok(())
}

/// Converts the error code of a message, which the kernel negates.
const fn errno(code: i32) -> Errno {
    Errno::from_raw(code.wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), [0; 4], 9_u32.to_ne_bytes(), [0; 4]].concat();
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_datagram_has_several_messages() {
        let datagram = [
            message(32, NLM_F_DUMP_INTR, &[0xaa]),
            message(NLMSG_NOOP, 0, &[]),
            message(NLMSG_ERROR, 0, &(-19_i32).to_ne_bytes()),
            message(NLMSG_ERROR, 0, &[0; 20]),
            message(NLMSG_DONE, 0, &(-4_i32).to_ne_bytes()),
            message(NLMSG_DONE, 0, &[]),
            message(NLMSG_OVERRUN, 0, &[]),
        ]
        .concat();
        let messages: Vec<_> = Messages::new(&datagram).map(Result::unwrap).collect();
        let bodies: Vec<_> = messages.iter().map(|message| message.body).collect();
        assert_eq!(
            bodies,
            [
                Body::Entry { kind: 32, payload: &[0xaa] },
                Body::Noop,
                Body::Failed(Errno::ENODEV),
                Body::Acknowledged,
                Body::Failed(Errno::EINTR),
                Body::Done,
                Body::Overrun
            ]
        );
        assert!(messages.iter().all(|message| message.sequence == 9));
        assert!(messages[0].interrupted && !messages[1].interrupted);
    }

    #[test]
    fn errors_name_the_part_and_its_offset() {
        let error = |tail: &[u8]| {
            let datagram = [&message(NLMSG_NOOP, 0, &[])[..], tail].concat();
            let mut messages = Messages::new(&datagram).skip(1);
            let error = messages.next().unwrap().unwrap_err().to_string();
            assert!(messages.next().is_none());
            error
        };
        let none = "a netlink header at offset 16 needs 16 bytes, but 3 are left";
        assert_eq!(error(&[1, 2, 3]), none);
        let mut long = message(32, 0, &[0; 4]);
        long[0] += 4;
        let expected = "a netlink message at offset 16 needs 24 bytes, but 20 are left";
        assert_eq!(error(&long), expected);
        let mut short = message(32, 0, &[0; 4]);
        short[0] = 15;
        assert!(error(&short).starts_with("a netlink message at offset 16 needs 15 bytes"));
        let expected = "an error code at offset 32 needs 4 bytes, but 3 are left";
        let followed = [message(NLMSG_ERROR, 0, &[0; 3]), message(NLMSG_NOOP, 0, &[])].concat();
        assert_eq!(error(&followed), expected);
    }
}
