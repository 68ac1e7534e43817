//! System calls that have no safe wrapper.

pub(crate) mod heap;
pub(crate) mod local_time;
pub(crate) mod tcp;
