//! Asking who has an address, and telling the neighbours of a new one.

pub(crate) mod announce;
mod claimants;
pub(crate) mod probe;

pub use claimants::Claimants;
pub use probe::{PROBE_TIME, holder_of};
