//! System calls, and all the unsafe code of this crate.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

pub(crate) mod packet;
pub(crate) mod poll;

use std::ffi::{CStr, CString};
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

/// The number of the device that has this name now.
pub(crate) fn index_of(device: &str) -> Option<u32> {
    let name = CString::new(device).ok()?;
    // SAFETY: the name ends with a zero byte.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// The name of the device with this number.
pub(crate) fn name_of(index: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the kernel writes at most IF_NAMESIZE bytes.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: the kernel has written a name with a zero byte at its end.
    Some(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
}
