//! Events as log lines, in the shapes that people search for (spec cli-http.md, section 9).

use std::fmt::{self, Write};

use crate::mesh::{self, PeerName};
use crate::router::Event;

pub(super) fn event(event: &Event) {
    match event {
        Event::Mesh(event) => mesh_event(event),
        Event::OverlayInUse { peer, nickname, from, to, reason, .. } => {
            let before = from.unwrap_or("none");
            tracing::info!(
                %peer,
                "overlay_switch ->[{}] using {to} (before: {before}; {reason})",
                Named(*peer, nickname)
            );
        }
        Event::OverlayLost { peer, nickname, name, reason, .. } => {
            let remote = Named(*peer, nickname);
            tracing::info!(%peer, "overlay_switch ->[{remote}] {name} {reason}");
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
        Event::ConnectionAdded { peer, nickname, address, version, .. } => {
            let remote = Named(*peer, nickname);
            tracing::info!(
                %peer,
                "->[{address}|{remote}]: connection ready; using protocol version {version}"
            );
            tracing::info!(%peer, "->[{address}|{remote}]: connection added");
        }
        Event::ConnectionEstablished { peer, nickname, address, .. } => {
            let remote = Named(*peer, nickname);
            tracing::info!(%peer, "->[{address}|{remote}]: connection fully established");
        }
        Event::ConnectionEnded {
            peer: Some(peer),
            nickname,
            address,
            error: ConnectionError::Refused(refusal),
            ..
        } => {
            let remote = Named(*peer, nickname);
            tracing::warn!(%peer, "->[{address}|{remote}]: refused by the peer: {refusal}");
        }
        Event::ConnectionEnded { peer: Some(peer), nickname, address, error, .. } => {
            let remote = Named(*peer, nickname);
            tracing::info!(
                %peer,
                "->[{address}|{remote}]: connection shutting down due to error: {error}"
            );
            tracing::info!(%peer, "->[{address}|{remote}]: connection deleted");
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
        Event::NameCollision(clash) => tracing::warn!(peer = %clash.name, "{clash}"),
        Event::PeerRemoved { peer, nickname } => {
            tracing::info!(%peer, "Removed unreachable peer {}", Named(*peer, nickname));
        }
        Event::ShortIdReassigned { short_id } => {
            tracing::info!("short id is {} now: the former one was taken", short_id.get());
        }
    }
}

/// A peer the way log lines show it, `name(nickname)`. A nickname comes from outside, so what is
/// not printable in it is escaped: it could forge lines.
struct Named<'a>(PeerName, &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.0)?;
        for character in self.1.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        f.write_char(')')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicknames_cannot_forge_lines() {
        let peer = PeerName::from_bytes([2, 0, 0, 0, 0, 1]);
        let shown = Named(peer, "höst\nINFO: all is well\u{1b}[2J").to_string();
        assert_eq!(shown, "02:00:00:00:00:01(höst\\nINFO: all is well\\u{1b}[2J)");
    }
}
