//! Messages on a connection: framing, and sealing if there is a password (spec mesh.md,
//! sections 4.3 and 4.4).
//!
//! ```text
//!   | length: 4 bytes | message |                       without a password
//!   | length: 4 bytes | tag: 16 bytes | ciphertext |    with one
//!
//!   nonce, 24 bytes:
//!   | flags | 0 x 15 | number of the message in its direction: 8 bytes |
//!     0x80: its sender is the side that dialled; 0x40: always
//! ```
//!
//! Integers are big-endian. The length does not count itself.

use bytes::{Bytes, BytesMut};
use weave_secretbox::{NONCE_LEN, TAG_LEN, open_in_place, seal_in_place};

use super::{Message, SessionKey};

/// No message, sealed or not, is longer (spec mesh.md, section 4.3).
pub const MAX_MESSAGE_LEN: usize = 10 << 20;

const LENGTH_LEN: usize = 4;

/// Why a connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer announces a message that is longer than routers send.
    #[error("a message of {length} bytes, where at most {limit} are allowed")]
    TooLong {
        /// What it announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A message was changed on the way, or is not from the peer.
    #[error("message {number} does not open: its seal is broken")]
    BrokenSeal {
        /// How many messages came before it in this direction.
        number: u64,
    },
}

/// A message that is longer than peers accept. It was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of {0} bytes is too long to send")]
pub struct TooLongToSend(pub usize);

/// A connection after its handshake: makes frames of messages and messages of frames.
///
/// The input goes to [`Self::handle_bytes`]; then [`Self::poll_message`] until there is no more.
/// The handshake may have left input behind, so poll once before the first.
#[derive(Debug)]
pub struct Session {
    sender: FrameSender,
    receiver: FrameReceiver,
}

impl Session {
    pub(super) const fn new(sender: FrameSender, receiver: FrameReceiver) -> Self {
        Self { sender, receiver }
    }

    /// The frame for a message. Frames must be sent in the order in which they were made.
    ///
    /// # Errors
    /// When the message is too long for the peer; later ones can still be sent.
    pub fn seal(&mut self, message: &Message<'_>) -> Result<Bytes, TooLongToSend> {
        let (tag, payload) = message.parts();
        self.sender.frame(&[&[tag], payload])
    }

    /// Takes bytes as they come from the connection, cut anywhere.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.receiver.handle_bytes(bytes);
    }

    /// The next message that is complete, tag byte first. It can be empty.
    ///
    /// # Errors
    /// The connection must be closed; nothing that follows makes sense.
    pub fn poll_message(&mut self) -> Result<Option<Bytes>, SessionError> {
        self.receiver.poll_message()
    }

    /// Whether [`Self::poll_message`] has something to return.
    pub fn has_message(&self) -> bool {
        self.receiver.has_message()
    }

    /// How many bytes are waiting to be polled, or for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.receiver.buffer.len()
    }
}

/// Key and message number of one direction.
#[derive(Debug)]
struct Cipher {
    key: SessionKey,
    from_dialler: bool,
    number: u64,
}

impl Cipher {
    /// The nonce of the next message.
    fn next_nonce(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[0] = if self.from_dialler { 0xC0 } else { 0x40 };
        nonce[16..].copy_from_slice(&self.number.to_be_bytes());
        // At a message a nanosecond this takes 584 years to come round.
        self.number = self.number.wrapping_add(1);
        nonce
    }
}

/// The sending direction.
#[derive(Debug)]
pub(super) struct FrameSender {
    cipher: Option<Cipher>,
}

impl FrameSender {
    /// The direction away from this side, which dialled if `outbound`.
    pub fn new(key: Option<SessionKey>, outbound: bool) -> Self {
        Self { cipher: key.map(|key| Cipher { key, from_dialler: outbound, number: 0 }) }
    }

