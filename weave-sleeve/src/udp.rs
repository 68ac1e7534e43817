//! The UDP sockets of the router (spec sleeve.md, section 1).
//!
//! All are bound to the same address and port, because a neighbour answers to where datagrams
//! come from:
//!
//! ```text
//!   receiving  one for each data thread; never sends
//!   outlets    send, two for each link; never receive
//! ```
//!
//! The kernel shares out what comes in among the sockets of a `SO_REUSEPORT` group by a program.
//! It goes by the name of the sender, so that the datagrams of a link stay in order and no thread
//! waits for another. (Weave Net sends through a raw socket instead,
//! which cannot use segmentation offload.)
//!
//! Datagrams of equal size are handed to the kernel as a train (`UDP_SEGMENT`), and those that
//! come in a row are taken as one (`UDP_GRO`). No kernel is asked for its version: what does not
//! work is noticed, and done without from then on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use weave_core::mtu::MAX_UDP_PAYLOAD;

use crate::cipher::Channel;
use crate::counters::Lengths;
use crate::outlet::{self, Outlet, Outlets};
use crate::sys;
use crate::sys::udp::{Arrived, Train};
use weave_port::sys::batch::MAX_BATCH;

/// What the kernel may hold for a data thread before it drops.
const BUFFER_SIZE: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct UdpSockets {
    receiving: Vec<Socket>,
    outlets: Outlets,
    address: SocketAddr,
    /// Cleared when a device on the way out turns out not to take trains.
    sends_trains: AtomicBool,
    receives_trains: bool,
}

/// Most datagrams in a train (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_TRAIN: usize = 64;

/// Where the datagrams of a link go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Path {
    /// The address of this router that the neighbour knows.
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
    /// Whether trains arrive there.
    pub(crate) trains: bool,
}

