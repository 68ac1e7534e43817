//! The UDP sockets of the router (spec sleeve.md, section 1).
//!
//! Both are bound to the same address and port, because a neighbour answers to where datagrams
//! come from:
//!
//! ```text
//!   main          receives everything; sends datagrams that may be fragmented
//!   unfragmented  sends datagrams with "don't fragment" set; never receives
//! ```
//!
//! The kernel shares out what comes in among the sockets of a `SO_REUSEPORT` group by a program,
//! and that program always says "the first". (Weave Net sends through a raw socket instead,
//! which cannot use segmentation offload.)

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::cipher::Channel;
use crate::sys;

/// What the kernel may hold for this process before it drops, in each direction.
const BUFFER_SIZE: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct UdpSockets {
    main: Socket,
    unfragmented: Socket,
    address: SocketAddr,
}

/// Where the datagrams of a link go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    /// The address of this router that the neighbour knows.
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
}

/// Why a datagram was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsent {
    /// It must not be fragmented and is larger than the path takes.
    TooBig,
    /// The buffer of the socket or of the device is full.
    QueueFull,
    /// Anything else, as a rule a route that is missing for a while.
    Unreachable,
}

impl UdpSockets {
    /// Binds both sockets.
    ///
    /// # Errors
    /// The address is in use, or is an IPv6 address.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        if address.is_ipv6() {
            let reason = "the sleeve runs over IPv4 only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let make = || Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP));
        // The first bind without sharing, so that a second router on this port is told.
        let main = make()?;
        main.bind(&address.into())?;
        let bound = main.local_addr()?.as_socket().unwrap_or(address);
        main.set_reuse_port(true)?;
        let unfragmented = make()?;
        unfragmented.set_reuse_port(true)?;
        unfragmented.bind(&bound.into())?;
        sys::udp::receive_with_the_first(main.as_fd())?;
        sys::udp::set_dont_fragment(main.as_fd(), false)?;
        sys::udp::set_dont_fragment(unfragmented.as_fd(), true)?;
        sys::set_buffers(main.as_fd(), BUFFER_SIZE, BUFFER_SIZE)?;
        sys::set_buffers(unfragmented.as_fd(), 0, BUFFER_SIZE)?;
        Ok(Self { main, unfragmented, address: bound })
    }

    /// What the sockets are bound to.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Readable when datagrams are waiting.
    pub(crate) fn readiness(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }

    /// Receives a batch; see [`sys::udp::receive`].
    pub(crate) fn receive(
        &self,
        buffer: &mut [u8],
        received: &mut [(usize, Option<SocketAddr>)],
    ) -> io::Result<usize> {
        sys::udp::receive(self.main.as_fd(), buffer, received)
    }

    /// Sends datagrams in order. Those that cannot be sent are lost; `unsent` hears of each.
    pub(crate) fn send(
        &self,
        channel: Channel,
        path: &Path,
        bytes: &[u8],
        datagrams: &[Range<usize>],
        mut unsent: impl FnMut(Unsent),
    ) {
        let SocketAddr::V4(to) = path.remote else {
            return datagrams.iter().for_each(|_| unsent(Unsent::Unreachable));
        };
        let socket = match channel {
            Channel::DontFragment => &self.unfragmented,
            Channel::Fragmentable => &self.main,
        };
        let mut rest = datagrams;
        while !rest.is_empty() {
            match sys::udp::send(socket.as_fd(), path.source(), to, bytes, rest) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    unsent(Unsent::from(&error));
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
        }
    }

    /// What the kernel thinks that the path carries.
    pub(crate) fn path_mtu(path: &Path) -> io::Result<usize> {
        // The estimate belongs to a route, and only a connected socket has one.
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        if let Some(source) = path.source() {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.connect(&path.remote.into())?;
        sys::udp::path_mtu(socket.as_fd())
    }
}

impl Path {
    fn source(&self) -> Option<Ipv4Addr> {
        match self.local {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        }
    }
}

impl From<&io::Error> for Unsent {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooBig,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Self::QueueFull,
            _ => Self::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> UdpSockets {
        UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn the_socket_that_sends_unfragmented_never_receives() {
        let (a, b) = (loopback(), loopback());
        let path = Path { local: a.address().ip(), remote: b.address() };
        // Sources differ, so that a hash over them would not always choose the same socket.
        let senders: Vec<_> = (0..16).map(|_| loopback()).collect();
        for sender in senders.iter().chain([&a]) {
            let lost = |unsent| panic!("{unsent:?}");
            for channel in [Channel::DontFragment, Channel::Fragmentable] {
                sender.send(channel, &path, b"one, two", &[0..3, 5..8], lost);
            }
        }
        let mut buffer = vec![0; 32 * 2000];
        let mut all = Vec::new();
        // On loopback a datagram has arrived when the call that sends it returns.
        loop {
            let mut received = [(0, None); 32];
            let Ok(count) = b.receive(&mut buffer, &mut received) else { break };
            for (slot, (length, from)) in buffer.chunks(2000).zip(&received[..count]) {
                all.push((slot[..*length].to_vec(), *from));
            }
        }
        assert_eq!(all.len(), 17 * 4);
        let from_a: Vec<_> = all.iter().filter(|(_, from)| *from == Some(a.address())).collect();
        assert_eq!(from_a.len(), 4);
        assert_eq!((&from_a[0].0[..], &from_a[1].0[..]), (&b"one"[..], &b"two"[..]));
        let nothing = sys::udp::receive(b.unfragmented.as_fd(), &mut buffer, &mut [(0, None)]);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_second_router_on_the_port_is_told() {
        let first = loopback();
        let error = UdpSockets::bind(first.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn only_what_is_too_big_is_lost() {
        let (a, b) = (loopback(), loopback());
        let path = Path { local: a.address().ip(), remote: b.address() };
        let bytes = vec![7; 66_000];
        let mut lost = Vec::new();
        let datagrams = [0..100, 0..66_000, 0..200];
        a.send(Channel::DontFragment, &path, &bytes, &datagrams, |unsent| lost.push(unsent));
        assert_eq!(lost, [Unsent::TooBig]);
        let mut received = [(0, None); 4];
        assert_eq!(b.receive(&mut vec![0; 4 * 1000], &mut received).unwrap(), 2);
        assert_eq!((received[0].0, received[1].0), (100, 200));
        assert!(UdpSockets::path_mtu(&path).unwrap() >= 65_535);
    }
}
