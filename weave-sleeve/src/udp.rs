//! The UDP sockets of the router (spec sleeve.md, section 1).
//!
//! All are bound to the same address and port, because a neighbour replies to where datagrams come
//! from:
//!
//! ```text
//!   receiving   one for each data thread; never sends
//!   sending     two for each link; never receive
//! ```
//!
//! A BPF program distributes incoming datagrams among the sockets of a `SO_REUSEPORT` group by the
//! name of the sender, so that the datagrams of a link stay in order and no thread waits for
//! another. (Weave Net sends through a raw socket instead, which cannot use segmentation offload.)
//!
//! Datagrams of equal size are handed to the kernel as one GSO batch (`UDP_SEGMENT`), and
//! consecutive incoming ones are received as one (`UDP_GRO`). Features are not derived from kernel
//! versions: what does not work is noticed and no longer used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use weave_core::mtu::MAX_UDP_PAYLOAD;
use weave_port::sys::batch::MAX_BATCH;

use crate::cipher::Channel;
use crate::counters::BatchSizes;
use crate::send_sockets::{self, SendSocketPool, SendSockets};
use crate::sys;
use crate::sys::udp::{GsoBatch, ReceivedBatch};

/// Bytes that the kernel queues for a data thread before it drops.
const BUFFER_SIZE: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct UdpSockets {
    receiving: Vec<Socket>,
    pool: SendSocketPool,
    address: SocketAddr,
    /// Cleared when the outgoing device turns out not to accept batches.
    gso: AtomicBool,
    gro: bool,
}

/// Most datagrams in a batch (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_GSO_SEGMENTS: usize = 64;

/// Where the datagrams of a link go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    /// The address of this router that the neighbour knows.
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
    /// Whether GSO batches arrive there.
    pub(crate) gso: bool,
}

/// The cost of sending datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SendStats {
    /// System calls.
    pub(crate) calls: usize,
    /// Batches that the kernel accepted.
    pub(crate) batches: BatchSizes,
    /// Datagrams that shared a batch with others.
    pub(crate) in_batches: usize,
}

/// The reason why a datagram was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendFailure {
    /// It must not be fragmented and is larger than the path MTU.
    TooBig,
    /// The buffer of the socket or of the device is full.
    QueueFull,
    /// Anything else, as a rule a route that is missing for a while.
    Unreachable,
}

impl UdpSockets {
    /// Binds sockets for as many threads as given.
    ///
    /// # Errors
    /// The address is in use, or is an IPv6 address.
    pub(crate) fn bind(address: SocketAddr, threads: usize) -> io::Result<Self> {
        if address.is_ipv6() {
            let reason = "sleeve supports IPv4 only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        // The first socket is bound without sharing, so that a second router on this port gets an
        // error.
        let main = send_sockets::socket()?;
        main.bind(&address.into())?;
        let bound = main.local_addr()?.as_socket().unwrap_or(address);
        main.set_reuse_port(true)?;
        // The index of a socket in the group is its position in the order of binding.
        let mut receiving = vec![main];
        for _ in 1..threads.min(sys::udp::MAX_RECEIVERS) {
            receiving.push(send_sockets::join(bound)?);
        }
        let pool = SendSocketPool::new(bound)?;
        // The group exists only since others have joined the first socket.
        let member = pool.special().socket(Channel::DontFragment);
        sys::udp::steer_by_sender(member, receiving.len())?;
        let mut gro = true;
        for socket in &receiving {
            weave_port::sys::set_buffers(socket.as_fd(), BUFFER_SIZE, 0)?;
            gro &= sys::udp::enable_gro(socket.as_fd()).is_ok();
        }
        let gso = AtomicBool::new(true);
        Ok(Self { receiving, pool, address: bound, gso, gro })
    }

    /// Returns the address that the sockets are bound to.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of threads that datagrams are received for.
    pub(crate) const fn threads(&self) -> usize {
        self.receiving.len()
    }

    /// Returns a descriptor that is readable when datagrams are waiting for this thread.
    pub(crate) fn readiness(&self, thread: usize) -> BorrowedFd<'_> {
        self.receiving(thread).as_fd()
    }

    /// Returns the socket of a thread, or the first one if it has none.
    fn receiving(&self, thread: usize) -> &Socket {
        self.receiving.get(thread).unwrap_or(&self.receiving[0])
    }

    /// Returns whether GSO, as far as is known, and GRO are used.
    pub(crate) fn offloads(&self) -> (bool, bool) {
        (self.gso.load(Ordering::Relaxed), self.gro)
    }

    /// Returns how many datagrams, or batches that the kernel had coalesced, came faster than the
    /// threads received them, or had a wrong checksum.
    pub(crate) fn dropped(&self) -> u64 {
        let of = |socket: &Socket| sys::udp::dropped(socket.as_fd()).unwrap_or(0);
        self.receiving.iter().map(of).map(u64::from).sum()
    }

    /// Receives a batch of messages for a thread; see [`sys::udp::receive`].
    pub(crate) fn receive(
        &self,
        thread: usize,
        buffer: &mut [u8],
        received: &mut [ReceivedBatch],
    ) -> io::Result<usize> {
        sys::udp::receive(self.receiving(thread).as_fd(), buffer, received)
    }

