//! Something between a router and its network that changes what is said: this is how members of a
//! mesh that do not keep to the rules are simulated, and those without our extensions.
//!
//! ```text
//!   Router ──▶ Tap ──▶ stream      also: Net::inject, what the router never said
//!   Router ◀── Tap ◀── stream
//! ```

use bytes::Bytes;

use super::names::HostId;
use super::net::Net;
use crate::mesh::{ConnectionId, PeerName};

/// A tap on all connections of one host.
pub trait Tap: Send {
    /// The router has been started again: connections are counted from the beginning.
    fn restarted(&mut self) {}

    /// The router says this: what is said in its place.
    fn outgoing(&mut self, id: ConnectionId, bytes: Bytes) -> Vec<Bytes>;

    /// This arrives: what the router hears in its place.
    fn incoming(&mut self, id: ConnectionId, bytes: Bytes) -> Bytes;

    /// The router sends a frame to a neighbour: the frames that are sent in its place.
    fn frame(&mut self, frame: TappedFrame) -> Vec<TappedFrame> {
        vec![frame]
    }
}

/// A frame on its way to a neighbour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TappedFrame {
    /// The peer that is said to have captured it.
    pub source: PeerName,
    /// The peer that is to inject it.
    pub destination: PeerName,
    /// How often it is said to have been relayed. Not carried by routers of Weave Net: 0.
    pub relays: u8,
    /// The frame itself.
    pub bytes: Vec<u8>,
}

impl Net {
    /// From now on the router of a host is heard through a tap.
    pub fn set_tap(&mut self, host: HostId, tap: Box<dyn Tap>) {
        self.hosts[host.0].tap = Some(tap);
    }

    /// Connections of a host's router, and the hosts at their other ends.
    pub fn connections(&self, host: HostId) -> Vec<(ConnectionId, HostId)> {
        let Some(running) = &self.hosts[host.0].running else { return Vec::new() };
        let connections = running.streams.iter();
        connections.filter_map(|(id, end)| Some((*id, self.other_end(*end)?))).collect()
    }

    /// Puts bytes on a connection that the router of the host has not said. Returns whether that
    /// connection is there, and takes so much.
    pub fn inject(&mut self, host: HostId, id: ConnectionId, bytes: Bytes) -> bool {
        /// What waits in front of a peer that reads slowly.
        const MAX_WAITING: usize = 4 << 20;
        let running = self.hosts[host.0].running.as_ref();
        let end = running.and_then(|running| running.streams.get(&id).copied());
        let Some((stream, side)) = end else { return false };
        let Some(entry) = self.streams.get_mut(&stream) else { return false };
        let end = entry.end_mut(side);
        if end.closed || end.waiting_bytes() > MAX_WAITING {
            return false;
        }
        end.write(bytes);
        self.take_off(stream, side);
        true
    }

    /// Sends a frame over the link to a neighbour. Returns whether there is one.
    pub fn inject_frame(&mut self, host: HostId, to: PeerName, frame: TappedFrame) -> bool {
        let Some(running) = &self.hosts[host.0].running else { return false };
        let sent = running.overlay.send_frame(to, frame);
        self.settle(host);
        sent
    }

    /// Frames that the router of a host has sent to its neighbours, since it was added.
    pub fn frames_sent(&self, host: HostId) -> u64 {
        self.hosts[host.0].frames_sent
    }
}