    /// The frame for the message that consists of these parts.
    pub fn frame(&mut self, parts: &[&[u8]]) -> Result<Bytes, TooLongToSend> {
        let tag_len = if self.cipher.is_some() { TAG_LEN } else { 0 };
        let len = tag_len + parts.iter().map(|part| part.len()).sum::<usize>();
        let prefix = u32::try_from(len)
            .ok()
            .filter(|_| len <= MAX_MESSAGE_LEN)
            .ok_or(TooLongToSend(len))?
            .to_be_bytes();

        let mut frame = BytesMut::with_capacity(LENGTH_LEN + len);
        frame.extend_from_slice(&prefix);
        frame.extend_from_slice(&[0; TAG_LEN][..tag_len]);
        for part in parts {
            frame.extend_from_slice(part);
        }
        if let Some(cipher) = &mut self.cipher {
            let nonce = cipher.next_nonce();
            let (tag, text) = frame[LENGTH_LEN..].split_at_mut(TAG_LEN);
            tag.copy_from_slice(&seal_in_place(&cipher.key.0, &nonce, text));
        }
        Ok(frame.freeze())
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(super) struct FrameReceiver {
    cipher: Option<Cipher>,
    /// What came and is not yet a complete frame. Grows with what comes, never by what is
    /// announced.
    buffer: BytesMut,
    limit: usize,
}

impl FrameReceiver {
    /// The direction towards this side, which dialled if `outbound`, with messages of at most
    /// `limit` bytes. `buffer` is what came already.
    pub fn new(key: Option<SessionKey>, outbound: bool, limit: usize, buffer: BytesMut) -> Self {
        let cipher = key.map(|key| Cipher { key, from_dialler: !outbound, number: 0 });
        Self { cipher, buffer, limit }
    }

    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub fn has_message(&self) -> bool {
        self.buffer.first_chunk::<LENGTH_LEN>().is_some_and(|prefix| {
            let length = u32::from_be_bytes(*prefix) as usize;
            length > self.limit || self.buffer.len() - LENGTH_LEN >= length
        })
    }

    pub fn poll_message(&mut self) -> Result<Option<Bytes>, SessionError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let limit = self.limit;
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > limit {
            return Err(SessionError::TooLong { length, limit });
        }
        if self.buffer.len() - LENGTH_LEN < length {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(LENGTH_LEN + length).split_off(LENGTH_LEN);
        if self.buffer.is_empty() {
            // One long message must not keep its memory for the life of the connection.
            self.buffer = BytesMut::new();
        }
        if let Some(cipher) = &mut self.cipher {
            let number = cipher.number;
            let broken = SessionError::BrokenSeal { number };
            let nonce = cipher.next_nonce();
            let (tag, text) = message.split_first_chunk_mut::<TAG_LEN>().ok_or(broken)?;
            open_in_place(&cipher.key.0, &nonce, tag, text).map_err(|_| broken)?;
            message = message.split_off(TAG_LEN);
        }
        Ok(Some(message.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(key: Option<SessionKey>) -> [Session; 2] {
        [true, false].map(|outbound| {
            let receiver =
                FrameReceiver::new(key.clone(), outbound, MAX_MESSAGE_LEN, BytesMut::new());
            Session::new(FrameSender::new(key.clone(), outbound), receiver)
        })
    }

    #[test]
    fn the_longest_message_passes_and_a_longer_one_does_not() {
        let [mut ours, mut theirs] = pair(None);
        let payload = vec![7; MAX_MESSAGE_LEN];
        let longest = Message::Gossip(&payload[1..]);
        theirs.handle_bytes(&ours.seal(&longest).unwrap());
        assert_eq!(theirs.poll_message().unwrap().unwrap().len(), MAX_MESSAGE_LEN);
        let too_long = ours.seal(&Message::Gossip(&payload));
        assert_eq!(too_long, Err(TooLongToSend(MAX_MESSAGE_LEN + 1)));

        theirs.handle_bytes(&[0x00, 0xa0, 0x00, 0x01]);
        let error = SessionError::TooLong { length: MAX_MESSAGE_LEN + 1, limit: MAX_MESSAGE_LEN };
        assert_eq!(theirs.poll_message(), Err(error));
    }

    #[test]
    fn a_long_message_leaves_no_memory_behind() {
        let [mut ours, mut theirs] = pair(None);
        theirs.handle_bytes(&ours.seal(&Message::Gossip(&[7; 1 << 20])).unwrap());
        assert!(theirs.receiver.buffer.capacity() > 1 << 20);
        assert!(theirs.poll_message().unwrap().is_some());
        assert_eq!(theirs.receiver.buffer.capacity(), 0);
    }

    #[test]
    fn a_long_message_is_refused_before_it_comes() {
        let [mut session, _] = pair(Some(SessionKey([1; 32])));
        session.handle_bytes(&[0xff; 4]);
        let error = SessionError::TooLong { length: 0xffff_ffff, limit: MAX_MESSAGE_LEN };
        assert_eq!(session.poll_message(), Err(error));
    }

    #[test]
    fn messages_cannot_be_replayed_reordered_or_reflected() {
        let broken = |number| Err(SessionError::BrokenSeal { number });
        let key = Some(SessionKey([1; 32]));
        let [mut ours, mut theirs] = pair(key.clone());
        let first = ours.seal(&Message::Heartbeat).unwrap();
        let second = ours.seal(&Message::Heartbeat).unwrap();

        theirs.handle_bytes(&first);
        assert_eq!(theirs.poll_message(), Ok(Some(Bytes::from_static(&[0]))));
        theirs.handle_bytes(&first);
        assert_eq!(theirs.poll_message(), broken(1), "replayed");
        let [_, mut theirs] = pair(key.clone());
        theirs.handle_bytes(&second);
        assert_eq!(theirs.poll_message(), broken(0), "reordered");
        let [mut sender, _] = pair(key);
        sender.handle_bytes(&first);
        assert_eq!(sender.poll_message(), broken(0), "reflected");
    }

    #[test]
    fn a_sealed_message_shorter_than_a_tag_does_not_open() {
        let [mut session, _] = pair(Some(SessionKey([1; 32])));
        session.handle_bytes(&[0, 0, 0, 3, 1, 2, 3]);
        assert_eq!(session.poll_message(), Err(SessionError::BrokenSeal { number: 0 }));
    }

    proptest! {
        #[test]
        fn messages_survive_whatever_the_cuts(
            payloads in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..200), 0..10),
            cuts in proptest::collection::vec(1usize..100, 1..20),
            sealed: bool,
        ) {
            let key = sealed.then_some(SessionKey([9; 32]));
            let [mut ours, mut theirs] = pair(key);
            let mut stream = Vec::new();
            for payload in &payloads {
                stream.extend_from_slice(&ours.seal(&Message::Broadcast(payload)).unwrap());
            }
            let mut received = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at(rest.len().min(*cut));
                theirs.handle_bytes(chunk);
                while let Some(message) = theirs.poll_message().unwrap() {
                    received.push(message);
                }
                rest = tail;
            }
            prop_assert_eq!(received.len(), payloads.len());
            for (message, payload) in received.iter().zip(&payloads) {
                prop_assert_eq!(Message::decode(message), Some(Message::Broadcast(payload)));
            }
            prop_assert_eq!(theirs.buffered(), 0);
        }
    }
}
