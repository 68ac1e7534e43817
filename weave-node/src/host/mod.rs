//! Addresses of the host on the bridge, and the firewall.

mod addresses;
mod exposure;

pub use addresses::hidden_route;
pub(crate) use addresses::{allocator, in_use, warn_of_hidden_route};
pub(crate) use exposure::Exposure;
