//! System calls, and all unsafe code of this crate. The public part also serves the sockets of
//! transports.
//!
//! The functions are thin: they convert between types of the standard library and those of the
//! kernel. Their callers decide what to do about an error.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

pub mod batch;
pub mod event;
pub(crate) mod packet;
pub(crate) mod tap;

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};

/// Turns a result of -1 into the error it stands for.
///
/// # Errors
/// The call failed.
pub fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Does the same as [`check`] for calls that return a length.
fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Returns the size of a type as the kernel takes it.
pub const fn size<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}

/// Sets an option of a socket.
///
/// # Errors
/// The kernel does not know the option or the value.
pub fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`, which the kernel only reads.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast::<c_void>(),
            size::<T>(),
        )
    })?;
    Ok(())
}

/// Returns the value of a numeric option.
///
/// # Errors
/// The kernel does not know the option.
pub fn int_option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut length = size::<c_int>();
    // SAFETY: the kernel writes at most `length` bytes to `value`, whose size that is.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast::<c_void>(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// Sets the sizes of a socket's kernel buffers: beyond the system limit if this process may, else
/// up to it.
///
/// # Errors
/// The kernel refuses both.
pub fn set_buffers(fd: BorrowedFd<'_>, receive: usize, send: usize) -> io::Result<()> {
    let bytes = |size: usize| c_int::try_from(size).unwrap_or(c_int::MAX);
    for (force, polite, size) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes(receive)),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes(send)),
    ] {
        set_option(fd, libc::SOL_SOCKET, force, &size)
            .or_else(|_| set_option(fd, libc::SOL_SOCKET, polite, &size))?;
    }
    Ok(())
}

/// Writes a header and a frame as one message.
pub(crate) fn write_both(fd: BorrowedFd<'_>, header: &[u8], frame: &[u8]) -> io::Result<usize> {
    let vectors = [header, frame]
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: the vectors describe the two slices, which the kernel only reads.
    check_len(unsafe { libc::writev(fd.as_raw_fd(), vectors.as_ptr(), 2) })
}
