//! Events as log lines, in the shapes that people search for (spec cli-http.md, section 9).

mod quota;
mod repeats;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::mesh::{self, ConnectionError, PeerName, Source};
use crate::router::Event;
use crate::time::Instant;
use quota::{LeftOut, Quota};
use repeats::Repeats;

/// Failed handshakes of one source are told once in this time, and then summed up.
const INTERVAL: Duration = Duration::from_secs(60);
/// Sources that are told apart; what all others do is summed up as one.
const MAX_SOURCES: usize = 64;

/// Writes events, and sums up those that anybody can bring about.
#[derive(Debug, Default)]
pub(super) struct Log {
    failures: BTreeMap<(Option<Source>, Severity), Failures>,
    /// Of connections that others opened.
    quota: Quota,
    repeats: Repeats,
}

/// What an operator makes of a failed handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Severity {
    /// Something that is no router, or no neighbour.
    Noise,
    /// Two routers with different passwords.
    Password,
}

/// Failed handshakes of one source since one was told.
#[derive(Debug)]
struct Failures {
    told_at: Instant,
    untold: u64,
    /// The last of them.
    address: SocketAddr,
    error: String,
}

impl Log {
    pub(super) fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Mesh(mesh::Event::ConnectionEnded { peer: None, address, error, .. })
                if !matches!(error, ConnectionError::Dial(_)) =>
            {
                self.handshake_failed(now, *address, error);
            }
            event if self.admits(now, event) => tell(event),
            _ => {}
        }
    }

    /// Whether an event is told, though a host that opens and closes connections all the time can
    /// bring about many.
    fn admits(&mut self, now: Instant, event: &Event) -> bool {
        match event {
            Event::Mesh(
                mesh::Event::ConnectionAdded { address, outbound: false, .. }
                | mesh::Event::ConnectionEnded { address, outbound: false, .. },
            ) => self.quota.admits(now, Source::of(address.ip())),
            event => self.repeats.admit(now, event),
        }
    }

    /// When [`Self::handle_timeout`] is wanted next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let untold = self.failures.values().filter(|failures| failures.untold > 0);
        let untold = untold.map(|failures| failures.told_at + INTERVAL);
        untold.chain(self.quota.poll_timeout()).chain(self.repeats.poll_timeout()).min()
    }

    /// Sums up what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for line in self.repeats.sum_up(now) {
            tracing::info!("{line}");
        }
        for LeftOut { source, events } in self.quota.take_left_out(now) {
            let whose = source.map_or_else(|| "many addresses".to_owned(), |s| s.to_string());
            tracing::warn!("{events} more connections with {whose} were added or ended, not told");
        }
        for ((source, severity), failures) in &mut self.failures {
            let Failures { told_at, untold, address, error } = failures;
            if *untold == 0 || now < *told_at + INTERVAL {
                continue;
            }
            let seconds = now.saturating_since(*told_at).as_secs();
            let whose = if source.is_some() { "this address" } else { "many addresses" };
            severity.write(format_args!(
                "->[{address}] {untold} more handshakes with {whose} failed in {seconds} s, the last: {error}"
            ));
            (*told_at, *untold) = (now, 0);
        }
    }

    fn handshake_failed(&mut self, now: Instant, address: SocketAddr, error: &ConnectionError) {
        let severity = match error {
            ConnectionError::Handshake(error) if error.is_about_passwords() => Severity::Password,
            _ => Severity::Noise,
        };
        let is_over = |failures: &Failures| {
            failures.untold == 0 && now.saturating_since(failures.told_at) >= INTERVAL
        };
        let mut key = (Some(Source::of(address.ip())), severity);
        if self.failures.len() >= MAX_SOURCES && !self.failures.contains_key(&key) {
            self.failures.retain(|_, failures| !is_over(failures));
            if self.failures.len() >= MAX_SOURCES {
                key.0 = None;
            }
        }
        if let Some(failures) = self.failures.get_mut(&key).filter(|failures| !is_over(failures)) {
            failures.untold += 1;
            failures.address = address;
            failures.error = error.to_string();
            return;
        }
        let error = error.to_string();
        severity.write(format_args!(
            "->[{address}] connection shutting down due to error during handshake: {error}"
        ));
        self.failures.insert(key, Failures { told_at: now, untold: 0, address, error });
    }
}

