//! One direction of a connection without a password, cut into what it consists of.

use bytes::Bytes;

/// "weave" and two versions.
const HEADER_LEN: usize = 7;
/// That nothing is sealed. Said once the header of the other side is there.
const FLAG_LEN: usize = 1;
const LENGTH_LEN: usize = 4;

/// Puts pieces together from chunks that are cut anywhere.
#[derive(Default)]
pub struct Framing {
    buffer: Vec<u8>,
    step: Step,
}

#[derive(Clone, Copy, Default)]
enum Step {
    #[default]
    Header,
    Flag,
    Features,
    Messages,
}

/// One piece of a direction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// What comes before the first message.
    Prefix(Vec<u8>),
    /// The first message.
    Features(Vec<u8>),
    /// Another message.
    Message(Vec<u8>),
}

impl Framing {
    /// Takes a chunk; gives back the pieces that are complete.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Piece> {
        self.buffer.extend_from_slice(chunk);
        let mut pieces = Vec::new();
        while let Some(piece) = self.next() {
            pieces.push(piece);
        }
        pieces
    }

    fn next(&mut self) -> Option<Piece> {
        let prefix = match self.step {
            Step::Header => Some((HEADER_LEN, Step::Flag)),
            Step::Flag => Some((FLAG_LEN, Step::Features)),
            Step::Features | Step::Messages => None,
        };
        if let Some((len, then)) = prefix {
            let prefix = self.take(len, 0)?;
            self.step = then;
            return Some(Piece::Prefix(prefix));
        }
        let length: [u8; LENGTH_LEN] = self.buffer.get(..LENGTH_LEN)?.try_into().ok()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let message = self.take(length, LENGTH_LEN)?;
        Some(match std::mem::replace(&mut self.step, Step::Messages) {
            Step::Features => Piece::Features(message),
            _ => Piece::Message(message),
        })
    }

    fn take(&mut self, length: usize, skip: usize) -> Option<Vec<u8>> {
        let end = skip.checked_add(length)?;
        let taken = self.buffer.get(skip..end)?.to_vec();
        self.buffer.drain(..end);
        Some(taken)
    }
}

impl Piece {
    /// The bytes on the wire.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Prefix(bytes) => Bytes::copy_from_slice(bytes),
            Self::Features(message) | Self::Message(message) => frame(message),
        }
    }
}

/// A message with its length.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], message].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_whatever_the_cuts() {
        let pieces = [
            Piece::Prefix(b"weave\x02\x02".to_vec()),
            Piece::Prefix(vec![0]),
            Piece::Features(vec![1, 2, 3]),
            Piece::Message(vec![]),
            Piece::Message(vec![4]),
        ];
        let stream: Vec<u8> = pieces.iter().flat_map(Piece::encode).collect();
        for size in 1..stream.len() {
            let mut framing = Framing::default();
            let found: Vec<Piece> = stream.chunks(size).flat_map(|c| framing.push(c)).collect();
            assert_eq!(found, pieces);
        }
    }
}
