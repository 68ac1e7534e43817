//! System calls that have no safe wrapper.

#![allow(unsafe_code, reason = "what this module is for")]

pub(crate) mod heap;
pub(crate) mod local_time;
pub(crate) mod readiness;
pub(crate) mod tcp;
