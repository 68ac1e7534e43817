//! Gossip: conversations of the whole mesh, carried from neighbour to neighbour.

pub(crate) mod channel;
pub(crate) mod hops;
pub(crate) mod sender;
pub(crate) mod surrogate;
pub(crate) mod sync;

pub use channel::{Channel, Data, GossipError, Outbox};

/// The channel of the topology itself.
pub(crate) const TOPOLOGY: &str = "topology";
