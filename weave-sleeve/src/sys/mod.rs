//! System calls, and all unsafe code of this crate.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel are wider in libc than the fields they go to"
)]

pub(crate) mod udp;
