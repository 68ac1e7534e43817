//! Sockets that send.
//!
//! What waits in the queue of a network device counts for the socket that it was sent through, and
//! a socket takes nothing more beyond the size of its buffer. Links that shared one would wait for
//! the slowest device among theirs. So each link has sockets of its own, and those of special
//! frames are nobody's: a link that is overloaded still says that it is alive.
//!
//! They never receive: see [`UdpSockets`](crate::udp::UdpSockets).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};

use crate::cipher::Channel;
use crate::sys;

/// What the kernel may hold of one link. It doubles the number for what a packet costs besides its
/// bytes; what is left are more than two milliseconds at 10 Gbit/s.
const BUFFER_SIZE: usize = 2 << 20;

/// Links beyond that number share. For each datagram that comes in, the kernel looks at all
/// sockets of the port.
const MAX_OUTLETS: usize = 16;

/// Two sockets, since "don't fragment" is an option of a socket.
#[derive(Debug)]
pub(crate) struct Outlet {
    unfragmented: Socket,
    fragmentable: Socket,
}

impl Outlet {
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

/// Gives out outlets.
#[derive(Debug)]
pub(crate) struct Outlets {
    address: SocketAddr,
    special: Arc<Outlet>,
    links: Mutex<Vec<Weak<Outlet>>>,
}

impl Outlets {
    /// To join the group at this address, whose receiving sockets are all there.
    pub(crate) fn new(address: SocketAddr) -> io::Result<Self> {
        let special = Arc::new(Outlet::join(address)?);
        Ok(Self { address, special, links: Mutex::default() })
    }

    /// The one of special frames.
    pub(crate) fn special(&self) -> &Outlet {
        &self.special
    }

    /// One for a link, shared with as few others as possible.
    pub(crate) fn of_link(&self) -> Arc<Outlet> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|outlet| outlet.strong_count() > 0);
        if links.len() < MAX_OUTLETS {
            match Outlet::join(self.address) {
                Ok(outlet) => {
                    let outlet = Arc::new(outlet);
                    links.push(Arc::downgrade(&outlet));
                    return outlet;
                }
                Err(error) => tracing::warn!(%error, "a link shares its sockets with others"),
            }
        }
        let used = links.iter().filter_map(Weak::upgrade);
        used.min_by_key(Arc::strong_count).unwrap_or_else(|| self.special.clone())
    }
}

/// A socket that never waits.
pub(crate) fn socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

/// One more of the group at this address.
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
        let outlets = Outlets::new(first.local_addr().unwrap().as_socket().unwrap()).unwrap();
        let mut links: Vec<_> = (0..MAX_OUTLETS).map(|_| outlets.of_link()).collect();
        assert!(links.iter().all(|link| Arc::strong_count(link) == 1));
        let gone = links.pop();
        drop(gone);
        let alone = outlets.of_link();
        assert_eq!(Arc::strong_count(&alone), 1);
        links.push(alone);
        links.extend((0..MAX_OUTLETS).map(|_| outlets.of_link()));
        assert!(links.iter().all(|link| Arc::strong_count(link) == 2));
        assert_eq!(Arc::strong_count(&outlets.special), 1);
    }
}