impl Severity {
    fn write(self, line: fmt::Arguments<'_>) {
        match self {
            Self::Noise => tracing::info!("{line}"),
            Self::Password => tracing::warn!("{line}"),
        }
    }
}

fn tell(event: &Event) {
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
        Event::StationsDisputed { count, mac, from, to } => {
            tracing::info!(
                count,
                "MAC addresses that were silent where they are known are claimed elsewhere, {mac} of \
                 {from} for one by {to}: frames for them go to all peers until they answer"
            );
        }
        Event::StationConflicts { count, mac, known } => {
            tracing::warn!(
                count,
                "Captured frames from MACs associated with other peers, {mac} for one with {known}: \
                 an address is used twice, or the bridge sends back what it is given"
            );
        }
        Event::StationsContested { count, mac, known, from } => {
            tracing::warn!(
                count,
                peer = %from,
                "frames dropped that came from {from} and whose source is elsewhere, {mac} for one \
                 is with {known}: an address is used twice, or a container there makes up frames"
            );
        }
    }
}

fn mesh_event(event: &mesh::Event) {
    use mesh::Event;
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
        // Failed handshakes, which are summed up.
        Event::ConnectionEnded { peer: None, .. } => {}
        Event::ResolveFailed { target, error } => {
            tracing::warn!("->[{target}] error during connection attempt: {error}");
        }
        Event::NameCollision(conflict) => tracing::warn!(peer = %conflict.name, "{conflict}"),
        Event::DuplicateSelf { name, nickname, uid } => tracing::warn!(
            peer = %name,
            "name collision: a router that this one has no connection to says that it is {name}, \
             too: {} (UID {}); each takes frames of the other one; give one of the two machines \
             another peer name (--name)",
            Named(*name, nickname),
            uid.0,
        ),
        Event::GossipDropped { peer, nickname, channel, source, reason, count } => {
            let remote = Named(*peer, nickname);
            let made_by = source.map_or(String::new(), |source| format!(", made by {source},"));
            tracing::warn!(
                %peer,
                "->[{remote}]: dropped {count} messages that it passed on; the last, on channel \
                 {channel:?}{made_by} was refused: {reason}"
            );
        }
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
    use crate::mesh::HandshakeError;

    fn failed(log: &mut Log, seconds: u64, host: u8, error: HandshakeError) {
        let now = Instant::since_origin(Duration::from_secs(seconds));
        let address = SocketAddr::from(([192, 0, 2, host], 4711));
        log.handshake_failed(now, address, &ConnectionError::Handshake(error));
    }

    #[test]
    fn failures_of_one_source_are_one_line_a_minute_whatever_it_does() {
        let mut log = Log::default();
        for second in 0..59 {
            failed(&mut log, second, 1, HandshakeError::EncryptionFlag(7));
        }
        let untold = |log: &Log| log.failures.values().map(|f| f.untold).collect::<Vec<_>>();
        assert_eq!(untold(&log), [58]);
        failed(&mut log, 59, 1, HandshakeError::WrongPassword);
        assert_eq!(untold(&log), [58, 0], "what needs somebody to look is told all the same");
        let due = log.poll_timeout().unwrap();
        assert_eq!(due, Instant::since_origin(INTERVAL));
        log.handle_timeout(due);
        assert_eq!(untold(&log), [0, 0]);
        assert_eq!(log.poll_timeout(), None);
    }

    #[test]
    fn many_sources_take_bounded_memory_and_lines() {
        let mut log = Log::default();
        for host in 0..=255 {
            failed(&mut log, 1, host, HandshakeError::EncryptionFlag(7));
        }
        assert_eq!(log.failures.len(), MAX_SOURCES + 1);
        assert_eq!(log.failures[&(None, Severity::Noise)].untold, 256 - 64 - 1);
    }

    #[test]
    fn nicknames_cannot_forge_lines() {
        let peer = PeerName::from_bytes([2, 0, 0, 0, 0, 1]);
        let shown = Named(peer, "höst\nINFO: all is well\u{1b}[2J").to_string();
        assert_eq!(shown, "02:00:00:00:00:01(höst\\nINFO: all is well\\u{1b}[2J)");
    }
}
