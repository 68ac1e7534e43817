//! Gossip: conversations of the whole mesh, carried from neighbour to neighbour.

pub(crate) mod channel;

pub use channel::{Channel, Data, GossipError, Outbox};
