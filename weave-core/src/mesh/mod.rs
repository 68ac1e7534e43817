//! The control plane: who the peers are, how they connect, what they gossip.

mod accept;
mod config;
mod engine;
mod error;
pub mod gossip;
mod graph;
mod identity;
mod output;
mod password;
mod random;
mod report;
mod routes;
mod subnet;

pub use config::{Config, DEFAULT_CONNECTION_LIMIT, DEFAULT_PORT};
pub use engine::Mesh;
pub use error::{ConnectionError, TargetError};
pub use graph::{Graph, View};
pub use identity::{
    ConnectionId, ConnectionUid, PeerName, PeerNameError, SessionKey, ShortId, Uid,
};
pub use output::{Control, Event, LinkRequest, Output};
pub use password::Password;
pub use random::Random;
pub use report::{
    ConnectionReport, Counters, PeerConnectionReport, PeerReport, Report, TargetReport, TargetState,
};
pub use routes::Routes;
pub use subnet::{Subnet, SubnetError};
