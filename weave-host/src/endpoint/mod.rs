//! The interfaces of containers: making them, taking them away, and looking at them.
//!
//! ```text
//!   attach ──▶ pair       both ends, and the port on the bridge
//!          └─▶ configure  addresses and routes in the container
//!   detach, inspect, list ──▶ veth_peer: which port is whose
//! ```

mod attach;
mod attachment;
mod behind_ports;
mod configure;
mod detach;
mod end;
mod inspect;
mod list;
mod pair;
mod veth_peer;

pub use attach::{AttachChanges, attach};
pub use attachment::Attachment;
pub use behind_ports::{BehindPort, addresses_behind_ports};
pub use detach::{DetachChanges, detach, remove_port_of, remove_unnoted_port};
pub use end::End;
pub use inspect::{ContainerInterface, inspect, routes_beside};
pub use list::{Endpoint, attached_ids, endpoints};
pub use pair::{VethPair, create_pair};
