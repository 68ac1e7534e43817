//! Address resolution by hand on one interface: a packet socket (man 7 packet).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longer than any frame of address resolution, which are padded to 60 bytes at most.
pub(crate) const MAX_ARP_FRAME: usize = 128;

/// Sends frames out of an interface, and receives those of address resolution.
pub(crate) struct ArpSocket(OwnedFd);

impl ArpSocket {
    /// On the interface with this index, in the namespace of this thread.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        let protocol = u16::try_from(libc::ETH_P_ARP).map_err(io::Error::other)?.to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // Nothing is received before it is bound to one interface.
        // SAFETY: takes no pointer; the result is checked before it becomes an owner.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `socket` is an open descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };

        // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        address.sll_family = u16::try_from(libc::AF_PACKET).map_err(invalid)?;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).map_err(invalid)?;
        let length = libc::socklen_t::try_from(mem::size_of_val(&address)).map_err(invalid)?;
        // SAFETY: the address lives through the call and is as long as its length says.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(Self(socket)) }
    }

    /// Sends a frame, which starts with its destination address.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer lives through the call and is as long as its length says.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Returns the next frame, of which what does not fit is lost, and its length; none if there is
    /// none in time.
    pub(crate) fn receive(&self, frame: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        // To the next millisecond, so that no time is left when it is over.
        let wait =
            PollTimeout::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // As if it had been too short: whoever waits looks at the clock.
            Err(Errno::EINTR) => return Ok(Some(0)),
            Err(errno) => return Err(errno.into()),
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the buffer lives through the call and is as long as its length says.
        let received = unsafe {
            libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), flags)
        };
        match usize::try_from(received) {
            Ok(length) => Ok(Some(length)),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(0)),
                error => Err(error),
            },
        }
    }
}
