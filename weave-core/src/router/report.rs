//! The state of a router as plain data.

use std::collections::BTreeMap;

use crate::mesh::{self, ConnectionId, PeerName};
use crate::switch::{MacEntry, MemberReport, SwitchReport};

/// A snapshot of one [`Router`](super::Router).
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The control plane.
    pub mesh: mesh::Report,
    /// The transports of each connection in [`mesh::Report::connections`], and of those about to
    /// be registered.
    pub links: BTreeMap<ConnectionId, LinkReport>,
    /// What the data threads count.
    pub switch: SwitchReport,
    /// The stations known, by address.
    pub stations: Vec<MacEntry>,
}

/// The transports of one connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkReport {
    /// The neighbour.
    pub peer: PeerName,
    /// Whether there is a key to seal frames with.
    pub encrypted: bool,
    /// The transport in use; none once all of them failed.
    pub in_use: Option<&'static str>,
    /// All of them in order of preference.
    pub overlays: Vec<MemberReport>,
}
