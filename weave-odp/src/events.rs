//! Ports that come and go.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use weave_netlink::{Body, DecodeError, Errno, Messages, Protocol, Socket};

use crate::family::{Families, FamilyId};
use crate::generic::Generic;
use crate::vport::Vport;

/// `OVS_VPORT_CMD_DEL`
const DELETED: u8 = 2;

/// Something happened to a port of any datapath of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VportEvent {
    /// It is there, or something about it was set: old kernels do not tell the difference.
    There(Vport),
    /// It is gone.
    Gone(Vport),
    /// Events were lost: list the ports.
    Lost,
    /// An event that cannot be understood.
    Unknown(DecodeError),
}

/// Listens to the multicast group `ovs_vport`.
#[derive(Debug)]
pub struct VportEvents {
    socket: Socket,
    family: FamilyId,
    datagram: Vec<u8>,
    waiting: VecDeque<VportEvent>,
}

impl VportEvents {
    /// Begins to listen.
    ///
    /// # Errors
    /// The group cannot be joined.
    pub fn open(families: &Families) -> io::Result<Self> {
        let socket = Socket::open(Protocol::Generic)?;
        socket.set_nonblocking()?;
        socket.join(families.vport_group)?;
        let (datagram, waiting) = (Vec::new(), VecDeque::new());
        Ok(Self { socket, family: families.vport, datagram, waiting })
    }

    /// The next event there is. Does not wait: poll the file descriptor before.
    ///
    /// # Errors
    /// The socket fails.
    pub fn poll_event(&mut self) -> io::Result<Option<VportEvent>> {
        while self.waiting.is_empty() {
            match self.socket.receive(&mut self.datagram) {
                Ok(()) => decode(self.family, &self.datagram, &mut self.waiting),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.waiting.push_back(VportEvent::Lost);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.waiting.pop_front())
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
                event(payload).unwrap_or_else(VportEvent::Unknown)
            }
            Ok(Body::Overrun) => VportEvent::Lost,
            Ok(_) => continue,
            Err(error) => VportEvent::Unknown(error),
        };
        events.push_back(event);
    }
}

fn event(payload: &[u8]) -> Result<VportEvent, DecodeError> {
    let Generic { command, payload } = Generic::decode(payload)?;
    let vport = Vport::decode(payload)?;
    Ok(if command == DELETED { VportEvent::Gone(vport) } else { VportEvent::There(vport) })
}
