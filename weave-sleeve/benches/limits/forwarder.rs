//! The least that can carry frames between two bridges through user space: it reads a super-frame
//! from a TAP, hands it to UDP as a train, and writes what comes from there to the TAP. It knows no
//! stations, loses its place when a datagram is lost, and touches no byte of what it carries, but to
//! seal and open it, if it is told to.

use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, recv, sendmsg, setsockopt, sockopt};
use nix::unistd::{read, write};
use weave_sleeve::port::{Port, TapPort};

use super::sealed::{SealedWay, TEXTS};
use super::{SEGMENT, TRAIN, stay_on};

/// How a forwarder waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// A thread for each direction, in a call that blocks.
    InTheCalls,
    /// One thread, in poll.
    InPoll,
    /// The same, and each segment is sealed.
    InPollSealed,
    /// One thread, in poll, on the first core.
    OnOneCore,
    /// One thread, that looks again and again for so long before it waits in poll.
    Looking(Duration),
}

/// Frames of one direction before a look at the other.
const BATCH: usize = 32;

/// Longest time without a look at whether to end.
const TURN: u16 = 100;

/// What precedes the virtio-net header: a mark, and the length of header and frame.
const PREFIX: usize = 8;
const MARK: [u8; 4] = *b"\xffwvl";

/// Forwards from the device to the other side and back until `stop` is raised.
pub fn forward(waiting: Waiting, device: &str, address: &str, to: &str, stop: &Arc<AtomicBool>) {
    let mut port = TapPort::open(device, 1).expect("a TAP device");
    let capture = port.capture().expect("the first queue");
    let socket = UdpSocket::bind(address).expect("an address of this namespace");
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("root");
    setsockopt(&socket, sockopt::SndBufForce, &(16 << 20)).expect("root");
    setsockopt(&socket, sockopt::UdpGroSegment, &true).expect("Linux 5.0");
    let to = SockaddrIn::from(to.parse::<SocketAddrV4>().expect("an address"));
    let tap = capture.readiness();
    let sealed = waiting == Waiting::InPollSealed;
    let (mut out, mut back) = (Buffer::new(sealed), Buffer::new(sealed));
    if waiting == Waiting::OnOneCore {
        stay_on(0);
    }
    if waiting == Waiting::InTheCalls {
        fcntl(tap, FcntlArg::F_SETFL(OFlag::empty())).expect("an open device");
        socket.set_read_timeout(Some(Duration::from_millis(TURN.into()))).expect("a duration");
        return thread::scope(|scope| {
            scope.spawn(|| {
                // Only a frame wakes it, or the end of the device.
                while !stop.load(Ordering::Relaxed) {
                    out.outwards(tap, &socket, &to);
                }
            });
            while !stop.load(Ordering::Relaxed) {
                back.inwards(tap, &socket);
            }
        });
    }
    socket.set_nonblocking(true).expect("a socket");
    while !stop.load(Ordering::Relaxed) {
        let outwards = (0..BATCH).take_while(|_| out.outwards(tap, &socket, &to)).count();
        let inwards = (0..BATCH).take_while(|_| back.inwards(tap, &socket)).count();
        if outwards + inwards == 0 {
            wait(waiting, [tap, socket.as_fd()]);
        }
    }
}

fn wait(waiting: Waiting, fds: [BorrowedFd<'_>; 2]) {
    let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    if let Waiting::Looking(time) = waiting {
        let start = Instant::now();
        while start.elapsed() < time {
            if poll(&mut fds, PollTimeout::ZERO) != Ok(0) {
                return;
            }
        }
    }
    let _ = poll(&mut fds, TURN);
}

/// A super-frame on its way.
struct Buffer {
    bytes: Box<[u8]>,
    /// How much of it came so far.
    length: usize,
    sealed: Option<SealedWay>,
}

impl Buffer {
    fn new(sealed: bool) -> Self {
        let sealed = sealed.then(SealedWay::new);
        Self { bytes: vec![0; 3 << 16].into(), length: 0, sealed }
    }

    /// Takes one frame from the device, if there is one.
    fn outwards(&mut self, tap: BorrowedFd<'_>, socket: &UdpSocket, to: &SockaddrIn) -> bool {
        let Ok(length) = read(tap, &mut self.bytes[PREFIX..]) else { return false };
        self.bytes[..4].copy_from_slice(&MARK);
        let announced = u32::try_from(length).expect("a frame of 64 KiB");
        self.bytes[4..PREFIX].copy_from_slice(&announced.to_ne_bytes());
        if let Some(sealed) = &mut self.sealed {
            for train in self.bytes[..PREFIX + length].chunks_mut(TEXTS) {
                sealed.send(socket, to, train);
            }
            return true;
        }
        for train in self.bytes[..PREFIX + length].chunks(TRAIN) {
            let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
            let segments = if train.len() > SEGMENT.into() { &segments[..] } else { &[] };
            let bytes = [IoSlice::new(train)];
            // What does not fit into the socket is lost.
            let _ = sendmsg(socket.as_raw_fd(), &bytes, segments, MsgFlags::empty(), Some(to));
        }
        true
    }

    /// Takes one train from the other side, if there is one.
    fn inwards(&mut self, tap: BorrowedFd<'_>, socket: &UdpSocket) -> bool {
        let place = &mut self.bytes[self.length..];
        let place = &mut place[..1 << 16];
        let taken = match &mut self.sealed {
            Some(sealed) => sealed.receive(socket, place),
            None => recv(socket.as_raw_fd(), place, MsgFlags::empty()).ok(),
        };
        let Some(taken) = taken else { return false };
        if self.length > 0 && place[..4] == MARK {
            self.bytes.copy_within(self.length..self.length + taken, 0);
            self.length = 0;
        }
        self.length += taken;
        let marked = self.bytes[..4] == MARK;
        let announced = u32::from_ne_bytes(self.bytes[4..PREFIX].try_into().expect("four bytes"));
        let whole = if marked { PREFIX + announced as usize } else { 0 };
        if self.length >= whole {
            if self.length == whole {
                // A device that is gone takes nothing.
                let _ = write(tap, &self.bytes[PREFIX..whole]);
            }
            self.length = 0;
        }
        true
    }
}
