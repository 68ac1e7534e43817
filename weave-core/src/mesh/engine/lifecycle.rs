//! Connections come and go (spec mesh.md, section 7).

use std::net::SocketAddr;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::duplicate::Verdict;
use super::{Mesh, TcpSide};
use crate::mesh::accept::Source;
use crate::mesh::connection::{Connection, Early, HEARTBEAT, Peered, Phase, READ_TIMEOUT, Stage};
use crate::mesh::error::ConnectionError;
use crate::mesh::gossip::sender::Buckets;
use crate::mesh::gossip::{hops, sync};
use crate::mesh::name_conflict::{Claimant, NameConflict};
use crate::mesh::notice;
use crate::mesh::output::{Event, LinkRequest, Output};
use crate::mesh::{
    ConnectionId, Established, Features, Handshake, HandshakeParams, PeerConnection, PeerName,
    Progress, Uid,
};

impl Mesh {
    pub(super) fn insert(&mut self, id: ConnectionId, mut connection: Connection) {
        self.deadlines.arm(id, &mut connection);
        self.connections.insert(id, connection);
    }

    pub(super) fn accept(&mut self, id: ConnectionId, local: SocketAddr, remote: SocketAddr) {
        self.make_room(Source::of(remote.ip()));
        self.shake_hands(id, local, remote, false);
    }

