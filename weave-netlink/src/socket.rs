//! The netlink socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM};

use crate::exchange::Transport;

/// Room for the longest datagram: a packet of 64 KiB and what is said about it.
const DATAGRAM: usize = 1 << 17;

/// What is spoken over a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// Families that modules bring along.
    Generic,
    /// IPsec.
    Xfrm,
    /// Firewalls.
    Netfilter,
}

/// A netlink socket, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    inner: netlink_sys::Socket,
    port_id: u32,
}

impl Socket {
    /// Opens one, with a port id chosen by the kernel.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel does not speak this protocol.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(match protocol {
            Protocol::Route => NETLINK_ROUTE,
            Protocol::Generic => NETLINK_GENERIC,
            Protocol::Xfrm => NETLINK_XFRM,
            Protocol::Netfilter => NETLINK_NETFILTER,
        })?;
        let port_id = inner.bind_auto()?.port_number();
        Ok(Self { inner, port_id })
    }

    /// Its address.
    pub const fn port_id(&self) -> u32 {
        self.port_id
    }

    /// Asks for `bytes` of buffer in the kernel. It may give less.
    ///
    /// # Errors
    /// The socket does not know this option.
    pub fn set_receive_buffer(&self, bytes: u32) -> io::Result<()> {
        self.inner.set_rx_buf_sz(bytes)
    }

    /// From now on a datagram that does not fit into the buffer is lost without an error:
    /// for what is sent again anyway.
    ///
    /// # Errors
    /// The socket does not know this option.
    pub fn lose_silently(&self) -> io::Result<()> {
        self.inner.set_no_enobufs(true)
    }

    /// Receives what is said to a multicast group, too.
    ///
    /// # Errors
    /// There is no such group, or it is not for us.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.inner.add_membership(group)
    }

    /// From now on receiving does not wait, but fails with `WouldBlock`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.inner.set_non_blocking(true)
    }

    /// Replaces what is in `buffer` by the next datagram of the kernel. What other processes
    /// send is passed over: any of them may.
    ///
    /// # Errors
    /// `ENOBUFS` if datagrams were lost, unless they are lost silently.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.reserve(DATAGRAM.saturating_sub(buffer.len()));
        loop {
            buffer.clear();
            match self.inner.recv_from(buffer, 0) {
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl Transport for Socket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.inner.send(datagram, 0).map(drop)
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        Self::receive(self, buffer)
    }
}
