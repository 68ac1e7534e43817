//! One TCP connection and what waits to be written to it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::ready::Ticket;

/// Pieces written in one system call.
const PIECES: usize = 16;

pub(super) struct Connection {
    stream: TcpStream,
    waker: Waker,
    unsent: VecDeque<Bytes>,
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
        Ok(Self { stream, waker: ticket.waker(), unsent: VecDeque::new() })
    }

    /// Puts the connection into the queue of those that are served.
    pub(super) fn queue(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Progress {
        let mut context = Context::from_waker(&self.waker);
        loop {
            match self.stream.poll_read_ready(&mut context) {
                Poll::Pending => return Progress::Later,
                Poll::Ready(Err(error)) => return Progress::Ended(error.to_string()),
                Poll::Ready(Ok(())) => {}
            }
            match self.stream.try_read(buffer) {
                Ok(0) => return Progress::Ended("closed by the other side".to_owned()),
                Ok(length) => return Progress::Done(length),
                // The readiness was stale; ask again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Progress::Ended(error.to_string()),
            }
        }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.unsent.push_back(bytes);
        }
    }

    /// Writes once, as much as the kernel takes.
    pub(super) fn write(&mut self) -> Progress {
        if self.unsent.is_empty() {
            // Give the memory of a long queue back.
            self.unsent.shrink_to(PIECES);
            return Progress::Later;
        }
        let mut context = Context::from_waker(&self.waker);
        loop {
            match self.stream.poll_write_ready(&mut context) {
                Poll::Pending => return Progress::Later,
                Poll::Ready(Err(error)) => return Progress::Ended(error.to_string()),
                Poll::Ready(Ok(())) => {}
            }
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (piece, bytes) in pieces.iter_mut().zip(&self.unsent) {
                *piece = IoSlice::new(bytes);
                count += 1;
            }
            match self.stream.try_write_vectored(&pieces[..count]) {
                Ok(length) => {
                    self.advance(length);
                    return Progress::Done(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Progress::Ended(error.to_string()),
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
