//! A whole weave router as a library.

#![deny(unsafe_code)]

mod backoff;
mod control;
mod device;
mod fastdp;
mod host;
mod http;
mod identity;
mod ipam;
mod listeners;
mod node;
mod random;
mod reaper;
mod settings;
mod status;
mod store;
mod sys;
mod targets;

pub use host::hidden_route;
pub use identity::derive_peer_name;
pub use ipam::{Settings as IpamSettings, origin};
pub use node::Node;
pub use settings::{Capture, Peers, Settings};
pub use store::{StateError, data_file, make_directory, with_suffix};
pub use sys::heap::keep_nothing_large;
pub use sys::local_time::LocalTime;
pub use targets::{is_ipv6, unreachable};

/// Version of this crate, as status pages tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
