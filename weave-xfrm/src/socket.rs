//! The netlink socket.

use std::io;

use netlink_sys::protocols::NETLINK_XFRM;

use crate::client::Transport;

/// Room for the longest datagram: the kernel fills those of lists up to 32 KiB.
const DATAGRAM: usize = 1 << 16;

/// A netlink socket for IPsec, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket(netlink_sys::Socket);

impl Socket {
    /// Opens one, with a port id chosen by the kernel.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` if the kernel has no IPsec.
    pub fn open() -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(NETLINK_XFRM)?;
        inner.bind_auto()?;
        Ok(Self(inner))
    }
}

impl Transport for Socket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.0.send(datagram, 0).map(drop)
    }

    /// What other processes send is passed over: any of them may.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        buffer.reserve(DATAGRAM);
        loop {
            buffer.clear();
            let (_, sender) = self.0.recv_from(buffer, 0)?;
            if sender.port_number() == 0 {
                return Ok(());
            }
        }
    }
}
