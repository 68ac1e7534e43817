//! Sending one Ethernet frame out of an interface: a packet socket (man 7 packet).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sends `frame`, which starts with its destination address, out of interface `index`.
pub(crate) fn send_frame(index: u32, frame: &[u8]) -> io::Result<()> {
    // Protocol zero: this socket receives nothing.
    // SAFETY: takes no pointer; the result is checked before it becomes an owner.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `socket` is an open descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };

    // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(invalid)?;
    address.sll_ifindex = i32::try_from(index).map_err(invalid)?;
    let length = libc::socklen_t::try_from(mem::size_of_val(&address)).map_err(invalid)?;
    // SAFETY: both buffers live through the call and are as long as their lengths say.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
