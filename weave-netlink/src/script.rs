//! A kernel that says what it was told to say, for tests.

use std::collections::VecDeque;
use std::io;

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use nix::errno::Errno;

use crate::exchange::Transport;
use crate::message::HEADER_LEN;

/// Answers each request with the next of these lists of datagrams.
#[derive(Debug)]
pub struct Script {
    answers: VecDeque<Vec<Reply>>,
    waiting: VecDeque<Reply>,
    /// Sequence number of the last request.
    sequence: u32,
    requests: u32,
    last_request: Vec<u8>,
}

/// A datagram of the kernel.
#[derive(Clone, Debug)]
pub struct Reply(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// In answer to the request, or to the one that was so many before it.
    Message {
        kind: u16,
        flags: u16,
        back: u32,
        payload: Vec<u8>,
    },
    Lost,
}

impl Reply {
    /// A message of the protocol.
    pub fn message(kind: u16, payload: &[u8]) -> Self {
        Self(Kind::Message { kind, flags: 0, back: 0, payload: payload.to_vec() })
    }

    /// The request was carried out.
    pub fn acknowledged() -> Self {
        Self::message(NLMSG_ERROR, &[0; 4])
    }

    /// It was not.
    pub fn refused(errno: Errno) -> Self {
        Self::message(NLMSG_ERROR, &(-(errno as i32)).to_ne_bytes())
    }

    /// The end of a list.
    pub fn done() -> Self {
        Self::message(NLMSG_DONE, &[0; 4])
    }

    /// Datagrams were lost: the socket has an error instead.
    pub const fn lost() -> Self {
        Self(Kind::Lost)
    }

    /// What is listed changed meanwhile.
    pub const fn interrupted(mut self) -> Self {
        if let Kind::Message { flags, .. } = &mut self.0 {
            *flags |= NLM_F_DUMP_INTR;
        }
        self
    }

    /// It answers a request that was `count` before the last one.
    pub const fn to_earlier(mut self, count: u32) -> Self {
        if let Kind::Message { back, .. } = &mut self.0 {
            *back = count;
        }
        self
    }
}

impl Script {
    /// Each request gets one of these, in order; further requests none.
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

    /// How many requests there were.
    pub const fn requests(&self) -> u32 {
        self.requests
    }

    /// The bytes of the last one.
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
    /// Nothing is left to say: a kernel would keep the client waiting.
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
