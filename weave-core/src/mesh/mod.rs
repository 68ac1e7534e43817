//! The control plane: who the peers are, how they connect, what they gossip.

mod accept;
mod branches;
mod circles;
mod config;
mod connection;
mod connector;
mod credit;
mod engine;
mod error;
mod features;
pub mod gossip;
mod graph;
mod handshake;
mod header;
mod identity;
mod key_exchange;
mod message;
mod name_conflict;
mod notice;
mod output;
mod password;
mod peer;
mod peers;
mod random;
mod report;
mod routes;
mod session;
mod short_ids;
mod update;

pub use accept::Source;
pub use config::{Config, DEFAULT_CONNECTION_LIMIT, DEFAULT_PORT};
pub use engine::Mesh;
pub use error::{ConnectionError, TargetError};
pub use features::{Features, FeaturesError};
pub use graph::{Graph, View};
pub use handshake::{Established, Handshake, HandshakeError, HandshakeParams, Progress};
pub use header::{Header, HeaderError, Version};
pub use identity::{
    ConnectionId, ConnectionUid, PeerName, PeerNameError, SessionKey, ShortId, Uid,
};
pub use key_exchange::LowOrderKey;
pub use message::{Gossip, GossipMessageError, LegacyControl, Message, Unicast};
pub use name_conflict::{Claimant, NameConflict};
pub use notice::{Notice, Refusal, RefusalCause};
pub use output::{Control, Event, LinkRequest, Output};
pub use password::Password;
pub use peer::{Contents, Edition, Peer, PeerAddress, PeerConnection, RecordId};
pub use peers::{
    Applied, Collected, Effects, MAX_LINKS, MAX_PEERS, Peers, RegisterError, Registered,
};
pub use random::Random;
pub use report::{
    ConnectionReport, Counters, PeerConnectionReport, PeerReport, Report, TargetReport, TargetState,
};
pub use routes::Routes;
pub use session::{MAX_MESSAGE_LEN, Session, SessionError, TooLongToSend};
pub use short_ids::{ShortIdTable, ShortIds};
pub use update::{MAX_CONNECTIONS, UpdateError};
