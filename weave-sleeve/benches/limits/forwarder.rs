//! The minimal forwarder that can carry frames between two bridges through user space: it reads a
//! super-frame from a TAP device, sends it as one GSO batch, and writes what arrives to the TAP
//! device. It knows no stations, loses its place when a datagram is lost, and touches no byte of
//! the frames except to seal and open them, if told to.

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

use super::sealed::{SealedDirection, TEXTS};
use super::{GSO_BATCH, SEGMENT, stay_on};

/// How a forwarder waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// A thread for each direction, in a blocking call.
    InTheCalls,
    /// One thread, in poll.
    InPoll,
    /// One thread, in poll, with each segment sealed.
    InPollSealed,
    /// One thread, in poll, on the first core.
    OnOneCore,
    /// One thread that polls busily for so long before it waits.
    Looking(Duration),
}

/// Frames of one direction before a look at the other.
const BATCH: usize = 32;

/// Longest time without a check of the stop flag.
const TURN: u16 = 100;

/// Length of what precedes the virtio-net header: a mark, and the length of header and frame.
const PREFIX: usize = 8;
const MARK: [u8; 4] = *b"\xffwvl";

/// Forwards between the device and the other side until `stop` is raised.
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

/// A super-frame under way.
struct Buffer {
    bytes: Box<[u8]>,
    /// Bytes received so far.
    length: usize,
    sealed: Option<SealedDirection>,
}

impl Buffer {
    fn new(sealed: bool) -> Self {
        let sealed = sealed.then(SealedDirection::new);
        Self { bytes: vec![0; 3 << 16].into(), length: 0, sealed }
    }

    /// Forwards one frame from the device, if there is one.
    fn outwards(&mut self, tap: BorrowedFd<'_>, socket: &UdpSocket, to: &SockaddrIn) -> bool {
        let Ok(length) = read(tap, &mut self.bytes[PREFIX..]) else { return false };
        self.bytes[..4].copy_from_slice(&MARK);
        let announced = u32::try_from(length).expect("a frame of 64 KiB");
        self.bytes[4..PREFIX].copy_from_slice(&announced.to_ne_bytes());
        if let Some(sealed) = &mut self.sealed {
            for batch in self.bytes[..PREFIX + length].chunks_mut(TEXTS) {
                sealed.send(socket, to, batch);
            }
            return true;
        }
        for batch in self.bytes[..PREFIX + length].chunks(GSO_BATCH) {
            let segments = [ControlMessage::UdpGsoSegments(&SEGMENT)];
            let segments = if batch.len() > SEGMENT.into() { &segments[..] } else { &[] };
            let bytes = [IoSlice::new(batch)];
            // What does not fit into the socket is lost.
            let _ = sendmsg(socket.as_raw_fd(), &bytes, segments, MsgFlags::empty(), Some(to));
        }
        true
    }

    /// Forwards one batch from the other side, if there is one.
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
                // The device may be gone.
                let _ = write(tap, &self.bytes[PREFIX..whole]);
            }
            self.length = 0;
        }
        true
    }
}