/// What it took to send datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Handed {
    /// System calls.
    pub(crate) calls: usize,
    /// What the kernel took.
    pub(crate) trains: Lengths,
    /// How many datagrams of these did not go alone.
    pub(crate) in_trains: usize,
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
    /// Binds sockets for as many threads.
    ///
    /// # Errors
    /// The address is in use, or is an IPv6 address.
    pub(crate) fn bind(address: SocketAddr, threads: usize) -> io::Result<Self> {
        if address.is_ipv6() {
            let reason = "the sleeve runs over IPv4 only";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        // The first bind without sharing, so that a second router on this port is told.
        let main = outlet::socket()?;
        main.bind(&address.into())?;
        let bound = main.local_addr()?.as_socket().unwrap_or(address);
        main.set_reuse_port(true)?;
        // The number of a socket in the group is its place in the order of binding.
        let mut receiving = vec![main];
        for _ in 1..threads.min(sys::udp::MAX_SHARES) {
            receiving.push(outlet::join(bound)?);
        }
        let outlets = Outlets::new(bound)?;
        // There is a group only since others have joined the first.
        let member = outlets.special().socket(Channel::DontFragment);
        sys::udp::share_by_sender(member, receiving.len())?;
        let mut receives_trains = true;
        for socket in &receiving {
            weave_port::sys::set_buffers(socket.as_fd(), BUFFER_SIZE, 0)?;
            receives_trains &= sys::udp::receive_trains(socket.as_fd()).is_ok();
        }
        let sends_trains = AtomicBool::new(true);
        Ok(Self { receiving, outlets, address: bound, sends_trains, receives_trains })
    }

    /// What the sockets are bound to.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// For how many threads datagrams are received.
    pub(crate) const fn threads(&self) -> usize {
        self.receiving.len()
    }

    /// Readable when datagrams are waiting for this thread.
    pub(crate) fn readiness(&self, thread: usize) -> BorrowedFd<'_> {
        self.receiving(thread).as_fd()
    }

    /// The first socket stands in for any that there is none of.
    fn receiving(&self, thread: usize) -> &Socket {
        self.receiving.get(thread).unwrap_or(&self.receiving[0])
    }

    /// Whether trains are sent, as far as is known, and received.
    pub(crate) fn trains(&self) -> (bool, bool) {
        (self.sends_trains.load(Ordering::Relaxed), self.receives_trains)
    }

    /// Datagrams, or trains that the kernel had joined, that came faster than the threads took them,
    /// or with a wrong checksum.
    pub(crate) fn dropped(&self) -> u64 {
        let of = |socket: &Socket| sys::udp::dropped(socket.as_fd()).unwrap_or(0);
        self.receiving.iter().map(of).map(u64::from).sum()
    }

    /// Receives a batch for a thread; see [`sys::udp::receive`].
    pub(crate) fn receive(
        &self,
        thread: usize,
        buffer: &mut [u8],
        received: &mut [Arrived],
    ) -> io::Result<usize> {
        sys::udp::receive(self.receiving(thread).as_fd(), buffer, received)
    }

    /// What a new link sends through.
    pub(crate) fn outlet(&self) -> Arc<Outlet> {
        self.outlets.of_link()
    }

    /// What special frames of all links are sent through.
    pub(crate) fn special_outlet(&self) -> &Outlet {
        self.outlets.special()
    }

    /// Sends datagrams in order. Those that cannot be sent are lost; `unsent` hears of each.
    pub(crate) fn send(
        &self,
        outlet: &Outlet,
        channel: Channel,
        path: &Path,
        bytes: &[u8],
        datagrams: &[Range<usize>],
        mut unsent: impl FnMut(Unsent),
    ) -> Handed {
        let mut handed = Handed::default();
        let SocketAddr::V4(to) = path.remote else {
            datagrams.iter().for_each(|_| unsent(Unsent::Unreachable));
            return handed;
        };
        // The kernel cuts no train into datagrams that have to be fragmented.
        let may_train = path.trains && channel == Channel::DontFragment;
        let way = Way { socket: outlet.socket(channel), from: path.source(), to };
        let mut rest = datagrams;
        while !rest.is_empty() {
            handed.calls += 1;
            let longest = if may_train && self.trains().0 { MAX_TRAIN } else { 1 };
            let mut trains = [const { Train { bytes: 0..0, count: 0, segment: 0 } }; MAX_BATCH];
            let count = couple(rest, longest, &mut trains);
            let trains = &trains[..count];
            let coupled = |sent: usize| trains.iter().take(sent).map(|train| train.count).sum();
            match way.send(bytes, trains) {
                Ok(sent) => {
                    for train in trains.iter().take(sent) {
                        handed.trains.add(train.count);
                        handed.in_trains += if train.count > 1 { train.count } else { 0 };
                    }
                    rest = rest.get(coupled(sent)..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let (failed, others) = rest.split_at(coupled(1));
                    if failed.len() > 1 && is_of_the_train(&error) {
                        handed.calls += failed.len();
                        let trains = &mut handed.trains;
                        self.send_one_by_one(&way, bytes, failed, trains, &mut unsent);
                    } else {
                        failed.iter().for_each(|_| unsent(Unsent::from(&error)));
                    }
                    rest = others;
                }
            }
        }
        handed
    }

    /// Sends the datagrams of a train that was refused. If they pass, no further train is tried.
    fn send_one_by_one(
        &self,
        way: &Way<'_>,
        bytes: &[u8],
        datagrams: &[Range<usize>],
        trains: &mut Lengths,
        unsent: &mut impl FnMut(Unsent),
    ) {
        let mut all_passed = true;
        for datagram in datagrams {
            let mut alone = [Train::default()];
            couple(std::slice::from_ref(datagram), 1, &mut alone);
            match way.send(bytes, &alone) {
                Ok(_) => trains.add(1),
                Err(error) => {
                    all_passed = false;
                    unsent(Unsent::from(&error));
                }
            }
        }
        if all_passed && self.sends_trains.swap(false, Ordering::Relaxed) {
            tracing::info!("the network device takes no UDP_SEGMENT: sending datagram by datagram");
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

/// From a socket to the neighbour.
#[derive(Debug)]
struct Way<'s> {
    socket: BorrowedFd<'s>,
    from: Option<Ipv4Addr>,
    to: SocketAddrV4,
}

impl Way<'_> {
    fn send(&self, bytes: &[u8], trains: &[Train]) -> io::Result<usize> {
        sys::udp::send(self.socket, self.from, self.to, bytes, trains)
    }
}

/// Couples datagrams from the first on into as many trains as there is room for; returns how
/// many. A train ends with a datagram that is shorter, or whose successor is not as long as it,
/// behind it, and within the limits.
fn couple(datagrams: &[Range<usize>], longest: usize, trains: &mut [Train]) -> usize {
    let mut datagrams = datagrams.iter().peekable();
    let mut count = 0;
    for train in trains {
        let Some(first) = datagrams.next() else { break };
        let segment = first.len();
        *train = Train {
            bytes: first.clone(),
            count: 1,
            segment: u16::try_from(segment).unwrap_or(u16::MAX),
        };
        let mut last = segment;
        while let Some(next) = datagrams.next_if(|next| {
            last == segment
                && (1..=segment).contains(&next.len())
                && train.count < longest
                && next.start == train.bytes.end
                && next.end - train.bytes.start <= MAX_UDP_PAYLOAD
        }) {
            last = next.len();
            train.bytes.end = next.end;
            train.count += 1;
        }
        count += 1;
    }
    count
}

/// Whether the datagrams of a refused train might pass one by one. The kernel answers with an
/// error in the input or the output if a device computes no checksums or the route does not allow
/// for segmentation (quinn#1637 and others have collected such), and also if the train is for a
/// path that has become too small.
fn is_of_the_train(error: &io::Error) -> bool {
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
        UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap()
    }

    #[test]
    fn sockets_that_send_never_receive() {
        let (a, b) = (loopback(), loopback());
        let outlet = b.outlet();
        let path = Path { local: a.address().ip(), remote: b.address(), trains: true };
        // Sources differ, so that a hash over them would not always choose the same socket.
        let senders: Vec<_> = (0..16).map(|_| loopback()).collect();
        for sender in senders.iter().chain([&a]) {
            let lost = |unsent| panic!("{unsent:?}");
            for channel in [Channel::DontFragment, Channel::Fragmentable] {
                sender.send(&sender.outlet(), channel, &path, b"one, two", &[0..3, 5..8], lost);
            }
        }
        let mut buffer = vec![0; 32 * 2000];
        let mut all = Vec::new();
        // On loopback a datagram has arrived when the call that sends it returns.
        loop {
            let mut received = [Arrived::default(); 32];
            let Ok(count) = b.receive(0, &mut buffer, &mut received) else { break };
            for (slot, arrived) in buffer.chunks(2000).zip(&received[..count]) {
                let datagrams = slot[..arrived.length].chunks(arrived.segment.max(1));
                all.extend(datagrams.map(|datagram| (datagram.to_vec(), arrived.from)));
            }
        }
        assert_eq!(all.len(), 17 * 4);
        let from_a: Vec<_> = all.iter().filter(|(_, from)| *from == Some(a.address())).collect();
        assert_eq!(from_a.len(), 4);
        assert_eq!((&from_a[0].0[..], &from_a[1].0[..]), (&b"one"[..], &b"two"[..]));
        for outlet in [&*outlet, b.special_outlet()] {
            for channel in [Channel::DontFragment, Channel::Fragmentable] {
                let socket = outlet.socket(channel);
                let none = sys::udp::receive(socket, &mut buffer, &mut [Arrived::default()]);
                assert_eq!(none.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            }
        }
    }

    #[test]
    fn datagrams_of_a_neighbour_stay_with_one_thread() {
        let b = UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();
        let taken = |thread| {
            let mut received = [Arrived::default(); 8];
            let mut buffer = vec![0; 8 * 2000];
            let count = b.receive(thread, &mut buffer, &mut received).unwrap_or(0);
            (0..count).map(|slot| buffer[slot * 2000..][..8].to_vec()).collect::<Vec<_>>()
        };
        // Sources differ, so that a hash over them would not always choose the same socket.
        let senders: Vec<_> = (0..4).map(|_| loopback()).collect();
        for last in 0..6_u8 {
            let legacy = vec![2, 0, 0, 0, 0, last, 0x55, 0x66];
            let native = vec![3, 0x77, 2, 0, 0, 0, 0, last];
            for sender in &senders {
                let path = Path { local: sender.address().ip(), remote: b.address(), trains: true };
                let lost = |unsent| panic!("{unsent:?}");
                for bytes in [&legacy, &native] {
                    sender.send(
                        &sender.outlet(),
                        Channel::DontFragment,
                        &path,
                        bytes,
                        std::slice::from_ref(&(0..8)),
                        lost,
                    );
                }
            }
            let own = usize::from(last) % 3;
            let expected: Vec<_> = (0..4).flat_map(|_| [legacy.clone(), native.clone()]).collect();
            assert_eq!(taken(own), expected);
            assert!(taken((own + 1) % 3).is_empty() && taken((own + 2) % 3).is_empty());
        }
        // Too short for a name: the first takes it.
        let path = Path { local: senders[0].address().ip(), remote: b.address(), trains: true };
        senders[0].send(
            &senders[0].outlet(),
            Channel::DontFragment,
            &path,
            b"abc",
            std::slice::from_ref(&(0..3)),
            |_| {},
        );
        assert_eq!(taken(0).len(), 1);
    }

    #[test]
    fn trains_arrive_as_they_were_coupled() {
        let (a, b) = (loopback(), loopback());
        assert_eq!(b.trains(), (true, true));
        let path = Path { local: a.address().ip(), remote: b.address(), trains: true };
        let bytes: Vec<u8> = (0..=255).cycle().take(60_000).collect();
        let lengths = [[1000; 5].as_slice(), &[400, 1000, 1000, 1200], &[300; 3]].concat();
        let mut end = 0;
        let datagrams: Vec<_> = lengths
            .iter()
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect();
        let lost = |unsent| panic!("{unsent:?}");
        let handed = a.send(&a.outlet(), Channel::DontFragment, &path, &bytes, &datagrams, lost);
        let mut trains = Lengths::default();
        [6, 2, 2, 2].into_iter().for_each(|train| trains.add(train));
        assert_eq!(handed, Handed { calls: 1, trains, in_trains: 12 });
        let mut received = [Arrived::default(); 32];
        let mut buffer = vec![0; 32 * 65_536];
        let count = b.receive(0, &mut buffer, &mut received).unwrap();
        let mut arrived = Vec::new();
        for (slot, message) in buffer.chunks(65_536).zip(&received[..count]) {
            arrived.extend(slot[..message.length].chunks(message.segment).map(<[u8]>::to_vec));
        }
        let sent: Vec<_> = datagrams.iter().map(|range| bytes[range.clone()].to_vec()).collect();
        assert_eq!(arrived, sent);
        assert!(count < sent.len(), "{count} messages");
    }

    #[test]
    fn without_trains_datagrams_go_one_by_one() {
        let (a, b) = (loopback(), loopback());
        let path = Path { local: a.address().ip(), remote: b.address(), trains: true };
        let outlet = a.outlet();
        let SocketAddr::V4(to) = path.remote else { panic!("bound to IPv4") };
        let way = Way { socket: outlet.socket(Channel::DontFragment), from: path.source(), to };
        let datagrams: Vec<_> = (0..10).map(|i| i * 100..(i + 1) * 100).collect();
        let bytes = vec![7; 1000];
        // As if the first train had been refused.
        let mut lost = |unsent| panic!("{unsent:?}");
        let mut trains = Lengths::default();
        a.send_one_by_one(&way, &bytes, &datagrams, &mut trains, &mut lost);
        assert!(!a.trains().0);
        a.send(&a.outlet(), Channel::DontFragment, &path, &bytes, &datagrams, lost);
        let mut received = [Arrived::default(); 32];
        let mut buffer = vec![0; 32 * 2000];
        let count = b.receive(0, &mut buffer, &mut received).unwrap();
        let arrived: usize = received[..count].iter().map(|arrived| arrived.length / 100).sum();
        assert_eq!(arrived, 20);

        // A path that is gone says nothing about trains.
        let (a, to) = (loopback(), SocketAddrV4::new(Ipv4Addr::BROADCAST, 9));
        let outlet = a.outlet();
        let way = Way { socket: outlet.socket(Channel::DontFragment), from: None, to };
        let mut lost = 0;
        let mut none = Lengths::default();
        a.send_one_by_one(&way, &bytes, &datagrams, &mut none, &mut |_| lost += 1);
        assert_eq!(none, Lengths::default());
        assert_eq!((lost, a.trains().0), (10, true));
    }

    #[test]
    fn what_finds_no_room_at_the_receiver_is_counted() {
        let (a, b) = (loopback(), loopback());
        let path = Path { local: a.address().ip(), remote: b.address(), trains: true };
        let bytes = vec![7; 60_000];
        let all = 0..bytes.len();
        assert_eq!(b.dropped(), 0);
        let mut sent = 0;
        // The buffer has twice the room that it is said to have.
        for _ in 0..2 * BUFFER_SIZE / bytes.len() + 100 {
            let one = std::slice::from_ref(&all);
            let lost = |unsent| panic!("{unsent:?}");
            a.send(&a.outlet(), Channel::DontFragment, &path, &bytes, one, lost);
            sent += 1;
        }
        let (mut taken, mut buffer) = (0, vec![0; 65_536]);
        while b.receive(0, &mut buffer, &mut [Arrived::default()]).is_ok() {
            taken += 1;
        }
        assert!(b.dropped() > 0);
        assert_eq!(taken + b.dropped(), sent);
    }

    #[test]
    fn coupling_keeps_the_rules_of_the_kernel() {
        let coupled = |datagrams: &[Range<usize>], longest| {
            let mut trains = vec![Train::default(); 8];
            let count = couple(datagrams, longest, &mut trains);
            trains.truncate(count);
            trains.into_iter().map(|train| (train.bytes, train.count)).collect::<Vec<_>>()
        };
        assert_eq!(coupled(&[0..10, 10..20, 20..25, 25..35], 64), [(0..25, 3), (25..35, 1)]);
        assert_eq!(coupled(&[0..10, 10..22], 64), [(0..10, 1), (10..22, 1)]);
        assert_eq!(coupled(&[0..10, 11..21], 64), [(0..10, 1), (11..21, 1)]);
        assert_eq!(coupled(&[0..10, 10..20, 20..30], 2), [(0..20, 2), (20..30, 1)]);
        assert_eq!(coupled(&[0..10, 10..10, 10..20], 64).len(), 3);
        assert_eq!(coupled(&[0..40_000, 40_000..70_000], 64).len(), 2);
        assert_eq!(coupled(&vec![0..10; 20], 1).len(), 8);
    }

    #[test]
    fn a_second_router_on_the_port_is_told() {
        let first = loopback();
        let error = UdpSockets::bind(first.address(), 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn only_what_is_too_big_is_lost() {
        let (a, b) = (loopback(), loopback());
        let path = Path { local: a.address().ip(), remote: b.address(), trains: true };
        let bytes = vec![7; 66_000];
        let mut lost = Vec::new();
        let datagrams = [0..100, 0..66_000, 0..200];
        a.send(&a.outlet(), Channel::DontFragment, &path, &bytes, &datagrams, |unsent| {
            lost.push(unsent)
        });
        assert_eq!(lost, [Unsent::TooBig]);
        let mut received = [Arrived::default(); 4];
        assert_eq!(b.receive(0, &mut vec![0; 4 * 1000], &mut received).unwrap(), 2);
        assert_eq!((received[0].length, received[1].length), (100, 200));
        assert!(UdpSockets::path_mtu(&path).unwrap() >= 65_535);
    }
}
