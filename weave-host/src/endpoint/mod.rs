//! The interfaces of containers: making them, taking them away, and looking at them.

mod attach;
mod detach;
mod inspect;
mod list;
mod veth_peer;

pub use attach::{AttachChanges, Attachment, End, attach};
pub use detach::{DetachChanges, detach, remove_port_of, remove_unnoted_port};
pub use inspect::{ContainerInterface, inspect, routes_beside};
pub use list::{Endpoint, attached_ids, endpoints};
