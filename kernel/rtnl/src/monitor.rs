//! What changes in a network namespace, as events.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use weave_netlink::{Body, Messages, Protocol, Socket};

use crate::address::Address;
use crate::error::{Cause, Error};
use crate::link::Link;
use crate::message::decode;
use crate::neighbour::Neighbour;
use crate::operation::Operation;
use crate::route::Route;

/// What to watch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    /// Interfaces.
    Links,
    /// Neighbour and forwarding tables.
    Neighbours,
    /// Addresses of interfaces, IPv4 and IPv6.
    Addresses,
    /// Routes, IPv4 and IPv6.
    Routes,
}

impl Group {
    /// Returns the numbers of `linux/rtnetlink.h`, `RTNLGRP_…`.
    const fn numbers(self) -> &'static [u32] {
        match self {
            Self::Links => &[1],
            Self::Neighbours => &[3],
            Self::Addresses => &[5, 9],
            Self::Routes => &[7, 11],
        }
    }
}

/// A change.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An interface is new, or is different.
    Link(Link),
    /// An interface is gone.
    LinkGone(Link),
    /// An address is new, or is different.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route of the main table is new.
    Route(Route),
    /// A route of the main table is gone.
    RouteGone(Route),
    /// An entry of a neighbour table is new, or is different.
    Neighbour(Neighbour),
    /// An entry of a neighbour table is gone.
    NeighbourGone(Neighbour),
    /// Events were lost, because they came faster than they were taken: list again.
    Lost,
}

/// A subscription to changes in the network namespace of the thread that opened it. Open it before
/// you list what is there, so that nothing falls between.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    datagram: Vec<u8>,
    /// The rest of one datagram.
    events: VecDeque<Event>,
}

impl Monitor {
    /// Subscribes to these changes.
    ///
    /// # Errors
    /// Fails if the kernel has no sockets left, or no netlink.
    pub fn open(groups: &[Group]) -> Result<Self, Error> {
        let open = || {
            let socket = Socket::open(Protocol::Route)?;
            for group in groups.iter().flat_map(|group| group.numbers()) {
                socket.join(*group)?;
            }
            socket.set_nonblocking()?;
            Ok(socket)
        };
        let socket = open().map_err(failed)?;
        Ok(Self { socket, datagram: Vec::new(), events: VecDeque::new() })
    }

    /// Returns the next event, if there is one now. The descriptor of the monitor is readable when
    /// there may be more, once this has returned none.
    ///
    /// # Errors
    /// Fails if the socket fails.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.socket.receive(&mut self.datagram) {
                Ok(()) => self.read(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(Some(Event::Lost));
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Waits for the next event; none if there is none in time.
    ///
    /// # Errors
    /// Fails if the socket fails.
    pub fn next_event(&mut self, wait: Duration) -> Result<Option<Event>, Error> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(event) = self.poll_event()? {
                return Ok(Some(event));
            }
            // To the next millisecond, so that no time is left when it is over.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left.as_micros().div_ceil(1000));
            let left = left.unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) if Instant::now() >= deadline => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    fn read(&mut self) {
        for message in Messages::new(&self.datagram).map_while(Result::ok) {
            if let Body::Entry { kind, payload } = message.body {
                self.events.extend(decode(kind, payload).and_then(event));
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn event(message: RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(Event::Link(Link::of(link))),
        RouteNetlinkMessage::DelLink(link) => Some(Event::LinkGone(Link::of(link))),
        RouteNetlinkMessage::NewAddress(address) => Address::of(&address).map(Event::Address),
        RouteNetlinkMessage::DelAddress(address) => Address::of(&address).map(Event::AddressGone),
        RouteNetlinkMessage::NewRoute(route) => Route::of(&route).map(Event::Route),
        RouteNetlinkMessage::DelRoute(route) => Route::of(&route).map(Event::RouteGone),
        RouteNetlinkMessage::NewNeighbour(entry) => Neighbour::of(&entry).map(Event::Neighbour),
        RouteNetlinkMessage::DelNeighbour(entry) => Neighbour::of(&entry).map(Event::NeighbourGone),
        _ => None,
    }
}

const fn failed(error: io::Error) -> Error {
    Error { operation: Operation::Watch, cause: Cause::Socket(error) }
}
