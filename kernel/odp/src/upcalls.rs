//! The sockets on which packets without a flow are received.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use weave_netlink::{Body, DecodeError, Messages, Protocol, Socket};

use crate::family::{Families, FamilyId};
use crate::generic::Generic;
use crate::packet::Upcall;

/// Receive buffer of a socket in bytes: enough for some hundred packets of 1500 bytes with the
/// kernel's overhead.
const BUFFER: u32 = 1 << 20;

/// A socket for misses. Its port id is passed to
/// [`Client::set_upcalls`](crate::Client::set_upcalls). Each thread that answers misses has a
/// socket of its own.
#[derive(Debug)]
pub struct Upcalls {
    socket: Socket,
    family: FamilyId,
    datagram: Vec<u8>,
}

impl Upcalls {
    /// Opens a socket. Misses that do not fit into its buffer are dropped without an error, since
    /// the next packet of the same kind misses as well.
    ///
    /// # Errors
    /// Fails if the kernel cannot provide a socket.
    pub fn open(families: &Families) -> io::Result<Self> {
        let socket = Socket::open(Protocol::Generic)?;
        socket.set_nonblocking()?;
        socket.set_receive_buffer(BUFFER)?;
        socket.ignore_overruns()?;
        Ok(Self { socket, family: families.packet, datagram: Vec::new() })
    }

    /// Returns the port id, which is the address of the socket.
    pub const fn port_id(&self) -> u32 {
        self.socket.port_id()
    }

    /// Receives at most `budget` datagrams without waiting and passes each packet to `each`. The
    /// file descriptor is readable when there are some.
    ///
    /// # Errors
    /// Fails if the socket fails.
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
