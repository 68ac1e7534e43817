//! One TCP connection and what waits to be written to it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::ready::Ticket;

/// Pieces written in one system call.
const PIECES: usize = 16;

/// Shorter pieces are joined, up to [`JOINED`] bytes: each piece by itself takes some hundred bytes
/// of memory, and many are six bytes long.
const SHORT: usize = 4 << 10;
const JOINED: usize = 16 << 10;

pub(super) struct Connection {
    stream: TcpStream,
    waker: Waker,
    unsent: VecDeque<Bytes>,
    /// Short pieces that come after those.
    tail: BytesMut,
}

/// What became of an attempt to read or write.
pub(super) enum Progress {
    /// So many bytes.
    Done(usize),
    /// None now; the connection will be queued when there is more to do.
    Later,
    /// None any more.
    Ended(String),
}

impl Connection {
    /// Takes over a stream, and sets the options that every connection has (spec mesh.md,
    /// section 2).
    pub(super) fn new(stream: TcpStream, ticket: &Arc<Ticket>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        // Close with a reset: the neighbour notices at once, and no port stays in TIME_WAIT.
        stream.set_zero_linger()?;
        Ok(Self { stream, waker: ticket.waker(), unsent: VecDeque::new(), tail: BytesMut::new() })
    }

    /// For the options of the socket.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Puts the connection into the queue of those that are served.
    pub(super) fn queue(&self) {
        self.waker.wake_by_ref();
    }

    /// Reads once, as much as there is room for.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        let mut context = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => Progress::Later,
            Poll::Ready(Err(error)) => Progress::Ended(error.to_string()),
            Poll::Ready(Ok(())) => match buffer.filled().len() {
                0 => Progress::Ended("closed by the other side".to_owned()),
                length => Progress::Done(length),
            },
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SHORT {
            if self.tail.len() + bytes.len() > JOINED {
                self.finish_tail();
            }
            self.tail.extend_from_slice(&bytes);
        } else {
            self.finish_tail();
            self.unsent.push_back(bytes);
        }
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            self.unsent.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Writes once, as much as the kernel takes.
    pub(super) fn write(&mut self) -> Progress {
        if self.unsent.is_empty() {
            self.finish_tail();
        }
        if self.unsent.is_empty() {
            // Give the memory of a long queue back.
            self.unsent.shrink_to(PIECES);
            return Progress::Later;
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for (piece, bytes) in pieces.iter_mut().zip(&self.unsent) {
            *piece = IoSlice::new(bytes);
            count += 1;
        }
        let pieces = pieces.get(..count).unwrap_or_default();
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_write_vectored(&mut context, pieces) {
            Poll::Pending => Progress::Later,
            Poll::Ready(Err(error)) => Progress::Ended(error.to_string()),
            Poll::Ready(Ok(length)) => {
                self.advance(length);
                Progress::Done(length)
            }
        }
    }

    fn advance(&mut self, mut length: usize) {
        while let Some(first) = self.unsent.front_mut() {
            if first.len() > length {
                first.advance(length);
                return;
            }
            length -= first.len();
            self.unsent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::ready::Ready;
    use super::*;
    use crate::mesh::ConnectionId;

    #[tokio::test]
    async fn many_short_pieces_take_hardly_more_than_their_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        let ticket = Arc::new(Ready::default()).ticket(ConnectionId(1));
        let mut connection = Connection::new(stream, &ticket).unwrap();
        // Nobody reads: the kernel takes some, and the rest waits.
        connection.push(vec![7; 64 << 20].into());
        while let Progress::Done(_) = connection.write() {}
        for number in 0..100_000_u32 {
            connection.push(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        assert!(connection.unsent.len() <= 1 + 400_000 / (JOINED - SHORT), "few allocations");
        let waiting = connection.unsent.iter().map(Bytes::len).sum::<usize>();
        assert!(waiting + connection.tail.len() > 400_000);
        drop(peer);
    }
}
