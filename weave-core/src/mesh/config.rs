//! What a router is told at its start.

use std::collections::BTreeMap;

use super::{Password, PeerName, ShortId, Uid};
use crate::Cidr;

/// The port of the original for TCP and for the UDP encapsulation.
pub const DEFAULT_PORT: u16 = 6783;

/// Connections a router keeps unless told otherwise.
pub const DEFAULT_CONNECTION_LIMIT: usize = 200;

/// The settings of a [`Mesh`](super::Mesh).
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this peer. Two routers with one name cannot be in one mesh.
    pub name: PeerName,
    /// What people call this peer, by default the host name. Need not be unique.
    pub nickname: String,
    /// This incarnation: random, never zero, new at each start.
    pub uid: Uid,
    /// The identifier in tunnel ids; a random one if none is given. It changes by itself when
    /// a peer with a lower name claims the same.
    pub short_id: Option<ShortId>,
    /// If set, TCP is encrypted and only peers with the same password can connect.
    pub password: Option<Password>,
    /// The own TCP port, which other peers are assumed to listen on as well where nothing else
    /// is known. Default 6783.
    pub port: u16,
    /// Connections beyond this number are refused; `None` for no limit. Default 200.
    pub connection_limit: Option<usize>,
    /// Whether to connect to peers of peers by itself. Default true.
    pub discovery: bool,
    /// Where both ends find the other one in their lists, the overlay runs unencrypted although
    /// there is a password. TCP is encrypted all the same.
    pub trusted_subnets: Vec<Cidr>,
    /// Names of the transports in order of preference.
    pub overlays: Vec<String>,
    /// Further keys of the handshake's feature map, by which a transport or an embedder
    /// announces what it can do. Peers ignore keys they do not know.
    pub extra_features: BTreeMap<String, String>,
}

impl Config {
    /// The defaults for a peer of this name and incarnation; its nickname is the name.
    pub fn new(name: PeerName, uid: Uid) -> Self {
        Self {
            name,
            nickname: name.to_string(),
            uid,
            short_id: None,
            password: None,
            port: DEFAULT_PORT,
            connection_limit: Some(DEFAULT_CONNECTION_LIMIT),
            discovery: true,
            trusted_subnets: Vec::new(),
            overlays: Vec::new(),
            extra_features: BTreeMap::new(),
        }
    }
}
