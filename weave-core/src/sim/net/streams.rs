//! TCP between hosts.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::host::host_at;
use super::super::names::{HostId, Side, StreamId};
use super::super::quality::Quality;
use super::super::tcp::{End, Stream};
use super::{Happening, Net};
use crate::mesh::ConnectionId;

/// After this time TCP tries again what a cut path swallowed.
const RETRANSMISSION: Duration = Duration::from_millis(500);
/// After this time a host that does not read is offered its input again.
const OFFER_INTERVAL: Duration = Duration::from_millis(100);

impl Net {
    pub(super) fn dial(&mut self, from: HostId, id: ConnectionId, address: SocketAddr) {
        let now = self.now;
        let local = self.hosts[from.0].ephemeral_address();
        let to = host_at(address.ip()).filter(|to| to.0 < self.hosts.len());
        let Some(to) = to else {
            return self.schedule(Duration::from_millis(1), Happening::Refused(from, id));
        };
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        let mut dialler = End::new(from, local, now);
        dialler.id = Some(id);
        let listener = End::new(to, address, now);
        self.streams.insert(stream, Stream { dialler, listener });
        if let Some(running) = &mut self.hosts[from.0].running {
            running.streams.insert(id, (stream, Side::Dialler));
        }
        self.schedule(self.path(from, to).latency, Happening::Request(stream));
    }

    /// The host at the other end of a stream.
    pub(in crate::sim) fn other_end(&self, (id, side): (StreamId, Side)) -> Option<HostId> {
        self.streams.get(&id).map(|stream| stream.end(side.other()).host)
    }

    pub(super) fn handle_request(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = (stream.dialler.host, stream.listener.host);
        let path = self.path(from, to);
        if path.cut || !self.hosts[to.0].powered {
            return;
        }
        let listens = stream.listener.address.port() == self.hosts[to.0].address().port();
        if !listens || self.hosts[to.0].running.is_none() {
            if let Some(connection) = stream.dialler.id {
                self.streams.remove(&id);
                self.schedule(path.latency, Happening::Refused(from, connection));
            }
            return;
        }
        // The kernel answers; the router accepts when it may.
        self.schedule(path.latency, Happening::Up(id));
        self.schedule(Duration::ZERO, Happening::Accept(id));
    }

    pub(super) fn accept(&mut self, id: StreamId) {
        let Some(Stream { dialler, listener }) = self.streams.get_mut(&id) else { return };
        let host = &mut self.hosts[listener.host.0];
        let now = host.clock(self.now);
        let Some(running) = &mut host.running else { return };
        let allowed = running.router.accept_allowed_at(now);
        if allowed > now {
            let at = host.on_net_clock(allowed).max(self.now);
            return self.schedule_at(at, Happening::Accept(id));
        }
        let connection = running.router.handle_accepted(now, listener.address, dialler.address);
        listener.id = Some(connection);
        running.streams.insert(connection, (id, Side::Listener));
        let host = listener.host;
        self.settle(host);
    }

    /// Lets what fits into the window take off. Returns how much that was.
    pub(in crate::sim) fn take_off(&mut self, id: StreamId, side: Side) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        let hosts = (stream.dialler.host, stream.listener.host);
        let path = self.exceptions.get(&(hosts.0.min(hosts.1), hosts.0.max(hosts.1)));
        let path = path.copied().unwrap_or(self.quality);
        let end = stream.end_mut(side);
        let mut written = 0;
        let mut arrivals = Vec::new();
        while let Some(len) = end.take_off() {
            written += len;
            let departure = end.last_arrival.max(self.now + path.latency);
            end.last_arrival = departure + path.transmission(len);
            arrivals.push(end.last_arrival);
        }
        for at in arrivals {
            self.schedule_at(at, Happening::Chunk(id, side));
        }
        written
    }

    pub(super) fn deliver(&mut self, id: StreamId, from: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (sender, receiver) = (stream.end(from).host, stream.end(from.other()).host);
        let closed = stream.end(from.other()).closed;
        let accepted = stream.end(from.other()).id;
        let path = self.path(sender, receiver);
        let host = &self.hosts[receiver.0];
        if path.cut || !host.powered {
            return self.schedule(RETRANSMISSION, Happening::Chunk(id, from));
        }
        if closed {
            return self.schedule(path.latency, Happening::Reset(id, from));
        }
        let reads = |id: &ConnectionId| {
            let running = host.running.as_ref();
            host.reading && !running.is_some_and(|running| running.router.mesh().is_behind(*id))
        };
        let Some(connection) = accepted.filter(reads) else {
            return self.schedule(OFFER_INTERVAL, Happening::Chunk(id, from));
        };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(bytes) = stream.end_mut(from).land() else { return };
        let sender_id = stream.end(from).id;
        let bytes = match &mut self.hosts[receiver.0].tap {
            Some(tap) => tap.incoming(connection, bytes),
            None => bytes,
        };
        self.tell(receiver, Some(connection), |router, now, id| {
            router.handle_bytes(now, id, &bytes);
        });
        let written = self.take_off(id, from);
        if written > 0 {
            self.tell(sender, sender_id, |router, now, id| {
                router.handle_written(now, id, written);
            });
        }
    }

    /// One side is done with a connection; the other hears of it, unless the path is cut.
    pub(super) fn close(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end_mut(side).close();
        let latency = self.stream_path(id).latency;
        self.schedule(latency, Happening::Reset(id, side.other()));
    }

    pub(super) fn handle_reset(&mut self, id: StreamId, side: Side) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.end(side).closed {
            if stream.end(side.other()).closed {
                self.streams.remove(&id);
            }
            return;
        }
        let host = stream.end(side).host;
        if self.stream_path(id).cut {
            // A reset that is lost is not repeated: whoever sends next will find out.
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.end_mut(side).close();
        let connection = stream.end(side).id;
        if let Some(running) = &mut self.hosts[host.0].running
            && let Some(connection) = connection
        {
            running.streams.remove(&connection);
        }
        self.tell(host, connection, |router, now, id| {
            router.handle_closed(now, id, "connection reset by peer".to_owned());
        });
    }

    fn stream_path(&self, id: StreamId) -> Quality {
        self.streams
            .get(&id)
            .map_or(self.quality, |stream| self.path(stream.dialler.host, stream.listener.host))
    }
}
