//! Packets without a flow, as they come up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use weave_netlink::{Body, DecodeError, Messages, Protocol, Socket};

use crate::family::{Families, FamilyId};
use crate::generic::Generic;
use crate::packet::Upcall;

/// What the kernel may keep for a socket, in bytes: some hundred packets of 1500 bytes, with
/// their book-keeping.
const BUFFER: u32 = 1 << 20;

/// A socket for misses. Give its port id to [`Client::set_upcalls`](crate::Client::set_upcalls);
/// a thread that answers them has one of its own.
#[derive(Debug)]
pub struct Upcalls {
    socket: Socket,
    family: FamilyId,
    datagram: Vec<u8>,
}

impl Upcalls {
    /// Opens one. What does not fit into its buffer is lost silently: the next packet of that
    /// kind misses as well.
    ///
    /// # Errors
    /// The kernel has no socket to give.
    pub fn open(families: &Families) -> io::Result<Self> {
        let socket = Socket::open(Protocol::Generic)?;
        socket.set_nonblocking()?;
        socket.set_receive_buffer(BUFFER)?;
        socket.lose_silently()?;
        Ok(Self { socket, family: families.packet, datagram: Vec::new() })
    }

    /// Its address.
    pub const fn port_id(&self) -> u32 {
        self.socket.port_id()
    }

    /// Takes what has come up, at most `budget` datagrams of it. Does not wait: poll the file
    /// descriptor before.
    ///
    /// # Errors
    /// The socket fails.
    pub fn drain(
        &mut self,
        budget: usize,
        mut each: impl FnMut(Result<Upcall<'_>, DecodeError>),
    ) -> io::Result<()> {
        for _ in 0..budget {
            match self.socket.receive(&mut self.datagram) {
                Ok(()) => decode(self.family, &self.datagram, &mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Upcalls {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn decode(
    expected: FamilyId,
    datagram: &[u8],
    each: &mut impl FnMut(Result<Upcall<'_>, DecodeError>),
) {
    for message in Messages::new(datagram) {
        match message.map(|message| message.body) {
            Ok(Body::Entry { kind, payload }) if kind == expected.0 => {
                let upcall = Generic::decode(payload)
                    .and_then(|Generic { command, payload }| Upcall::decode(command, payload));
                if let Some(upcall) = upcall.transpose() {
                    each(upcall);
                }
            }
            Ok(_) => {}
            Err(error) => each(Err(error)),
        }
    }
}
