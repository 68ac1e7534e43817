//! System calls that have no safe wrapper.

pub(crate) mod ethtool;
pub(crate) mod packet;
