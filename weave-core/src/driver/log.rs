//! Events as log lines, in the shapes that people search for (spec cli-http.md, section 9).

use crate::mesh;
use crate::router::Event;

pub(super) fn event(event: &Event) {
    match event {
        Event::Mesh(event) => mesh_event(event),
        Event::OverlayInUse { peer, nickname, from, to, reason, .. } => {
            let before = from.unwrap_or("none");
            tracing::info!(
                %peer,
                "overlay_switch ->[{peer}({nickname})] using {to} (before: {before}; {reason})"
            );
        }
        Event::OverlayLost { peer, nickname, name, reason, .. } => {
            tracing::info!(%peer, "overlay_switch ->[{peer}({nickname})] {name} {reason}");
        }
        Event::StationsMoved { count, mac, from, to } => {
            tracing::info!(count, "MAC addresses moved, {mac} for one from {from} to {to}");
        }
        Event::StationConflicts { count, mac, known } => {
            tracing::warn!(
                count,
                "Captured frames from MACs associated with other peers, {mac} for one with {known}: \
                 an address is used twice, or the bridge sends back what it is given"
            );
        }
    }
}

fn mesh_event(event: &mesh::Event) {
    use mesh::{ConnectionError, Event};
    match event {
        Event::ConnectionAdded { peer, nickname, address, .. } => {
            tracing::info!(%peer, "->[{address}|{peer}({nickname})]: connection added");
        }
        Event::ConnectionEstablished { peer, nickname, address, .. } => {
            tracing::info!(%peer, "->[{address}|{peer}({nickname})]: connection fully established");
        }
        Event::ConnectionEnded { peer: Some(peer), address, error, .. } => {
            tracing::info!(
                %peer,
                "->[{address}|{peer}]: connection shutting down due to error: {error}"
            );
            tracing::info!(%peer, "->[{address}|{peer}]: connection deleted");
        }
        Event::ConnectionEnded {
            peer: None, address, error: ConnectionError::Dial(error), ..
        } => {
            tracing::info!("->[{address}] error during connection attempt: {error}");
        }
        Event::ConnectionEnded { peer: None, address, error, .. } => {
            tracing::info!(
                "->[{address}] connection shutting down due to error during handshake: {error}"
            );
        }
        Event::ResolveFailed { target, error } => {
            tracing::warn!("->[{target}] error during connection attempt: {error}");
        }
        Event::NameCollision { name, address, nickname, uid } => {
            tracing::error!(
                "->[{address}|{name}] name collision: {nickname} (incarnation {}) has the name of \
                 another peer; give one of the two machines another one with --name",
                uid.0
            );
        }
        Event::PeerRemoved { peer, nickname } => {
            tracing::info!(%peer, "Removed unreachable peer {peer}({nickname})");
        }
        Event::ShortIdReassigned { short_id } => {
            tracing::info!("short id is {} now: the former one was taken", short_id.get());
        }
    }
}
