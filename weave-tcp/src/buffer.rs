//! What was read from a socket and is not complete yet.

use std::io::{self, Read as _};

use mio::net::TcpStream;

use crate::wire::{LENGTH_LEN, MAX_BODY, StreamError, decode_length};

/// Room for records: the longest one, and what came with it.
const BUFFER_LEN: usize = 2 * (LENGTH_LEN + MAX_BODY);

/// A greeting of which some bytes are there.
pub(crate) struct Greeting<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

/// Records of which the last one may not be complete.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A record as it was read.
pub(crate) struct Record<'a> {
    /// The number before the body, which is sealed with it.
    pub(crate) length: [u8; LENGTH_LEN],
    pub(crate) body: &'a mut [u8],
}

impl<const N: usize> Greeting<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    pub(crate) fn fill(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        let count = socket.read(&mut self.bytes[self.filled..])?;
        self.filled += count;
        Ok(count)
    }

    pub(crate) fn complete(&self) -> Option<&[u8; N]> {
        (self.filled == N).then_some(&self.bytes)
    }
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BUFFER_LEN].into(), start: 0, end: 0 }
    }

    pub(crate) fn fill(&mut self, mut socket: &TcpStream) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = socket.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Returns the next record that is complete.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record<'_>>, StreamError> {
        let unread = &self.bytes[self.start..self.end];
        let Some(length) = unread.first_chunk::<LENGTH_LEN>().copied() else { return Ok(None) };
        let end = LENGTH_LEN + decode_length(length)?;
        if unread.len() < end {
            return Ok(None);
        }
        let body = self.start + LENGTH_LEN..self.start + end;
        self.start = body.end;
        Ok(Some(Record { length, body: &mut self.bytes[body] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_wherever_reads_end() {
        let record = |content: &[u8]| {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            [&length[..], content].concat()
        };
        let stream = [record(b"first"), record(&[7; 300]), record(b"x")].concat();
        for at_once in 1..stream.len() {
            let mut buffer = Buffer::new();
            let mut found = Vec::new();
            for part in stream.chunks(at_once) {
                buffer.bytes[buffer.end..buffer.end + part.len()].copy_from_slice(part);
                buffer.end += part.len();
                while let Some(Record { body, .. }) = buffer.next_record().unwrap() {
                    found.push(body.to_vec());
                }
            }
            assert_eq!(found, [b"first".to_vec(), vec![7; 300], b"x".to_vec()], "{at_once}");
        }
    }
}
