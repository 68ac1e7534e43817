//! The control plane: who the peers are, how they connect, what they gossip.

mod identity;

pub use identity::{
    ConnectionId, ConnectionUid, PeerName, PeerNameError, SessionKey, ShortId, Uid,
};
