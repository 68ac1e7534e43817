//! The state of things as plain data.

use super::Mesh;
use crate::mesh::report::{ConnectionReport, PeerConnectionReport, PeerReport, Report};
use crate::mesh::{Header, Peer};

impl Mesh {
    pub(super) fn make_report(&self) -> Report {
        let own = self.peers.own();
        Report {
            name: own.name,
            nickname: own.nickname.clone(),
            uid: own.uid,
            short_id: self.short_id(),
            port: self.config.port,
            encrypted: self.config.password.is_some(),
            discovery: self.config.discovery,
            protocol_versions: (Header::OWN.lowest, Header::OWN.highest),
            peers: self.peers_report(),
            unicast_routes: self.routes.unicast_table().collect(),
            broadcast_routes: self
                .routes
                .broadcast_table()
                .map(|(source, hops)| (source, hops.to_vec()))
                .collect(),
            connections: self.connections_report(),
            targets: self.connector.report().collect(),
            direct_peers: self.connector.direct_peers().map(str::to_owned).collect(),
            name_conflicts: self.name_conflicts.recent(self.now).cloned().collect(),
            trusted_subnets: self.config.trusted_subnets.clone(),
            counters: self.counters,
        }
    }

    fn peers_report(&self) -> Vec<PeerReport> {
        let nicknames = self.nicknames();
        let connections = |peer: &Peer| {
            let connections = peer.connections.iter().map(|connection| PeerConnectionReport {
                name: connection.remote,
                nickname: nicknames.get(&connection.remote).copied().unwrap_or_default().to_owned(),
                address: connection.address.to_string(),
                outbound: connection.outbound,
                established: connection.established,
            });
            connections.collect()
        };
        let report = |peer: &Peer| PeerReport {
            name: peer.name,
            nickname: peer.nickname.clone(),
            uid: peer.uid,
            short_id: peer.short_id,
            version: peer.version,
            connections: connections(peer),
        };
        self.peers.iter().map(report).collect()
    }

    fn connections_report(&self) -> Vec<ConnectionReport> {
        let registered = self.connections.iter().filter_map(|(id, connection)| {
            let peered = connection.registered()?;
            Some(ConnectionReport {
                id: *id,
                peer: peered.peer,
                nickname: peered.nickname.clone(),
                address: connection.remote,
                outbound: connection.outbound,
                established: peered.is_established(),
                trusted: peered.trusted,
                version: peered.version,
                unsent: connection.unsent(),
                round_trip: None,
                since: peered.since,
            })
        });
        registered.collect()
    }
}
