//! System calls, and all the unsafe code of this crate.

#![allow(unsafe_code, reason = "system calls take pointers")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

pub(crate) mod packet;

use std::io;
use std::mem::size_of;

use libc::{c_int, socklen_t};

/// Converts the result -1 of a system call into its error.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Converts the result of a system call that returns a length.
fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Returns the size of a type in the type that the kernel expects.
const fn size<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}