    /// Returns the sockets that a new link sends through.
    pub(crate) fn send_sockets(&self) -> Arc<SendSockets> {
        self.pool.for_link()
    }

    /// Returns the sockets that the special frames of all links are sent through.
    pub(crate) fn special_sockets(&self) -> &SendSockets {
        self.pool.special()
    }

    /// Sends datagrams in order. A datagram that cannot be sent is lost and reported to
    /// `on_failure`.
    pub(crate) fn send(
        &self,
        sockets: &SendSockets,
        channel: Channel,
        path: &Path,
        bytes: &[u8],
        datagrams: &[Range<usize>],
        mut on_failure: impl FnMut(SendFailure),
    ) -> SendStats {
        let mut stats = SendStats::default();
        let SocketAddr::V4(to) = path.remote else {
            datagrams.iter().for_each(|_| on_failure(SendFailure::Unreachable));
            return stats;
        };
        // The kernel does not segment batches into datagrams that have to be fragmented.
        let may_batch = path.gso && channel == Channel::DontFragment;
        let route = SendRoute { socket: sockets.socket(channel), from: path.source(), to };
        let mut rest = datagrams;
        while !rest.is_empty() {
            stats.calls += 1;
            let longest = if may_batch && self.offloads().0 { MAX_GSO_SEGMENTS } else { 1 };
            let mut batches = [const { GsoBatch { bytes: 0..0, count: 0, segment: 0 } }; MAX_BATCH];
            let count = group(rest, longest, &mut batches);
            let batches = &batches[..count];
            let grouped = |sent: usize| batches.iter().take(sent).map(|batch| batch.count).sum();
            match route.send(bytes, batches) {
                Ok(sent) => {
                    for batch in batches.iter().take(sent) {
                        stats.batches.add(batch.count);
                        stats.in_batches += if batch.count > 1 { batch.count } else { 0 };
                    }
                    rest = rest.get(grouped(sent)..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let (failed, others) = rest.split_at(grouped(1));
                    if failed.len() > 1 && may_pass_alone(&error) {
                        stats.calls += failed.len();
                        let batches = &mut stats.batches;
                        self.send_one_by_one(&route, bytes, failed, batches, &mut on_failure);
                    } else {
                        failed.iter().for_each(|_| on_failure(SendFailure::from(&error)));
                    }
                    rest = others;
                }
            }
        }
        stats
    }

    /// Sends the datagrams of a refused batch. If they pass, batches are no longer used.
    fn send_one_by_one(
        &self,
        route: &SendRoute<'_>,
        bytes: &[u8],
        datagrams: &[Range<usize>],
        batches: &mut BatchSizes,
        on_failure: &mut impl FnMut(SendFailure),
    ) {
        let mut all_passed = true;
        for datagram in datagrams {
            let mut alone = [GsoBatch::default()];
            group(std::slice::from_ref(datagram), 1, &mut alone);
            match route.send(bytes, &alone) {
                Ok(_) => batches.add(1),
                Err(error) => {
                    all_passed = false;
                    on_failure(SendFailure::from(&error));
                }
            }
        }
        if all_passed && self.gso.swap(false, Ordering::Relaxed) {
            tracing::info!("the network device refuses UDP_SEGMENT: sending datagram by datagram");
        }
    }

    /// Returns the kernel's estimate of the path MTU.
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

/// A socket and the addresses of one path.
#[derive(Debug)]
struct SendRoute<'s> {
    socket: BorrowedFd<'s>,
    from: Option<Ipv4Addr>,
    to: SocketAddrV4,
}

impl SendRoute<'_> {
    fn send(&self, bytes: &[u8], batches: &[GsoBatch]) -> io::Result<usize> {
        sys::udp::send(self.socket, self.from, self.to, bytes, batches)
    }
}

/// Groups datagrams into as many batches as there is room for, and returns their number. A batch
/// ends with a shorter datagram, or before one that is longer, not adjacent or beyond the limits.
fn group(datagrams: &[Range<usize>], longest: usize, batches: &mut [GsoBatch]) -> usize {
    let mut datagrams = datagrams.iter().peekable();
    let mut count = 0;
    for batch in batches {
        let Some(first) = datagrams.next() else { break };
        let segment = first.len();
        *batch = GsoBatch {
            bytes: first.clone(),
            count: 1,
            segment: u16::try_from(segment).unwrap_or(u16::MAX),
        };
        let mut last = segment;
        while let Some(next) = datagrams.next_if(|next| {
            last == segment
                && (1..=segment).contains(&next.len())
                && batch.count < longest
                && next.start == batch.bytes.end
                && next.end - batch.bytes.start <= MAX_UDP_PAYLOAD
        }) {
            last = next.len();
            batch.bytes.end = next.end;
            batch.count += 1;
        }
        count += 1;
    }
    count
}

/// Returns whether the datagrams of a refused batch might pass one by one. The kernel answers EIO
/// or EINVAL if a device computes no checksums or the route does not allow segmentation (see
/// quinn#1637), and also if the batch is for a path that has become too small.
fn may_pass_alone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

impl Path {
    fn source(&self) -> Option<Ipv4Addr> {
        match self.local {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        }
    }
}

impl From<&io::Error> for SendFailure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => Self::TooBig,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Self::QueueFull,
            _ => Self::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests;
