//! Notifications of added and deleted ports.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use weave_netlink::{Body, DecodeError, Errno, Messages, Protocol, Socket};

use crate::family::{Families, FamilyId};
use crate::generic::Generic;
use crate::vport::Vport;

/// `OVS_VPORT_CMD_DEL`
const DELETED: u8 = 2;

/// An event at a port of any datapath in this network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VportEvent {
    /// The port was added or changed; old kernels do not tell the difference.
    Present(Vport),
    /// The port was deleted.
    Deleted(Vport),
    /// Events were lost: the ports have to be listed.
    Lost,
    /// The event cannot be decoded.
    Malformed(DecodeError),
}

/// A subscription to the multicast group `ovs_vport`.
#[derive(Debug)]
pub struct VportEvents {
    socket: Socket,
    family: FamilyId,
    datagram: Vec<u8>,
    pending: VecDeque<VportEvent>,
}

impl VportEvents {
    /// Subscribes to the group.
    ///
    /// # Errors
    /// Fails if the group cannot be joined.
    pub fn open(families: &Families) -> io::Result<Self> {
        let socket = Socket::open(Protocol::Generic)?;
        socket.set_nonblocking()?;
        socket.join(families.vport_group)?;
        let (datagram, pending) = (Vec::new(), VecDeque::new());
        Ok(Self { socket, family: families.vport, datagram, pending })
    }

    /// Returns the next event without pending; `None` if there is none. The file descriptor is
    /// readable when there is one.
    ///
    /// # Errors
    /// Fails if the socket fails.
    pub fn poll_event(&mut self) -> io::Result<Option<VportEvent>> {
        while self.pending.is_empty() {
            match self.socket.receive(&mut self.datagram) {
                Ok(()) => decode(self.family, &self.datagram, &mut self.pending),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.pending.push_back(VportEvent::Lost);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.pending.pop_front())
    }
}

impl AsFd for VportEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn decode(expected: FamilyId, datagram: &[u8], events: &mut VecDeque<VportEvent>) {
    for message in Messages::new(datagram) {
        let event = match message.map(|message| message.body) {
            Ok(Body::Entry { kind, payload }) if kind == expected.0 => {
                event(payload).unwrap_or_else(VportEvent::Malformed)
            }
            Ok(Body::Overrun) => VportEvent::Lost,
            Ok(_) => continue,
            Err(error) => VportEvent::Malformed(error),
        };
        events.push_back(event);
    }
}

fn event(payload: &[u8]) -> Result<VportEvent, DecodeError> {
    let Generic { command, payload } = Generic::decode(payload)?;
    let vport = Vport::decode(payload)?;
    Ok(if command == DELETED { VportEvent::Deleted(vport) } else { VportEvent::Present(vport) })
}
