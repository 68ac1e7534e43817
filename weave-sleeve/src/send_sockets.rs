//! The sockets that datagrams are sent through.
//!
//! Datagrams in the queue of a network device count against the buffer of the socket that they were
//! sent through, and a full socket accepts no more. Links that shared one socket would wait for the
//! slowest of their devices. So each link has sockets of its own, and special frames have separate
//! ones: an overloaded link still says that it is alive.
//!
//! These sockets never receive: see [`UdpSockets`](crate::udp::UdpSockets).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};

use crate::cipher::Channel;
use crate::sys;

/// Bytes of one link in the kernel. The kernel doubles the number to allow for the overhead of a
/// packet; what remains is more than two milliseconds at 10 Gbit/s.
const BUFFER_SIZE: usize = 2 << 20;

/// Links beyond that number share sockets. For each incoming datagram, the kernel looks at all
/// sockets of the port.
const MAX_POOLED: usize = 16;

/// The two sockets of a link, since "don't fragment" is an option of a socket.
#[derive(Debug)]
pub(crate) struct SendSockets {
    unfragmented: Socket,
    fragmentable: Socket,
}

impl SendSockets {
    /// Joins the group of sockets at this address.
    fn join(address: SocketAddr) -> io::Result<Self> {
        let [unfragmented, fragmentable] = [join(address)?, join(address)?];
        sys::udp::set_dont_fragment(unfragmented.as_fd(), true)?;
        sys::udp::set_dont_fragment(fragmentable.as_fd(), false)?;
        for socket in [&unfragmented, &fragmentable] {
            weave_port::sys::set_buffers(socket.as_fd(), 0, BUFFER_SIZE)?;
        }
        Ok(Self { unfragmented, fragmentable })
    }

    pub(crate) fn socket(&self, channel: Channel) -> BorrowedFd<'_> {
        match channel {
            Channel::DontFragment => self.unfragmented.as_fd(),
            Channel::Fragmentable => self.fragmentable.as_fd(),
        }
    }
}

/// Hands out send sockets.
#[derive(Debug)]
pub(crate) struct SendSocketPool {
    address: SocketAddr,
    special: Arc<SendSockets>,
    links: Mutex<Vec<Weak<SendSockets>>>,
}

impl SendSocketPool {
    /// Creates a pool for the group at this address, which all receiving sockets have joined
    /// already.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let special = Arc::new(SendSockets::join(address)?);
        Ok(Self { address, special, links: Mutex::default() })
    }

    /// Returns the sockets of special frames.
    pub(crate) fn special(&self) -> &SendSockets {
        &self.special
    }

    /// Returns sockets for a link, shared with as few others as possible.
    pub(crate) fn for_link(&self) -> Arc<SendSockets> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|sockets| sockets.strong_count() > 0);
        if links.len() < MAX_POOLED {
            match SendSockets::join(self.address) {
                Ok(sockets) => {
                    let sockets = Arc::new(sockets);
                    links.push(Arc::downgrade(&sockets));
                    return sockets;
                }
                Err(error) => tracing::warn!(%error, "a link shares its sockets with others"),
            }
        }
        let used = links.iter().filter_map(Weak::upgrade);
        used.min_by_key(Arc::strong_count).unwrap_or_else(|| self.special.clone())
    }
}

/// Opens a non-blocking socket.
pub(crate) fn socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

/// Opens a socket that joins the group at this address.
pub(crate) fn join(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket()?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_share_only_when_there_are_many() {
        let first = socket().unwrap();
        first.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        first.set_reuse_port(true).unwrap();
        let pool = SendSocketPool::new(first.local_addr().unwrap().as_socket().unwrap()).unwrap();
        let mut links: Vec<_> = (0..MAX_POOLED).map(|_| pool.for_link()).collect();
        assert!(links.iter().all(|link| Arc::strong_count(link) == 1));
        let gone = links.pop();
        drop(gone);
        let alone = pool.for_link();
        assert_eq!(Arc::strong_count(&alone), 1);
        links.push(alone);
        links.extend((0..MAX_POOLED).map(|_| pool.for_link()));
        assert!(links.iter().all(|link| Arc::strong_count(link) == 2));
        assert_eq!(Arc::strong_count(&pool.special), 1);
    }
}
