//! System calls that have no safe wrapper.

pub(crate) mod packet;
