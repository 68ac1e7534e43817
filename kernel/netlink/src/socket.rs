//! The netlink socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM};

use crate::transport::Transport;

/// Length of the longest datagram: a packet of 64 KiB and its attributes.
const MAX_DATAGRAM: usize = 1 << 17;

/// A protocol of netlink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// Generic netlink, whose families are registered by kernel modules.
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
    /// Opens a socket with a port id chosen by the kernel.
    ///
    /// # Errors
    /// Fails with `EPROTONOSUPPORT` if the kernel does not support this protocol.
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

    /// Returns the port id, which is the address of the socket.
    pub const fn port_id(&self) -> u32 {
        self.port_id
    }

    /// Requests a receive buffer of `bytes` in the kernel, which may grant less.
    ///
    /// # Errors
    /// Fails if the kernel does not support this option.
    pub fn set_receive_buffer(&self, bytes: u32) -> io::Result<()> {
        self.inner.set_rx_buf_sz(bytes)
    }

    /// Makes the kernel drop datagrams that do not fit into the receive buffer without reporting
    /// an error (`NETLINK_NO_ENOBUFS`), for notifications that are repeated anyway.
    ///
    /// # Errors
    /// Fails if the kernel does not support this option.
    pub fn ignore_overruns(&self) -> io::Result<()> {
        self.inner.set_no_enobufs(true)
    }

    /// Makes the kernel read all of a request for a list, and refuse what it does not know in it
    /// (`NETLINK_GET_STRICT_CHK`, Linux 4.20); without, it ignores most of it.
    ///
    /// # Errors
    /// Fails with `ENOPROTOOPT` if the kernel does not support this option.
    pub fn check_strictly(&self) -> io::Result<()> {
        self.inner.set_netlink_get_strict_chk(true)
    }

    /// Joins a multicast group.
    ///
    /// # Errors
    /// Fails if the group does not exist, or if the process may not join it.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.inner.add_membership(group)
    }

    /// Makes receiving fail with `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.inner.set_non_blocking(true)
    }

    /// Replaces the contents of `buffer` with the next datagram from the kernel. Datagrams from
    /// other processes are ignored, since any process may send them.
    ///
    /// # Errors
    /// Fails with `ENOBUFS` if datagrams were lost, unless overruns are ignored.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.reserve(MAX_DATAGRAM.saturating_sub(buffer.len()));
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
