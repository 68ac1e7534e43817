//! System calls, and all the unsafe code of this crate.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

pub(crate) mod packet;

use std::io;
use std::mem::size_of;

use libc::{c_int, socklen_t};

/// Turns -1 into the error it stands for.
fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The size of a type, as the kernel takes it.
const fn size<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}
