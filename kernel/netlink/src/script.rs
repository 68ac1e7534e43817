//! A scripted kernel for tests.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use nix::errno::Errno;

use crate::message::HEADER_LEN;
use crate::transport::Transport;

/// A transport that answers each request with the next list of datagrams of a script.
#[derive(Debug)]
pub struct Script {
    answers: VecDeque<Vec<Reply>>,
    waiting: VecDeque<Reply>,
    /// Sequence number of the last request.
    sequence: u32,
    requests: u32,
    last_request: Vec<u8>,
}

/// A datagram from the kernel.
#[derive(Clone, Debug)]
pub struct Reply(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A message that answers the last request, or the request `back` before it.
    Message {
        kind: u16,
        flags: u16,
        back: u32,
        payload: Vec<u8>,
    },
    Lost,
}

impl Reply {
    /// Creates a message of the protocol.
    pub fn message(kind: u16, payload: &[u8]) -> Self {
        Self(Kind::Message { kind, flags: 0, back: 0, payload: payload.to_vec() })
    }

    /// Creates an acknowledgement.
    pub fn acknowledged() -> Self {
        Self::message(NLMSG_ERROR, &[0; 4])
    }

    /// Creates a refusal with this reason.
    pub fn refused(errno: Errno) -> Self {
        Self::message(NLMSG_ERROR, &(-(errno as i32)).to_ne_bytes())
    }

    /// Creates the end of a list.
    pub fn done() -> Self {
        Self::message(NLMSG_DONE, &[0; 4])
    }

    /// Creates a loss of datagrams, which the socket reports as an error.
    pub const fn lost() -> Self {
        Self(Kind::Lost)
    }

    /// Marks the list as changed while it was read.
    pub const fn interrupted(mut self) -> Self {
        if let Kind::Message { flags, .. } = &mut self.0 {
            *flags |= NLM_F_DUMP_INTR;
        }
        self
    }

    /// Makes the message answer the request `count` before the last one.
    pub const fn to_earlier(mut self, count: u32) -> Self {
        if let Kind::Message { back, .. } = &mut self.0 {
            *back = count;
        }
        self
    }
}

impl Script {
    /// Creates a kernel that gives these answers in order, and none to further requests.
    pub fn new(answers: impl IntoIterator<Item = Vec<Reply>>) -> Self {
        let answers = answers.into_iter().collect();
        Self {
            answers,
            waiting: VecDeque::new(),
            sequence: 0,
            requests: 0,
            last_request: Vec::new(),
        }
    }

    /// Returns the number of requests so far.
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// Returns the bytes of the last request.
    pub fn last_request(&self) -> &[u8] {
        &self.last_request
    }
}

impl Transport for Script {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let sequence = datagram.get(8..12).and_then(<[u8]>::first_chunk);
        self.sequence = sequence.map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        self.requests += 1;
        self.last_request = datagram.to_vec();
        self.waiting.extend(self.answers.pop_front().unwrap_or_default());
        Ok(())
    }

    /// # Errors
    /// Fails if the script is exhausted; a kernel would keep the client waiting.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        match self.waiting.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?.0 {
            Kind::Lost => Err(Errno::ENOBUFS.into()),
            Kind::Message { kind, flags, back, payload } => {
                let length = u32::try_from(HEADER_LEN + payload.len()).unwrap_or(u32::MAX);
                buffer.extend_from_slice(&length.to_ne_bytes());
                buffer.extend_from_slice(&kind.to_ne_bytes());
                buffer.extend_from_slice(&flags.to_ne_bytes());
                buffer.extend_from_slice(&self.sequence.wrapping_sub(back).to_ne_bytes());
                buffer.extend_from_slice(&[0; 4]);
                buffer.extend_from_slice(&payload);
                Ok(())
            }
        }
    }
}