    pub(super) fn dialled(&mut self, id: ConnectionId, local: SocketAddr, remote: SocketAddr) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if matches!(connection.phase, Phase::Dialling) {
            self.deadlines.disarm(id, connection);
            self.shake_hands(id, local, remote, true);
        }
    }

    fn shake_hands(
        &mut self,
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
        outbound: bool,
    ) {
        let trusted = self.config.trusted_subnets.iter().any(|net| net.contains(remote.ip()));
        let mut further = self.config.extra_features.clone();
        for (key, value) in [sync::FEATURE, notice::FEATURE, hops::FEATURE] {
            further.insert(key.to_owned(), value.to_owned());
        }
        let mut handshake = Handshake::new(HandshakeParams {
            outbound,
            password: self.config.password.clone(),
            secret: Zeroizing::new(self.random.block()),
            features: Features {
                name: self.config.name,
                nickname: self.config.nickname.clone(),
                uid: self.config.uid,
                connection_id: self.random.number(),
                short_id: Some(self.short_id()),
                trusted,
                overlays: Some(self.config.overlays.clone()),
                further,
            },
        });
        let first = handshake.poll_transmit();
        let connection = Connection::handshaking(self.now, local, remote, outbound, handshake);
        self.insert(id, connection);
        first.into_iter().for_each(|bytes| self.send(id, bytes));
    }

    /// What comes during the handshake.
    pub(super) fn continue_handshake(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Phase::Handshaking { handshake, past_header } = &mut connection.phase else { return };
        let progress = handshake.handle_bytes(bytes);
        let transmit = handshake.poll_transmit();
        if !*past_header && transmit.is_some() {
            // What we say after our own header answers the peer's.
            *past_header = true;
            connection.read_deadline = self.now + READ_TIMEOUT;
        }
        transmit.into_iter().for_each(|bytes| self.send(id, bytes));
        match progress {
            Ok(Progress::Pending) => {}
            Ok(Progress::Done(established)) => self.meet(id, *established),
            Err(error) => {
                self.counters.handshakes_failed += 1;
                let secret = error.is_about_passwords();
                self.counters.passwords_differed += u64::from(secret);
                let error = ConnectionError::Handshake(error);
                // The peer needs what we sent to find the same error.
                match self.connections.get_mut(&id).filter(|_| secret) {
                    Some(connection) => {
                        connection.part(self.now, error, None);
                        self.deadlines.arm(id, connection);
                    }
                    None => self.end(id, error, TcpSide::Open),
                }
            }
        }
    }

    /// The handshake is done: is this a peer we want, and can there be a link?
    fn meet(&mut self, id: ConnectionId, established: Established) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (address, outbound) = (connection.remote, connection.outbound);
        let remote = &established.remote;
        self.connector.identified(id, remote.name);
        if remote.name == self.config.name {
            let error = self.own_name_error(address, remote.uid);
            self.tell_collision(address, remote);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.part(self.now, error, None);
                self.deadlines.arm(id, connection);
            }
            return;
        }
        // "For outbound connections to a discovered address the peer must be known already."
        let accept_unknown = !outbound || self.connector.is_direct(id);
        let registered = match self.peers.register(remote, accept_unknown, &mut self.random) {
            Ok(registered) => registered,
            Err(error) => return self.end(id, ConnectionError::Register(error), TcpSide::Open),
        };
        self.have_effects(registered.effects);
        self.forget_peers(registered.removed);

        let session_key = established.overlay_key().cloned();
        let Established { session, version, remote, connection_uid, trusted, .. } = established;
        let remote_features = remote.to_map();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let announces = |(key, value)| remote.further.get(key).is_some_and(|text| text == value);
        let (digests, notices) = (announces(sync::FEATURE), announces(notice::FEATURE));
        let hops = announces(hops::FEATURE);
        connection.read_deadline = self.now + READ_TIMEOUT;
        connection.phase = Phase::Peered(Box::new(Peered {
            session,
            early: Early::default(),
            version: version.number(),
            peer: remote.name,
            nickname: remote.nickname,
            uid: remote.uid,
            connection_uid,
            trusted,
            switched: remote.overlays.is_some(),
            digests,
            notices,
            hops,
            restarted: registered.restarted,
            since: self.now,
            stage: Stage::Preparing,
            buckets: Buckets::default(),
            heartbeat_at: self.now + HEARTBEAT,
        }));
        let request = LinkRequest {
            id,
            own: self.config.name,
            remote: remote.name,
            connection_uid,
            outbound,
            local_address: connection.local,
            remote_address: connection.remote,
            session_key,
            overlays: remote.overlays,
            remote_features,
        };
        self.outputs.push_back(Output::Prepare(Box::new(request)));
    }

    fn own_name_error(&self, address: SocketAddr, theirs: Uid) -> ConnectionError {
        let (name, ours) = (self.config.name, self.config.uid);
        if theirs == ours {
            ConnectionError::ConnectedToSelf
        } else {
            ConnectionError::NameCollision { name, address, ours, theirs }
        }
    }

    fn tell_collision(&mut self, address: SocketAddr, remote: &Features) {
        if remote.uid == self.config.uid {
            return;
        }
        let nickname = self.config.nickname.clone();
        let kept = Claimant { nickname, uid: self.config.uid, address: None };
        let nickname = remote.nickname.clone();
        let refused = Claimant { nickname, uid: remote.uid, address: Some(address) };
        self.report_name_conflict(&NameConflict { name: remote.name, kept, refused });
    }

    /// The link is made: the connection enters the own record, unless another one to the same
    /// peer stays or there are too many.
    pub(super) fn register(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Some(peered) = connection.peered().filter(|p| p.stage == Stage::Preparing) else {
            return;
        };
        let peer = peered.peer;
        match self.settle_duplicate(id, peer) {
            Verdict::Registers => {}
            Verdict::Waits => return,
            Verdict::Goes(error) => return self.end(id, error, TcpSide::Open),
        }
        if let Some(limit) = self.config.connection_limit
            && self.by_peer.len() >= limit
        {
            return self.refuse(id, ConnectionError::Limit(limit));
        }
        if let Some(error) = self.beyond_share(id) {
            return self.refuse(id, error);
        }
        let known = self.routes.unicast(peer).is_some();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (address, outbound) = (connection.remote, connection.outbound);
        let Some(peered) = connection.peered_mut() else { return };
        peered.stage = Stage::Registered { established: false };
        peered.since = self.now;
        peered.heartbeat_at = self.now + HEARTBEAT;
        let (nickname, restarted) = (peered.nickname.clone(), peered.restarted);
        let version = peered.version;
        connection.read_deadline = self.now + READ_TIMEOUT;
        self.deadlines.arm(id, connection);

        self.by_peer.insert(peer, id);
        self.peers.add_connection(PeerConnection::new(peer, address, outbound));
        self.own_record_changed(Some(peer));
        if restarted || !known {
            self.send_complete_states(id);
        }
        self.connector.added(id, peer, address, outbound);
        self.deadlines.check_soon(self.now);
        self.outputs.push_back(Output::Confirm { id });
        self.event(Event::ConnectionAdded { id, peer, nickname, address, outbound, version });
        // What came while the link was being made.
        self.read_messages(id);
        self.count_partial(id);
    }

    /// Frames get through.
    pub(super) fn establish(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let address = connection.remote;
        let Some(peered) = connection.peered_mut() else { return };
        if peered.stage != (Stage::Registered { established: false }) {
            return;
        }
        peered.stage = Stage::Registered { established: true };
        let (peer, nickname) = (peered.peer, peered.nickname.clone());
        if self.peers.establish_connection(peer) {
            self.own_record_changed(None);
        }
        self.event(Event::ConnectionEstablished { id, peer, nickname, address });
    }

    /// A connection, or the attempt at one, is over.
    pub(super) fn end(&mut self, id: ConnectionId, error: ConnectionError, tcp: TcpSide) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        self.deadlines.disarm(id, &mut connection);
        self.ready.remove(&id);
        self.partial -= connection.partial;
        self.held -= connection.held;
        self.leave_behind(id, &mut connection);
        if tcp == TcpSide::Open {
            self.outputs.push_back(Output::Close { id });
        }
        let (mut peer, mut nickname) = (None, String::new());
        if let Some(peered) = connection.peered() {
            peer = Some(peered.peer);
            nickname.clone_from(&peered.nickname);
            self.outputs.push_back(Output::Stop { id });
            self.leave_duplicate(id, peered.peer);
            if peered.is_registered() {
                self.peers.release(peered.peer);
                self.by_peer.remove(&peered.peer);
                if self.peers.remove_connection(peered.peer) {
                    self.own_record_changed(None);
                }
                self.collect_garbage();
            } else {
                self.release_unregistered(peered.peer);
            }
        } else if let Phase::Parting(parting) = &connection.phase
            && let Some((name, called)) = &parting.peer
        {
            peer = Some(*name);
            nickname.clone_from(called);
        }
        if error != ConnectionError::ConnectedToSelf {
            self.counters.connections_ended += 1;
        }
        let next = self.connector.ended(self.now, id, &error, &mut self.random, &mut self.ids);
        let (address, outbound) = (connection.remote, connection.outbound);
        self.event(Event::ConnectionEnded { id, peer, nickname, address, outbound, error });
        next.into_iter().for_each(|action| self.act(action));
        self.deadlines.check_soon(self.now);
    }

    /// The peer at the other end of a connection that does not enter the own record.
    pub(super) fn release_unregistered(&mut self, peer: PeerName) {
        self.peers.release(peer);
        // Nobody may have heard of that peer but us, from itself.
        self.deadlines.collect_soon(self.now);
    }

    /// Hands bytes to the driver, and counts them until they are written.
    pub(super) fn send(&mut self, id: ConnectionId, bytes: Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.sending(self.now, bytes.len());
        if let Err(error) = connection.backlog() {
            self.doomed.push_back((id, error));
            return;
        }
        self.deadlines.arm(id, connection);
        self.outputs.push_back(Output::Send { id, bytes });
        self.count_held(id);
    }
}
